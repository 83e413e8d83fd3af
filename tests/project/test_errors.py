"""What `one_line` makes of errors: a person's mistake, a full disk and a missing right are one line each."""

from pathlib import Path

import pytest

from dartune.errors import UserError, one_line


def message_of(call: object) -> object:
    with pytest.raises(SystemExit) as caught:
        one_line(call)()  # type: ignore[arg-type]
    return caught.value.code


def test_a_mistake_is_one_line_whatever_its_line_breaks() -> None:
    def fail() -> None:
        raise UserError("pool: 0 programs;\n  expected 1")

    assert message_of(fail) == "pool: 0 programs; expected 1"


def test_a_full_disk_and_a_missing_right_are_one_line_with_what_to_do() -> None:
    full = "a file: no space left on its disk; make room and run again: what is finished is kept"
    assert message_of(lambda: Path("/dev/full").write_text("x")) == full
    denied = "/sys/x: permission denied; run as its owner, or give this user the right to it"
    assert message_of(lambda: Path("/sys/x").write_text("x")) == denied


def test_another_error_of_the_system_keeps_its_traceback() -> None:
    with pytest.raises(FileNotFoundError):
        one_line(lambda: Path("/proc/nothing").write_text("x"))()  # type: ignore[arg-type, return-value]
