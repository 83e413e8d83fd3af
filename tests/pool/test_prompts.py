"""Prompts of search methods: programs are shown without their docstrings, and are the same programs."""

import ast
from random import Random

import pytest

from dartune.pool.prompts import operator_prompt, version_prompt, without_docstrings
from dartune.programs.canonical import parse
from dartune.tasks.task import Task

DOCSTRINGS = {
    "one line": ('def f(n):\n    """Doc."""\n    return n\n', "def f(n):\n    return n\n"),
    "several lines": ('def f(n):\n    """Doc.\n    More.\n    """\n    return n\n', "def f(n):\n    return n\n"),
    "simple quotes": ("def f(n):\n    'Doc.'\n    return n\n", "def f(n):\n    return n\n"),
    "comments stay": (
        'def f(n):\n    # one\n    """Doc."""\n    # two\n    return n  # three\n',
        "def f(n):\n    # one\n    # two\n    return n  # three\n",
    ),
    "blank lines stay": (
        'import a\n\n\ndef f(n):\n    """D."""\n\n    return n\n',
        "import a\n\n\ndef f(n):\n\n    return n\n",
    ),
    "of nested functions": (
        'def f(n):\n    """Doc."""\n\n    def g():\n        """Doc."""\n        return n\n\n    return g()\n',
        "def f(n):\n\n    def g():\n        return n\n\n    return g()\n",
    ),
    "of methods": (
        'class A:\n    def f(self):\n        """Doc."""\n        return 1\n',
        "class A:\n    def f(self):\n        return 1\n",
    ),
    "a body of nothing else stays": ('def f(n):\n    """Doc."""\n', 'def f(n):\n    """Doc."""\n'),
    "other texts stay": (
        'def f(n):\n    x = """Text."""\n    """Late."""\n    return x\n',
        'def f(n):\n    x = """Text."""\n    """Late."""\n    return x\n',
    ),
    "what does not parse stays": ('def f(n:\n    """Doc."""\n', 'def f(n:\n    """Doc."""\n'),
    "nothing": ("", ""),
}


@pytest.mark.parametrize(("program", "expected"), DOCSTRINGS.values(), ids=DOCSTRINGS)
def test_docstrings_are_left_out_of_what_a_prompt_shows(program: str, expected: str) -> None:
    assert without_docstrings(program) == expected


def test_plain_answers_may_begin_with_a_thought_and_have_no_form() -> None:
    plain = Task("tsp_construct", "plain")
    of_operator = operator_prompt(plain, "i1", [])
    assert "First say in one sentence, inside braces" in of_operator
    for prompt in (plain.prompt, of_operator, version_prompt(plain, [plain.template])):
        assert prompt.endswith("```\n")


ODD_LINES = {
    "a form feed": "x = 1\n\x0c\ndef f(n):\n    'Doc.'\n    return n\n",
    "a line separator in a text": "x = '\u2028'\n\n\ndef f(n):\n    'Doc.'\n    return n\n",
    "carriage returns": "x = 1\r\ndef f(n):\r\n    'Doc.'\r\n    return n\r\n",
    "code on the docstring's line": "def f(n): 'Doc.'; return n\n",
    "code on the docstring's last line": "def f(n):\n    '''Doc.\n    More.'''; return n\n",
    "blank lines in a docstring": "def f(n):\n    '''Doc.\n\n    More.'''\n    return n\n",
}


@pytest.mark.parametrize("program", ODD_LINES.values(), ids=ODD_LINES)
def test_a_program_without_its_docstrings_is_the_same_program(program: str) -> None:
    shown = without_docstrings(program)
    assert ast.dump(parse(shown)) == ast.dump(parse(program))


@pytest.mark.parametrize("task", ["admissible_set", "cvrp_construct", "tsp_construct"])
def test_what_a_prompt_shows_of_a_grammars_program_is_all_of_it(task: str) -> None:
    for seed in range(200):
        text = Task(task).grammar.draw(Random(seed))
        assert without_docstrings(text) == text
