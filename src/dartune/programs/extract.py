"""Extracts the program from a completion, whatever text the model wrote around it.

Of the statements in the answer, those are the program that its function reaches by their names: example calls, plots
and prose are left out since nothing needs them, not because of their form.
"""

import ast
import re
import sys
from collections.abc import Iterable
from typing import NamedTuple

from dartune.programs import statements
from dartune.programs.blocks import Block, answer, blocks
from dartune.programs.statements import BUILTINS, Failure, Statement
from dartune.programs.verdict import Refused

IMPORTS = ast.Import | ast.ImportFrom
INSTALLED = sys.stdlib_module_names | {"numpy"}  # what programs may import
FUTURE = "from __future__ import annotations"


class Extracted(NamedTuple):
    """A program, as the text of a module that defines the task's function.

    how: "fenced" or "unfenced", what the definition's block was; "joined" with statements of other blocks; "version",
    "method" or "alias" where the function had another name: f_v2, a method of a class, the only one that fits.
    """

    program: str
    how: str


class Source(NamedTuple):
    """A block that was read."""

    block: Block
    statements: list[Statement]
    failures: list[Failure]

    def defines(self, function: str) -> bool:
        """Return whether a statement binds the name."""
        return any(function in statement.binds for statement in self.statements)


def extract(completion: str, function: str, n_arguments: int, template: str) -> Extracted:
    """Return the program in a completion, or in a module, with those imports of the template that it lacks.

    Raises Refused("no_program" or "syntax") with the reason.
    """
    if not completion.strip():
        raise Refused("no_program", "the completion is empty")
    text, is_version = latest_version(answer(completion), function)
    sources = [Source(block, *statements.read(block.text)) for block in blocks(text)]
    source = defining(sources, function, template)
    how = "version" if is_version else ""
    if source is None:
        check_failures(sources, function)
        source, how = renamed(sources, function, n_arguments)
    kept = reached(source.statements, {function, *harmless_imports(source.statements)})
    others = [other for one in sources if one is not source and not one.defines(function) for other in one.statements]
    joined = reached(others, unbound(kept))
    how = how or ("joined" if joined else "fenced" if source.block.is_fenced else "unfenced")
    return Extracted(module(joined + kept, function, template), how)


def latest_version(text: str, function: str) -> tuple[str, bool]:
    """Rename the last of function_v0, function_v1 ..., which FunSearch's prompts ask for; return whether there is one.

    The text stays as it is where the function is defined under its own name too.
    """
    versions = re.findall(rf"^[ \t]*def {function}_v(\d{{1,6}})\b", text, re.MULTILINE)
    if not versions or re.search(rf"^[ \t]*(def {function}\b|{function}[ \t]*=)", text, re.MULTILINE):
        return text, False
    return re.sub(rf"\b{function}_v{max(versions, key=int)}\b", function, text), True


def defining(sources: list[Source], function: str, template: str) -> Source | None:
    """Return the last block that defines the function: models correct and improve what they wrote.

    A copy of the template, and a definition without a body, count where there is nothing else.
    """
    found = [source for source in sources if source.defines(function)]
    given = form(statements.parse(template).body, function)
    own = [source for source in found if form([s.node for s in source.statements], function) not in (given, [])]
    return [*found[:1], *own][-1] if found else None


def form(nodes: list[ast.stmt], function: str) -> list[str]:
    """Return the definitions of the function as texts that do not depend on comments, layout and docstrings.

    Those that are all stubs are []. What is bound to the name otherwise, by a lambda for one, is a text too.
    """
    bodies = [node.body for node in nodes if isinstance(node, ast.FunctionDef) and node.name == function]
    if not bodies:
        return ["bound otherwise"]
    return [
        ast.dump(ast.Module([line for line in body if not is_text(line)], [])) for body in bodies if not is_stub(body)
    ]


