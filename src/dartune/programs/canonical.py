"""Programs as text: when two are the same, and which are run a second time."""

import ast
import re
import warnings

# What brings chance or time into a program that the worker's fixed seeds do not reach.
ENTROPY = re.compile(
    r"\b(time|datetime|secrets|urandom|uuid|SystemRandom|getrandom|id|perf_counter|monotonic|getpid|getppid|gc"
    r"|times|getrusage|getloadavg|sysinfo|stat|hash|repr|getattr|__import__|ctypes)\b"
    r"|\b(default_rng|RandomState|Random|seed)\(\s*((\w+\s*=\s*)?None)?\s*\)|\bobject\("
)
# With what a program reads its own text: then layout and comments count.
INTROSPECTION = re.compile(r"__doc__|__code__|lineno|_getframe|\b(inspect|traceback|linecache)\b")
MAX_LENGTH = 50_000  # characters; a longer program is not judged: some texts take Python seconds to parse
SAMPLED = 100  # every 100th of the other programs too


def normal_form(program: str) -> str:
    """Text that is equal for programs with the same syntax tree: comments, layout and docstrings do not count."""
    if len(program) > MAX_LENGTH or INTROSPECTION.search(program):
        return program
    try:
        return ast.dump(parse(program))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # also integers too long to be written out
        return program


def parse(program: str) -> ast.Module:
    """The tree without docstrings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(program)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


def runs_twice(program: str, key: str) -> bool:
    """Whether a second run must agree with the first: where chance or time may play a part, and on a fixed sample.

    key: hexadecimal hash of the normal form, so that a program is always in the sample or never.
    """
    return bool(ENTROPY.search(program)) or int(key[:8], 16) % SAMPLED == 0
