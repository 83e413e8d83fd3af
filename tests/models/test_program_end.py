"""Where an answer may end: after the first whole fenced block that defines the task's function, and not before."""

import pytest

from dartune.models.program_end import has_program

PROGRAM = "def f(x):\n    return x\n"


@pytest.mark.parametrize(
    ("answer", "is_whole"),
    [
        (f"```python\n{PROGRAM}```", True),
        (f"Here it is:\n\n```\n{PROGRAM}```\nIt works", True),
        (f"~~~python\n{PROGRAM}~~~", True),
        (f"  ```python\n  {PROGRAM}  ```", True),
        ("```python\nf = lambda x: x\n```", True),
        ("```python\nimport numpy as np\n\ndef f_v2(x):\n    return x\n```", True),  # as FunSearch asks for it
        (f"```python\n{PROGRAM}", False),
        (f"```python\n{PROGRAM}``", False),
        (f"````python\n{PROGRAM}```", False),  # a longer fence is open
        (PROGRAM, False),
        ("```python\nx = 1\n```", False),
        ("```python\ndef g(f):\n    return f\n```", False),
        (f"```python\nx = 1\n```\n```python\n{PROGRAM}```", True),
        (f"```python\nx = 1\n```\n```python\n{PROGRAM}", False),
        (f"The function `f`:\n{PROGRAM}", False),
    ],
)
def test_an_answer_has_its_program_once_the_block_is_closed(answer: str, is_whole: bool) -> None:
    assert has_program(answer, "f") is is_whole
