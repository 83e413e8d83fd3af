"""A person's mistake: one line that says where, what was found, what was expected and what to do."""

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import wraps
from typing import Any


class UserError(Exception):
    """Raised before any long work; reported without a traceback."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The tail of a message about an unknown name: the nearest known one, else all of them."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def one_line(main: Callable[..., None]) -> Callable[..., None]:
    """A main function whose UserError becomes one line on stderr and exit status 1."""

    @wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            main(*args, **kwargs)
        except UserError as mistake:
            sys.exit(" ".join(str(mistake).split()))

    return wrapped
