"""Whether an answer that is being written has its program, so that it can end."""

import re

# A block between two lines of fences, the second without a language.
FENCED = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[^`\n]*\n(?P<text>.*?)^[ \t]*(?P=fence)[ \t]*$", re.DOTALL | re.MULTILINE
)


def has_program(answer: str, function: str) -> bool:
    """Return whether an answer has a whole fenced block that defines the function.

    As FunSearch's prompts ask for it, the definition may also have a version: f_v2. Which program an answer has is for
    the referee to say; this only says when to stop, and does not depend on how programs are read.
    """
    defines = re.compile(rf"^[ \t]*(def {function}(_v\d+)?\b|{function}[ \t]*=)", re.MULTILINE)
    return any(defines.search(block["text"]) for block in FENCED.finditer(answer))
