"""The answer shapes that models write."""

import pytest

from dartune.programs.extract import extract
from dartune.programs.verdict import Refused

TEMPLATE = "import numpy as np\n\n\ndef f(a, b):\n    return a\n"
BODY = "def f(a, b):\n    return a + b\n"

SHAPES = {
    "bare function": BODY,
    "fence with a language": f"```python\n{BODY}```",
    "fence without a language": f"```\n{BODY}```",
    "text before and after": f"Here is my idea.\n\n```python\n{BODY}```\nIt adds the two.",
    "text before and after without a fence": f"Here is my idea:\n\n{BODY}\nIt adds the two, which is better.\n",
    "own imports": f"```python\nimport math\n{BODY.replace('a + b', 'math.fsum([a, b])')}```",
    "helper before": f"def g(x):\n    return x\n\n{BODY.replace('a + b', 'g(a) + b')}",
    "helper after": f"{BODY.replace('a + b', 'g(a) + b')}\n\ndef g(x):\n    return x\n",
    "renamed arguments": "def f(first, second):\n    return first + second\n",
    "module constant": f"ZERO = 0\n\n{BODY.replace('a + b', 'a + b + ZERO')}",
    "decorator": f"from functools import cache\n\n@cache\n{BODY}",
    "class wrapper": "class Rule:\n    def f(self, a, b):\n        return a + b\n",
    "static method": "class Rule:\n    @staticmethod\n    def f(a, b):\n        return a + b\n",
    "several functions, the named one wins": f"def other(a, b):\n    return 0\n\n{BODY}",
    "another name": BODY.replace("def f", "def improved"),
    "indented code": "    def f(a, b):\n        return a + b\n",
    "indented code after text": "Sure!\n\n    def f(a, b):\n        return a + b\n",
    "type hints": f"from typing import Optional\n\n{BODY.replace('a, b', 'a: Optional[int], b: int')}",
    "template import used without importing": BODY.replace("a + b", "int(np.add(a, b))"),
    "example call": f"{BODY}\nprint(f(1, None))\n",
    "main block": f"{BODY}\nif __name__ == '__main__':\n    raise SystemExit(f(1, 2))\n",
    "cut after the function": f"```python\n{BODY}\n\ndef g(x):\n    return (x +",
    "unclosed fence": f"```python\n{BODY}",
    "two blocks": f"```python\ndef g(x):\n    return x\n```\nand\n```python\n{BODY}```",
    "tabs": BODY.replace("    ", "\t"),
}


@pytest.mark.parametrize("completion", SHAPES.values(), ids=SHAPES)
def test_a_program_is_found_in(completion: str) -> None:
    namespace: dict = {"__name__": "program"}
    exec(extract(completion, "f", 2, TEMPLATE), namespace)
    assert namespace["f"](2, 3) == 5


NOTHING = {
    "nothing at all": (" \n", "no_program", "empty"),
    "only prose": ("I would take the nearest city.", "no_program", "no code"),
    "cut in its first statement": ("def f(a, b):\n    x = (a +\n", "syntax", "never closed"),
    "cut inside the function": ("def f(a, b):\n    c = a\n    x = (a +\n", "no_program", "ends inside f"),
    "cut inside a branch": ("def f(a, b):\n    if a:\n        return b\n    x = [a,\n", "no_program", "ends inside f"),
    "another function of another shape": ("def g(a):\n    return a\n", "no_program", "no function f; there are g"),
    "not Python": ("```python\nfunction f(a, b) { return a }\n```", "syntax", "invalid syntax"),
}


@pytest.mark.parametrize(("completion", "status", "reason"), NOTHING.values(), ids=NOTHING)
def test_the_reason_is_kept_where_there_is(completion: str, status: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as caught:
        extract(completion, "f", 2, TEMPLATE)
    assert caught.value.status == status
