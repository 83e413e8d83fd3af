"""The parts of a model's answer that may be code: fenced blocks, HTML code tags, or the answer as it stands."""

import html
import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from dartune.programs.statements import is_code
from dartune.programs.verdict import Refused

# The last fence of a line. What follows it may only be the name of a language, or prose after a closing fence.
FENCE = re.compile(r"^(?P<before>.*?)(?P<fence>`{3,}|~{3,})(?P<info>[^`~]*)$")
LIST_MARKER = re.compile(r"[ \t]*([-*+>]|\d+[.)])?[ \t]*$")
TAG = re.compile(r"<(code|python)\b[^>]*>(.*?)</\1>", re.DOTALL | re.IGNORECASE)
NAMES = "think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis"
REASONING = re.compile(rf"^\s*[<\[]({NAMES})[>\]](.*?[<\[]/\1[>\]])?", re.DOTALL | re.MULTILINE | re.IGNORECASE)
END_OF_REASONING = re.compile(rf"[<\[]/({NAMES})[>\]]|<\|channel\|>final<\|message\|>", re.IGNORECASE)
DEFINES = re.compile(r"\b(def|class|lambda)\b")  # a text without is no program
MAX_ENDS = 12  # fences after an opening one that are tried as its end


class Block(NamedTuple):
    """A part of an answer. is_fenced: something marked it as code. is_closed: it ended before the answer did."""

    text: str
    is_fenced: bool
    is_closed: bool


class Fence(NamedTuple):
    """A line with a fence: its number, the text before the fence, the fence, and the text after it."""

    line: int
    before: str
    marks: str
    info: str

    def may_close(self, opening: "Fence") -> bool:
        """Return whether this fence can end the block that another one began."""
        is_as_long = self.marks[0] == opening.marks[0] and len(self.marks) >= len(opening.marks)
        return is_as_long and (
            not self.info.strip() or (self.info[0].isspace() and LIST_MARKER.match(self.before) is not None)
        )

    def begins(self) -> bool:
        """Return whether this fence names a language, so that it can only begin a block."""
        return bool(self.info.strip()) and len(self.info.split()) == 1


def answer(completion: str) -> str:
    """Return the completion without the reasoning that a model wrote first. Raises Refused where that never ends."""
    text = completion.replace("\r\n", "\n")
    if is_code(text):
        return text
    ends = [match.end() for match in END_OF_REASONING.finditer(text)]
    if ends and DEFINES.search(text, ends[-1]):  # the opening tag may stand in the prompt; prose may name the tag
        return text[ends[-1] :]

    def drop(match: re.Match[str]) -> str:
        """Replace a whole part by nothing."""
        if match[2] is None:
            raise Refused("no_program", f"the answer ends inside <{match[1]}>")
        return ""

    return REASONING.sub(drop, text)


def blocks(text: str) -> list[Block]:
    """Return the blocks of an answer in their order; a text that is Python, or has no block, is one block.

    The text around the blocks comes first, as one more: it may hold an import that the program needs.
    """
    if code := json_code(text):
        return blocks(code)
    if is_code(text):
        return [Block(text, is_fenced=False, is_closed=True)]
    lines = text.split("\n")
    fenced, inside = fenced_blocks(lines)
    if not fenced:
        fenced = [Block(html.unescape(tag[2]), is_fenced=True, is_closed=True) for tag in TAG.finditer(text)]
        lines = TAG.sub("", text).split("\n") if fenced else lines
    around = "\n".join(line for number, line in enumerate(lines) if number not in inside)
    return [Block(around, is_fenced=False, is_closed=bool(fenced)), *fenced]


def json_code(text: str) -> str:
    """Return the text of an answer's only field that defines something, if the answer is a JSON object; else ""."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or DEFINES.search(text, 0, start):
        return ""
    try:
        fields = json.loads(text[start : end + 1], strict=False)
    except (ValueError, RecursionError):
        return ""
    codes = [field for field in fields.values() if isinstance(field, str) and DEFINES.search(field) and "\n" in field]
    return codes[0] if len(codes) == 1 else ""


def fenced_blocks(lines: list[str]) -> tuple[list[Block], set[int]]:
    """Return the blocks between fences, and the numbers of all lines that belong to them, fences included."""
    fences = list(find_fences(lines))
    found: list[Block] = []
    inside: set[int] = set()
    at = 0
    while at < len(fences):
        end, text = block_end(lines, fences, at)
        last = fences[end].line if end < len(fences) else len(lines)
        is_consumed = end < len(fences) and not fences[end].begins()
        inner = [] if is_code(text) else fenced_blocks(text.split("\n"))[0]
        found += inner or [Block(text, is_fenced=True, is_closed=end < len(fences))]
        inside |= set(range(fences[at].line, last + is_consumed))
        at = end + is_consumed
    return found, inside


def find_fences(lines: list[str]) -> Iterator[Fence]:
    """Yield the fences of a text."""
    for number, line in enumerate(lines):
        if ("```" in line or "~~~" in line) and (match := FENCE.match(line)):
            yield Fence(number, match["before"], match["fence"], match["info"])


def block_end(lines: list[str], fences: list[Fence], at: int) -> tuple[int, str]:
    """Return the index of the fence that ends the block begun by fence `at` (len(fences): none does), and its text.

    That is the first one before which all lines are Python, since a fence may stand inside a docstring; else the first
    that can be an end.
    """
    opening = fences[at]
    ends = [
        (index, block_text(lines, opening, fence))
        for index, fence in enumerate(fences[at + 1 :], at + 1)
        if fence.may_close(opening) or (fence.begins() and len(fence.marks) >= len(opening.marks))
    ]
    ends = [*ends[:MAX_ENDS], (len(fences), "\n".join(lines[opening.line + 1 :]))]
    return next((end for end in ends if is_code(end[1])), ends[0])


def block_text(lines: list[str], opening: Fence, closing: Fence) -> str:
    """Return the lines between two fences, with code that stands before the closing one on its line."""
    last = [] if LIST_MARKER.match(closing.before) or closing.begins() else [closing.before]
    inside = lines[opening.line + 1 : closing.line] + last
    if opening.before.lstrip().startswith(">"):  # in a quotation
        inside = [re.sub(r"^[ \t]*> ?", "", line) for line in inside]
    return "\n".join(inside)