def is_text(node: ast.stmt) -> bool:
    """Return whether a statement is a docstring or an ellipsis."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_stub(body: list[ast.stmt]) -> bool:
    """Return whether a function does nothing: its body is a docstring, pass, an ellipsis or NotImplementedError."""
    return all(
        is_text(node) or isinstance(node, ast.Pass) or "NotImplementedError" in ast.unparse(node) for node in body
    )


def check_failures(sources: list[Source], function: str) -> None:
    """Raise Refused where the function is there but cannot be parsed."""
    for source in reversed(sources):
        for failure in source.failures:
            if re.search(rf"\b(def|class) +{function}\b", failure.text):
                if failure.is_cut and not source.block.is_closed:
                    raise Refused("no_program", f"the answer ends inside {function}: {failure.reason}")
                raise Refused("syntax", failure.reason)


def renamed(sources: list[Source], function: str, n_arguments: int) -> tuple[Source, str]:
    """Return a block with one more statement that binds the function to a method of that name or to the one that fits.

    Raises Refused where there is none.
    """
    for name, suffix in ((function, f".{function}"), ("__call__", "")):
        for source in reversed(sources):
            for node in reversed([statement.node for statement in source.statements]):
                if isinstance(node, ast.ClassDef) and has_method(node, name):
                    return with_alias(source, f"{function} = {node.name}(){suffix}"), "method"
    for source in reversed(sources):
        names = fitting(source, n_arguments)
        if len(names) == 1:
            return with_alias(source, f"{function} = {names[0]}"), "alias"
    names = [node.name for source in sources for node in functions(source)]
    broken = [
        failure
        for source in sources
        for failure in source.failures
        if source.block.is_fenced or statements.BEGINS_BLOCK.match(failure.text)
    ]
    if broken and not names:
        raise Refused("syntax", broken[0].reason)
    if not any(source.statements for source in sources):
        raise Refused("no_program", "there is no code in it")
    raise Refused("no_program", f"no function {function}; there are {', '.join(names) or 'none'}")


def has_method(node: ast.ClassDef, name: str) -> bool:
    """Return whether a class has a method of this name that does something."""
    methods = [method for method in node.body if isinstance(method, ast.FunctionDef) and method.name == name]
    return any(not is_stub(method.body) for method in methods)


def fitting(source: Source, n_arguments: int) -> list[str]:
    """Return the functions that can be called with so many arguments, without those that another one of them needs."""
    found = [
        statement
        for statement in source.statements
        if isinstance(statement.node, ast.FunctionDef) and takes(statement.node.args, n_arguments)
    ]
    names = {name for statement in found for name in statement.binds}
    needed = {name for statement in found for name in statement.needs - statement.binds}
    return sorted(names - needed)


def takes(arguments: ast.arguments, n: int) -> bool:
    """Return whether a function can be called with n arguments by position."""
    n_all = len(arguments.posonlyargs) + len(arguments.args)
    return n_all - len(arguments.defaults) <= n <= n_all


def functions(source: Source) -> list[ast.FunctionDef]:
    """Return the functions that a block defines."""
    return [statement.node for statement in source.statements if isinstance(statement.node, ast.FunctionDef)]


def with_alias(source: Source, text: str) -> Source:
    """Return the block with a statement at its end."""
    alias = Statement(f"\n\n{text}", ast.parse(text).body[0])
    return source._replace(statements=[*source.statements, alias])


def reached(candidates: list[Statement], names: Iterable[str]) -> list[Statement]:
    """Return the statements that bind these names, and those that bind or change what these need, in their order."""
    wanted, kept, asked = set(names), set[int](), set(names)
    disturbed = {name: statement.disturbs for statement in candidates for name in statement.binds if statement.disturbs}
    while True:
        data = {name for i in kept if not isinstance(candidates[i].node, IMPORTS) for name in candidates[i].binds}
        new = set()
        for i, statement in enumerate(candidates):
            calls = statement.called & disturbed.keys() if not statement.needs & asked else ()
            changes = statement.changes.union(*(disturbed[name] for name in calls))
            if i not in kept and (statement.binds & wanted or changes & data) and not is_main(statement.node):
                new.add(i)
        if not new:
            return [candidates[i] for i in sorted(kept)]
        kept |= new
        wanted |= {name for i in new for name in candidates[i].needs}


def harmless_imports(candidates: list[Statement]) -> set[str]:
    """Return what imports bind that stay, needed or not: modules, which cannot fail, all names of one, the future."""
    nodes = [statement.node for statement in candidates if isinstance(statement.node, IMPORTS)]
    whole = [node for node in nodes if isinstance(node, ast.Import) or node.module == "__future__" or is_star(node)]
    return {name for node in whole if modules(node) <= INSTALLED for name in statements.bound(node)}


def is_star(node: ast.ImportFrom) -> bool:
    """Return whether an import is of all names."""
    return node.names[0].name == "*"


def modules(node: IMPORTS) -> set[str]:
    """Return the packages that a statement imports from."""
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    return {name.split(".")[0] for name in names}


def is_main(node: ast.stmt) -> bool:
    """Return whether a statement tests `__name__`."""
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def unbound(kept: list[Statement]) -> set[str]:
    """Return the names that these statements need and do not bind, builtins left out."""
    return {name for statement in kept for name in statement.needs}.difference(
        BUILTINS, *(statement.binds for statement in kept)
    )


def module(kept: list[Statement], function: str, template: str) -> str:
    """Return the text of the statements, after the imports that they lack: of the template, or made in a function.

    Raises Refused where an earlier version of the function is needed, in the answer or not, as FunSearch does.
    """
    missing = unbound(kept)
    needed = sorted({name for statement in kept for name in statement.needs})
    if version := next((name for name in needed if re.fullmatch(rf"{function}_v\d+", name)), None):
        raise Refused("no_program", f"it needs {version}, an earlier version")
    nested = [node for statement in kept for node in ast.walk(statement.node) if isinstance(node, IMPORTS)]
    lines = []
    for node in [*statements.parse(template).body, *nested]:
        names = set(statements.bound(node)) if isinstance(node, IMPORTS) else set()
        if names & missing:
            lines.append(ast.unparse(node))
            missing -= names
    future = [s for s in kept if isinstance(s.node, ast.ImportFrom) and s.node.module == "__future__"]
    text = "\n".join(without_unused_imports(statement) for statement in kept if statement not in future) + "\n"
    if future or missing & set(annotation_names(kept)):
        lines.insert(0, FUTURE)
    return "".join(f"{line}\n" for line in lines) + text


def annotation_names(kept: list[Statement]) -> set[str]:
    """Return the names in the annotations of functions, which may be unbound: they decide nothing."""
    nodes = [node for statement in kept for node in ast.walk(statement.node)]
    annotations = [node.returns for node in nodes if isinstance(node, ast.FunctionDef)]
    annotations += [node.annotation for node in nodes if isinstance(node, ast.arg)]
    return {
        name.id
        for annotation in annotations
        if annotation
        for name in ast.walk(annotation)
        if isinstance(name, ast.Name)
    }


def without_unused_imports(statement: Statement) -> str:
    """Return the text of a statement, with imports inside it that fail and are not used replaced by `pass`."""
    nodes = list(ast.walk(statement.node))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    lines, first = statement.text.split("\n"), statements.first_line(statement.node)
    at_once = set(statements.own_nodes(statement.node))  # as in try: import numba, except ImportError
    for node in nodes:
        if isinstance(node, IMPORTS) and node not in at_once and not used & set(statements.bound(node)):
            span = range(node.lineno - first, (node.end_lineno or node.lineno) - first + 1)
            is_alone = span.stop <= len(lines) and not any(";" in lines[i] for i in span)
            if is_alone and not modules(node) <= INSTALLED:
                indentation = lines[span.start][: statements.indent(lines[span.start])]
                lines[span.start : span.stop] = [f"{indentation}pass", *[""] * (len(span) - 1)]
    return "\n".join(lines)
