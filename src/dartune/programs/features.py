"""Traits of a program's text: fingerprints that are equal for programs alike, its length, and the family it is of."""

import ast
import hashlib
from collections.abc import Iterator
from typing import Any

from dartune.programs.canonical import MAX_LENGTH, parse

KINDS: dict[type[ast.AST], str] = {
    ast.For: "loop",
    ast.While: "loop",
    ast.If: "branch",
    ast.IfExp: "branch",
    ast.ListComp: "comprehension",
    ast.SetComp: "comprehension",
    ast.DictComp: "comprehension",
    ast.GeneratorExp: "comprehension",
    ast.Lambda: "lambda",
    ast.ClassDef: "class",
    ast.Try: "try",
}
CHOICES = {"where": "branch", "select": "branch", "argsort": "sort", "sorted": "sort", "sort": "sort"}


def traits(program: str | None, function: str) -> dict[str, Any]:
    """Columns of TRAITS (scoring.py): null where there is no program, or none that parses.

    text, tree, shape: 64-bit fingerprints of the text; of the syntax tree without comments, layout, docstrings and
    annotations, names replaced by numbers; and of that tree with constants replaced by their types. n_characters: of
    the text. family: what the program is built of, and which arguments its function reads.
    """
    if program is None:
        return dict.fromkeys(("text", "tree", "shape", "n_characters", "family"))
    unknown = dict.fromkeys(("tree", "shape", "family"))
    known: dict[str, Any] = {"text": text_fingerprint(program), "n_characters": len(program)}
    if len(program) > MAX_LENGTH:
        return known | unknown
    try:
        tree = without_annotations(parse(program))
        known["family"] = family(tree, function)
        known["tree"] = text_fingerprint(ast.dump(rename(tree)))
        return known | {"shape": text_fingerprint(ast.dump(without_constants(tree)))}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return known | unknown


def text_fingerprint(text: str) -> int:
    """Return 64 bits of a hash of the text without blanks at its ends."""
    return int.from_bytes(hashlib.sha256(text.strip().encode()).digest()[:8], "little")


def without_annotations(tree: ast.Module) -> ast.Module:
    """Remove type annotations, in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return tree


def rename(tree: ast.Module) -> ast.Module:
    """The tree with each name that it binds replaced by its number; builtins and attributes keep theirs."""
    modules = dict(imported(tree))
    names: dict[str, str] = {}
    bound = {name for node in ast.walk(tree) for name in binds(node)} - set(modules)
    for node in ast.walk(tree):
        for field in ("id", "arg", "name"):
            name = getattr(node, field, None)
            if name in bound and not isinstance(node, ast.keyword):
                setattr(node, field, names.setdefault(name, f"_{len(names)}"))
            elif name in modules and isinstance(node, ast.Name):
                node.id = modules[name]
        if isinstance(node, ast.alias):
            node.asname = None
    return tree


def binds(node: ast.AST) -> Iterator[str]:
    """Yield the name that a node binds, if any; imports apart."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.FunctionDef | ast.ClassDef) or (isinstance(node, ast.ExceptHandler) and node.name):
        yield str(node.name)


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(name in the program, what it stands for) of each import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name.split(".")[0], f"<{alias.name}>") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, f"<{node.module}.{alias.name}>") for alias in node.names)


def without_constants(tree: ast.Module) -> ast.Module:
    """Replace constants by the names of their types, in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = type(node.value).__name__
    return tree


def family(tree: ast.Module, function: str) -> str:
    """Such as "branch+loop of 0,2": kinds of constructs, and positions of the arguments that the function reads."""
    nodes = list(ast.walk(tree))
    words = {KINDS[type(node)] for node in nodes if type(node) in KINDS}
    called = {getattr(node, "attr", getattr(node, "id", "")) for node in nodes}
    words |= {CHOICES[name] for name in called & set(CHOICES)}
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    if len(functions) > 1:
        words.add("helper")
    named = [node for node in functions if node.name == function] or functions
    read = {node.id for node in ast.walk(named[-1]) if isinstance(node, ast.Name)} if named else set()
    places = [str(i) for i, arg in enumerate(named[-1].args.args) if arg.arg in read] if named else []
    return f"{'+'.join(sorted(words)) or 'expression'} of {','.join(places) or 'nothing'}"
