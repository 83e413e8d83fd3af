"""Forms of a task's prompt and of the answer to it. Which one a model gets is `base.prompt` of its preset."""

import ast
from typing import NamedTuple

from dartune.errors import UserError, nearest


class Form(NamedTuple):
    """What a prompt shows and asks for.

    shows_body: whether the body of the template's function is shown; many models copy it. request: the last words;
    {function} is the name of the function. is_fenced: whether answers are code blocks; training learns them so.
    """

    shows_body: bool
    request: str
    is_fenced: bool


# A docstring that is repeated is a third of the answer.
PROGRAM = "one Python code block that holds the imports and the whole function {function}, without its docstring"
BLOCK = f"Answer with {PROGRAM}, and nothing else."
FORMS = {
    "plain": Form(True, "", is_fenced=False),  # the embedded model's
    "block": Form(True, BLOCK, is_fenced=True),
    "different": Form(True, f"Do not repeat the function above: use another idea. {BLOCK}", is_fenced=True),
    "signature": Form(False, f"Write the body of the function. {BLOCK}", is_fenced=True),
    "thought": Form(True, f"First say in one sentence what your idea is. Then write {PROGRAM}.", is_fenced=True),
}


def check_form(name: str) -> None:
    """Raise UserError for a form that does not exist."""
    if name not in FORMS:
        raise UserError(f"base.prompt: there is no form {name!r}{nearest(name, FORMS)}")


def without_body(template: str, function: str) -> str:
    """Return the lines of a template up to the end of its function's docstring."""
    nodes = [node for node in ast.parse(template).body if isinstance(node, ast.FunctionDef) and node.name == function]
    return "\n".join(template.splitlines()[: nodes[0].body[0].end_lineno])
