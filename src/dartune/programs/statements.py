"""The top-level statements of a text in which code and prose are mixed, and the names that they bind and need."""

import ast
import builtins
import re
import symtable
import warnings
from collections.abc import Iterator
from functools import cached_property, lru_cache
from textwrap import dedent
from typing import NamedTuple

MAX_PARSED = 2_000_000  # characters given to the parser for one text, some of them again and again
CONTINUES = re.compile(r"(else|elif|except|finally|case)\b|[)\]}]")  # a line that cannot begin a statement
BEGINS_BLOCK = re.compile(r"\s*(@|(async +)?def\b|class\b)")
ALLOW_INCOMPLETE_INPUT = 0x4000  # PyCF_ALLOW_INCOMPLETE_INPUT of CPython; codeop uses it too
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # ValueError: null bytes
BUILTINS = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__"}
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


class Statement:
    """A statement at the top level of a module. text: its lines, decorators included."""

    def __init__(self, text: str, node: ast.stmt) -> None:
        self.text, self.node = text, node

    @cached_property
    def binds(self) -> frozenset[str]:
        """The names that it binds."""
        if isinstance(self.node, ast.AnnAssign) and self.node.value is None:  # "Complexity: O(n)"
            return frozenset()
        return frozenset(name for node in own_nodes(self.node) for name in bound(node))

    @cached_property
    def changes(self) -> frozenset[str]:
        """The names whose values it may change, as in TABLE[0] = 1 or TABLE.sort()."""
        return frozenset(name for node in own_nodes(self.node) for name in changed(node))

    @cached_property
    def needs(self) -> frozenset[str]:
        """The names of the module, or builtins, that it or the code inside it reads."""
        try:
            return frozenset(global_names(symtable.symtable(self.text, "<program>", "exec")))
        except UNPARSABLE:  # return outside of a function, and other errors that the parser does not see
            return frozenset(node.id for node in ast.walk(self.node) if isinstance(node, ast.Name))

    @cached_property
    def called(self) -> frozenset[str]:
        """The names that it reads as it runs; those inside a function that it defines are read later."""
        if not isinstance(self.node, SCOPES):
            return self.needs
        decorators = ast.walk(ast.Tuple(getattr(self.node, "decorator_list", [])))
        return frozenset(node.id for node in decorators if isinstance(node, ast.Name))

    @cached_property
    def disturbs(self) -> frozenset[str]:
        """The names of the module whose values the function that it defines may change when it is called."""
        if not isinstance(self.node, ast.FunctionDef):
            return frozenset()
        nodes = list(ast.walk(self.node))
        declared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
        return self.needs & (declared | {name for node in nodes for name in changed(node)})


class Failure(NamedTuple):
    """Lines that are no statement. reason: with line and column in the text. is_cut: they may lack their end."""

    text: str
    reason: str
    is_cut: bool


