"""Traits of a program's text: fingerprints that are equal for similar programs, length, and family."""

import ast
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from dartune.programs.canonical import MAX_LENGTH, parse

KINDS: dict[type[ast.AST], str] = {
    **dict.fromkeys((ast.For, ast.While), "loop"),
    **dict.fromkeys((ast.If, ast.IfExp), "branch"),
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), "comprehension"),
    ast.Lambda: "lambda",
    ast.ClassDef: "class",
    ast.Try: "try",
}
CHOICES = {"where": "branch", "select": "branch", "argsort": "sort", "sorted": "sort", "sort": "sort"}


def traits(program: str | None, function: str) -> dict[str, Any]:
    """Return the columns of TRAITS (referee/score.py), None without a program or where it does not parse.

    text: 64-bit fingerprint of the text. tree: of the syntax tree without comments, layout, docstrings and annotations,
    with names replaced by numbers. shape: of that tree with constants replaced by their types. n_characters: of the
    text. family: the constructs that the program uses, and which arguments its function reads.
    """
    columns: dict[str, Any] = dict.fromkeys(("text", "tree", "shape", "n_characters", "family"))
    if program is None:
        return columns
    columns |= {"text": text_fingerprint(program), "n_characters": len(program)}
    if len(program) <= MAX_LENGTH:
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            tree = without_annotations(parse(program))
            columns |= {  # in this order: each changes the tree in place
                "family": family(tree, function),
                "tree": text_fingerprint(ast.dump(rename(tree))),
                "shape": text_fingerprint(ast.dump(without_constants(tree))),
            }
    return columns


def text_fingerprint(text: str) -> int:
    """Return 64 bits of a hash of the text without leading and trailing white space."""
    return int.from_bytes(hashlib.sha256(text.strip().encode()).digest()[:8], "little")


def without_annotations(tree: ast.Module) -> ast.Module:
    """Remove type annotations in place; return the tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return tree


def rename(tree: ast.Module) -> ast.Module:
    """Replace each name that the program binds by its number, in place; return the tree.

    Builtins and attributes keep their names; aliases of imports become the names of what they import.
    """
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
    """Yield the name that a node other than an import binds, if any."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.FunctionDef | ast.ClassDef) or (isinstance(node, ast.ExceptHandler) and node.name):
        yield str(node.name)


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (name in the program, <dotted name of what it refers to>) of all imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name.split(".")[0], f"<{alias.name}>") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, f"<{node.module}.{alias.name}>") for alias in node.names)


def without_constants(tree: ast.Module) -> ast.Module:
    """Replace constants by the names of their types in place; return the tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = type(node.value).__name__
    return tree


def family(tree: ast.Module, function: str) -> str:
    """Return, say, "branch+loop of 0,2": kinds of constructs, and positions of arguments that the function reads."""
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
