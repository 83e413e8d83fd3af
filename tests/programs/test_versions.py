"""Completions with versions of a function, as FunSearch's prompts ask for them."""

from typing import Any

import pytest

from dartune.programs.extract import extract
from dartune.programs.verdict import Refused


def extracted(completion: str) -> dict[str, Any]:
    """What the program in a completion to funsearch's prompt defines, for a function f of one argument."""
    namespace: dict[str, Any] = {"__name__": "program"}
    exec(extract(completion, "f", 1, "def f(n):\n    return n\n").program, namespace)
    return namespace


def test_the_version_asked_for_becomes_the_function() -> None:
    assert extracted("```python\ndef f_v2(n):\n    return n + 2\n```")["f"](1) == 3


def test_of_several_versions_the_last_becomes_the_function() -> None:
    versions = [f"def f_v{i}(n):\n    return n + {i}\n" for i in range(3)]
    for order in (versions, versions[::-1]):
        namespace = extracted("\n\n".join(order))
        assert namespace["f"](1) == 3 and "f_v0" not in namespace and "f_v1" not in namespace


def test_a_version_that_calls_an_earlier_one_is_no_program() -> None:
    versions = [f"def f_v{i}(n):\n    return {f'f_v{i - 1}(n) + 10' if i else 'n'}\n" for i in range(3)]
    for completion in ("\n\n".join(versions), versions[2], f"def f(n):\n    return f_v0(n) + 1\n\n\n{versions[0]}"):
        with pytest.raises(Refused, match=r"it needs f_v[01], an earlier version"):
            extracted(completion)


def test_of_versions_in_blocks_of_their_own_the_last_becomes_the_function() -> None:
    blocks = [f"Version {i}:\n```python\ndef f_v{i}(n):\n    return n + {i}\n```\n" for i in range(3)]
    for order in (blocks, blocks[::-1]):
        assert extracted("".join(order))["f"](1) == 3


def test_the_tenth_version_comes_after_the_ninth() -> None:
    assert extracted("def f_v10(n):\n    return 10\n\ndef f_v9(n):\n    return 9\n")["f"](0) == 10


def test_a_version_that_calls_itself_calls_itself() -> None:
    assert extracted("def f_v2(n):\n    return n if n < 2 else n * f_v2(n - 1)\n")["f"](4) == 24


def test_a_plain_function_beside_versions_is_the_function() -> None:
    namespace = extracted("def f_v2(n):\n    return 2\n\n\ndef f(n):\n    return n + 1\n")
    assert namespace["f"](0) == 1 and "f_v2" not in namespace


def test_a_name_that_only_begins_like_a_version_is_none() -> None:
    with pytest.raises(Refused, match="no function f; there are f_v2_helper, g"):
        extracted("def f_v2_helper(n):\n    return 2\n\n\ndef g(n):\n    return 3\n")