@lru_cache(maxsize=16)  # of the blocks of one answer, and of the template
def parse(text: str) -> ast.Module:
    """Return the syntax tree, which nobody changes. Raises one of UNPARSABLE."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def is_code(text: str) -> bool:
    """Return whether the text, which may be indented as a whole, is Python."""
    try:
        parse(dedent(text))
    except UNPARSABLE:
        return False
    return True


def read(text: str) -> tuple[list[Statement], list[Failure]]:
    """Return the statements of a text, and the lines that are none: prose, or code with a mistake."""
    text = dedent(text)
    try:
        return split(text, parse(text)), []
    except UNPARSABLE:
        return recover(text.split("\n"))


def split(text: str, tree: ast.Module) -> list[Statement]:
    """Return the statements of a syntax tree with their lines. Statements on one line are taken apart."""
    lines, statements = text.split("\n"), []
    spans = [(first_line(node), node.end_lineno or node.lineno) for node in tree.body]
    for (first, last), before, after, node in zip(
        spans, [(0, 0), *spans], [*spans[1:], (len(lines) + 1, 0)], tree.body, strict=False
    ):
        is_alone = before[1] < first and last < after[0]
        segment = "\n".join(lines[first - 1 : last]) if is_alone else ast.get_source_segment(text, node) or ""
        statements.append(Statement(segment, node))
    return statements


def first_line(node: ast.stmt) -> int:
    """Return the number of the first line of a statement, decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def recover(lines: list[str]) -> tuple[list[Statement], list[Failure]]:
    """Return the statements and the failures of a text that is not Python as a whole.

    A statement is a line with the lines that are indented further. While the parser says that something is missing at
    its end, the next lines are added: strings, brackets and decorators go beyond the indentation.
    """
    statements: list[Statement] = []
    failures: list[Failure] = []
    n_parsed, start = 0, 0
    while start < len(lines) and n_parsed < MAX_PARSED:
        if not lines[start].strip():
            start += 1
            continue
        failure = None
        end = first_end = chunk_end(lines, start, start + 1)
        while n_parsed < MAX_PARSED:
            text = dedent("\n".join(lines[start:end]))
            n_parsed += len(text)
            try:
                statements += split(text, parse(text))
                failure = None
                break
            except UNPARSABLE as error:
                failure = failure or failed(text, error, start)
                if end >= len(lines) or not is_incomplete(text):
                    break
                end = chunk_end(lines, start, end + 1)
        if failure:
            failures.append(failure._replace(is_cut=failure.is_cut and end >= len(lines)))
        start = end if not failure else first_end if BEGINS_BLOCK.match(lines[start]) else start + 1
    return statements, failures


def chunk_end(lines: list[str], start: int, end: int) -> int:
    """Return the first line from `end` on that is indented no further than line `start` and may begin a statement."""
    indentation = indent(lines[start])
    while end < len(lines):
        line = lines[end]
        if line.strip() and indent(line) <= indentation and not CONTINUES.match(line.lstrip()):
            break
        end += 1
    return end


def indent(line: str) -> int:
    """Return the width of the white space that a line begins with, in characters."""
    return len(line) - len(line.lstrip())


def is_incomplete(text: str) -> bool:
    """Return whether the parser misses an end: a bracket, a string, a block or what a decorator is for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(text, "<program>", "exec", ast.PyCF_ONLY_AST | ALLOW_INCOMPLETE_INPUT)
        except SyntaxError as error:
            return error.msg == "incomplete input"
        except UNPARSABLE:
            return False
    return False


def is_cut(text: str, error: SyntaxError) -> bool:
    """Return whether the text may lack its end: the parser misses one, or its very last word is the mistake."""
    lines = text.rstrip().split("\n")
    is_last = (error.lineno or 0) >= len(lines)
    at_end = (error.offset or 0) > len(lines[-1]) or "unterminated string" in error.msg
    return is_incomplete(text) or (is_last and at_end)


def failed(text: str, error: BaseException, start: int) -> Failure:
    """Return the failure of a chunk that begins in line `start`, counted from 0."""
    if not isinstance(error, SyntaxError):
        return Failure(text, str(error) or type(error).__name__, is_cut=False)
    reason = f"line {start + (error.lineno or 1)}, column {error.offset or 1}: {error.msg}"
    return Failure(text, reason, is_cut(text, error))


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a statement and all nodes in it, but not what is inside functions and classes."""
    yield node
    if not isinstance(node, SCOPES):
        for child in ast.iter_child_nodes(node):
            yield from own_nodes(child)


def bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node itself binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id


def changed(node: ast.AST) -> Iterator[str]:
    """Yield x for x[0] = 1, x.y = 1 and, as a statement, x.sort()."""
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
        yield from base_name(node)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        yield from base_name(node.value.func)


def base_name(node: ast.expr) -> Iterator[str]:
    """Yield x of x, x.y[0] and the like."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


def global_names(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the names that a scope, and those inside it, look up in the module."""
    is_module = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() if is_module else symbol.is_global():
            yield symbol.get_name()
    for child in table.get_children():
        yield from global_names(child)
