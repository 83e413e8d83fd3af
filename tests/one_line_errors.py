"""What a call that ends in a UserError says."""

from collections.abc import Callable
from typing import Any

import pytest

from dartune.errors import UserError


def refused(call: Callable[[], Any]) -> str:
    """The UserError that a call ends in, which is one line."""
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)
