"""Prompts of the search methods: the task, the parent programs, and the instruction.

Modelled on EoH (Liu et al. 2024, operators i1 e1 e2 m1 m2) and FunSearch (Romera-Paredes et al. 2024, best-shot
prompts), reworded. The embedded model's chat template reads the programs and the line "Operation: ...".
"""

import ast
import re
from dataclasses import dataclass
from functools import lru_cache

from dartune.tasks.forms import BLOCK, FORMS
from dartune.tasks.task import Task

INSTRUCTIONS = {
    "i1": "Write a program for this task.",
    "e1": "Write a program that works in an altogether different way from those above.",
    "e2": "Find the idea that the programs above have in common. Write a program that is built on it and differs from"
    " each of them.",
    "m1": "Write a program of another form: a modified version of the one above.",
    "m2": "Find the parameters of the program above. Write it again with other values for them.",
}
VERSION = "version"
OPERATIONS = (*INSTRUCTIONS, VERSION)
THOUGHT = "First say in one sentence, inside braces {}, what the idea of the program is."


@dataclass(frozen=True)
class Parent:
    """A program that a prompt shows, and its thought: the sentence that the model wrote before it."""

    program: str
    thought: str = ""


def operator_prompt(task: Task, operation: str, parents: list[Parent]) -> str:
    """Return the prompt of one of EoH's operators. parents: none for i1, one for m1 and m2, several for e1 and e2.

    Where answers are code blocks, it asks for no thought: with one, half as many children of a small model were valid.
    """
    shown = [
        f"Program {number}. {parent.thought}".rstrip() + "\n" + fenced(without_docstrings(parent.program))
        for number, parent in enumerate(parents, 1)
    ]
    thought = "It" if FORMS[task.form].is_fenced else f"{THOUGHT} Then write the program; it"
    instruction = f"Operation: {operation}\n{INSTRUCTIONS[operation]} {thought} defines this function:"
    request = BLOCK.format(function=task.function)
    return task.asking(task.description, *shown, instruction, fenced(task.shown), request=request)


def version_prompt(task: Task, programs: list[str]) -> str:
    """Return FunSearch's prompt: versions of a program, the worst first, and the request for a better one."""
    shown = [fenced(renamed(without_docstrings(p), task.function, i)) for i, p in enumerate(programs)]
    asked = fenced(renamed(task.shown, task.function, len(programs)))
    says = f"Versions of a program for it, from worse to better: v0 to v{len(programs) - 1}."
    instruction = f"Operation: {VERSION}\nWrite the next version, better than these. It defines this function:"
    request = BLOCK.format(function=f"{task.function}_v{len(programs)}")
    return task.asking(task.description, says, *shown, instruction, asked, request=request)


def fenced(program: str) -> str:
    """Return the program as a code block of Markdown."""
    return f"```python\n{program.strip()}\n```"


def renamed(program: str, function: str, version: int) -> str:
    """Return the program with _v<version> appended to its function's name wherever that is a whole word."""
    return re.sub(rf"\b{function}\b", f"{function}_v{version}", program)


@lru_cache(maxsize=1024)  # searches show their best programs many times
def without_docstrings(program: str) -> str:
    """Return the program without docstrings that fill whole lines; unchanged if it does not parse."""
    lines: list[str | None] = [*program.split("\n")]
    try:
        functions = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.FunctionDef)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return program
    if "\r" in program:  # the parser counts it as the end of a line too
        return program
    for node in functions:
        if len(node.body) > 1 and ast.get_docstring(node) is not None:
            docstring, following = node.body[:2]
            first, last = docstring.lineno, docstring.end_lineno or docstring.lineno
            if node.lineno < first and last < following.lineno and is_whole_line(docstring, lines):
                lines[first - 1 : last] = [None if line else "" for line in lines[first - 1 : last]]
    return "\n".join(line for line in lines if line is not None)


def is_whole_line(node: ast.stmt, lines: list[str | None]) -> bool:
    """Return whether nothing, not even a comment, follows a statement on its last line."""
    last = (lines[(node.end_lineno or node.lineno) - 1] or "").encode()
    return not last[node.end_col_offset :].strip()
