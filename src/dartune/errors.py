"""UserError: a user's mistake, reported in one line: where, what was found, what was expected, what to do."""

import errno
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


NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)


def disk_problem(error: OSError) -> str:
    """Return what to do about a file that cannot be written, "" where the error is of another kind."""
    where = error.filename or "a file"
    if error.errno in NO_ROOM:
        return f"{where}: no space left on its disk; make room and run again: what is finished is kept"
    if error.errno in NO_RIGHT:
        return f"{where}: {(error.strerror or str(error)).lower()}; run as its owner, or give this user the right to it"
    return ""


def one_line(main: Callable[..., None]) -> Callable[..., None]:
    """Decorate a main function: its UserError is printed to stderr as one line, and the exit status is 1.

    So are a full disk and a missing right.
    """

    @wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        """Call main; exit with the message of its error, whitespace collapsed."""
        try:
            main(*args, **kwargs)
        except UserError as error:
            sys.exit(" ".join(str(error).split()))
        except OSError as error:
            if message := disk_problem(error):
                sys.exit(message)
            raise

    return wrapped
