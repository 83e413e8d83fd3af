"""UserError: a user's mistake, reported in one line: where, what was found, what was expected, what to do."""

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import wraps
from typing import Any


class UserError(Exception):
    """A user's mistake. Raised before any long work; reported without a traceback."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: "; did you mean 'x'?", or all known names if none is close."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def one_line(main: Callable[..., None]) -> Callable[..., None]:
    """Decorate a main function: its UserError is printed to stderr as one line, and the exit status is 1."""

    @wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        """Call main; exit with the message of a UserError, its whitespace collapsed."""
        try:
            main(*args, **kwargs)
        except UserError as error:
            sys.exit(" ".join(str(error).split()))

    return wrapped
