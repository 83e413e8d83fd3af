"""When two programs count as the same one, and which programs are run a second time."""

import ast
import re
import warnings

# Sources of randomness or time that the worker's fixed seeds do not control.
ENTROPY = re.compile(
    r"\b(time|datetime|secrets|urandom|uuid|SystemRandom|getrandom|id|perf_counter|monotonic|getpid|getppid|gc"
    r"|_?os|posix|getrusage|getloadavg|sysinfo|stat|hash|repr|getattr|__import__|ctypes)\b"
    r"|\b(default_rng|RandomState|Random|seed)\(\s*((\w+\s*=\s*)?None)?\s*\)|\bobject\("
)
# Ways for a program to read its own text: comments and layout then matter.
INTROSPECTION = re.compile(r"__doc__|__code__|lineno|_getframe|\b(inspect|traceback|linecache)\b")
MAX_LENGTH = 50_000  # characters; longer programs are refused, since some texts take Python seconds to parse
SAMPLED = 100  # one in 100 of all other programs also runs twice


def normal_form(program: str) -> str:
    """Return a text that is equal for programs that differ only in comments, layout and docstrings.

    The program itself where it cannot be parsed, is too long, or can read its own text.
    """
    if len(program) > MAX_LENGTH or INTROSPECTION.search(program):
        return program
    try:
        return ast.dump(parse(program))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: an integer too long to print
        return program


def parse(program: str) -> ast.Module:
    """Return the syntax tree without docstrings. Raises what ast.parse raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(program)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


def runs_twice(program: str, key: str) -> bool:
    """Return whether the program must run twice with equal decisions: if it may use chance or time, or is in a sample.

    key: hexadecimal hash of the normal form, which decides about the sample, so that reruns agree.
    """
    return bool(ENTROPY.search(program)) or int(key[:8], 16) % SAMPLED == 0
