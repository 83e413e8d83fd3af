"""Extracts the program from a completion, whatever text the model wrote around it."""

import ast
import re
from collections.abc import Iterator
from textwrap import dedent

from dartune.programs.verdict import Refused

FENCE = re.compile(r"^[ \t]*```[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
CODE_LINE = re.compile(r"^[ \t]*(?:import |from \w|def |class |@|[A-Za-z_]\w* *=)", re.MULTILINE)


def extract(completion: str, function: str, n_arguments: int, template: str) -> str:
    """Return the program as the text of a module that defines `function`, with its imports, helpers and constants.

    Imports of the template that the program uses but lacks are added. Of the versions that FunSearch's prompts ask for
    (function_v0, function_v1, ...), the last becomes the function and the others are dropped. Raises
    Refused("no_program" or "syntax") with the reason.
    """
    completion = without_version(completion, function)
    refused = Refused("no_program", "the completion is empty" if not completion.strip() else "there is no code in it")
    for text in candidates(completion, function):
        try:
            lines, tree = parse(text, function)
            return with_imports(program(lines, tree, function, n_arguments), template)
        except Refused as error:
            refused = error
    raise refused


def without_version(completion: str, function: str) -> str:
    """Return the text with its latest version renamed to the function; unchanged where the function is defined too."""
    versions = re.findall(rf"^[ \t]*def {function}_v(\d{{1,6}})\b", completion, re.MULTILINE)
    if not versions or re.search(rf"^[ \t]*def {function}\b", completion, re.MULTILINE):
        return completion
    return re.sub(rf"\b{function}_v{max(versions, key=int)}\b", function, completion)


def candidates(completion: str, function: str) -> Iterator[str]:
    """Yield texts that may be the program: fenced blocks, those with the function first, then all blocks together.

    Without any block, everything from the first line of code on.
    """
    blocks = [match[1] for match in FENCE.finditer(completion)]
    if blocks:
        yield from sorted(blocks, key=lambda block: not re.search(rf"^[ \t]*def {function}\b", block, re.MULTILINE))
        if len(blocks) > 1:
            yield "\n".join(dedent(block) for block in blocks)
    elif start := CODE_LINE.search(completion):
        yield completion[start.start() :]


def parse(text: str, function: str) -> tuple[list[str], ast.Module]:
    """Return lines and syntax tree of the longest beginning of the text that parses: prose may follow a program.

    Raises Refused where none parses, or where the rest shows that the function itself is incomplete.
    """
    lines = dedent(text.replace("\t", "    ")).rstrip().splitlines()
    problem = "there is no code in it"
    for end in range(len(lines), 0, -1):
        try:
            tree = ast.parse("\n".join(lines[:end]))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            problem = f"{error}" if end == len(lines) else problem
            continue
        if tree.body:
            if is_cut(tree, lines, end, function):
                raise Refused("no_program", f"the answer ends inside {function}: {problem}")
            return lines[:end], tree
    raise Refused("syntax", problem)


def is_cut(tree: ast.Module, lines: list[str], end: int, function: str) -> bool:
    """Return whether the lines from `end` on continue the function, so that what parses is only part of it."""
    last = tree.body[-1]
    rest = next((line for line in lines[end:] if line.strip()), "")
    names = {node.name for node in ast.walk(last) if isinstance(node, ast.FunctionDef)}
    return function in names and rest[:1] in (" ", ")", "]", "}")


def program(lines: list[str], tree: ast.Module, function: str, n_arguments: int) -> str:
    """Return the module without example calls and earlier versions, and with `function` defined under that name.

    Where no function has the name, a method of that name or the only function with n_arguments arguments gets it.
    Raises Refused where there is none, or where an earlier version is used, as in FunSearch.
    """
    versions = re.compile(rf"\b{function}_v\d+\b")
    nodes = [node for node in tree.body if not is_example(node) and not versions.match(getattr(node, "name", ""))]
    text = "\n".join("\n".join(lines[first_line(node) - 1 : node.end_lineno]) for node in nodes) + "\n"
    if earlier := versions.search(text):
        raise Refused("no_program", f"it needs {earlier[0]}, an earlier version")
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    if any(node.name == function for node in functions):
        return text
    for node in nodes:
        if isinstance(node, ast.ClassDef) and any(getattr(method, "name", "") == function for method in node.body):
            return f"{text}\n\ndef {function}(*args):\n    return {node.name}().{function}(*args)\n"
    fitting = [node.name for node in functions if len(node.args.args) == n_arguments]
    if len(fitting) == 1:
        return f"{text}\n\n{function} = {fitting[0]}\n"
    raise Refused("no_program", f"no function {function}; there are {', '.join(n.name for n in functions) or 'none'}")


def first_line(node: ast.stmt) -> int:
    """Return the number of the first line of a statement, decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def is_example(node: ast.stmt) -> bool:
    """Return whether a statement is a bare expression, such as a call, or tests `__name__`."""
    return isinstance(node, ast.Expr) or (isinstance(node, ast.If) and "__name__" in ast.unparse(node.test))


def with_imports(text: str, template: str) -> str:
    """Return the program preceded by those imports of the template that it uses but lacks."""
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    present = {name for _, names in imports(text) for name in names}
    missing = [node for node, names in imports(template) if names & used and not names & present]
    return "".join(f"{ast.unparse(node)}\n" for node in missing) + text


def imports(text: str) -> list[tuple[ast.stmt, set[str]]]:
    """Return the import statements of a module text, each with the names that it binds."""
    return [
        (node, {alias.asname or alias.name.split(".")[0] for alias in node.names})
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
