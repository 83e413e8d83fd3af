"""Decisions on their way out of a program's process: exact, and refused where they are malformed."""

import json
import struct

import numpy as np
import pytest

from dartune.programs import decisions
from dartune.programs.decisions import decode, encode, encode_failure
from dartune.programs.verdict import Refused


def test_decisions_come_out_as_they_went_in() -> None:
    arrays = decode(encode([[1, 2, -3], [0.5, float("inf")], []]), 3)
    assert [array.tolist() for array in arrays] == [[1, 2, -3], [0.5, float("inf")], []]
    assert [array.dtype.kind for array in arrays] == ["i", "f", "i"]


MALFORMED = [
    b"",
    b"?",
    b"=\x00",
    b"=x" + struct.pack("<I", 1) + bytes(8),
    b"=" + struct.pack("<cI", b"i", 2) + bytes(8),
    b"=" + struct.pack("<cI", b"i", 2**32 - 1),
    b"!",
    b"!{}",
    b"![]",
    b'!{"status": "ok"}',
    b'!{"status": ["runtime"]}' + bytes(3),
    b"!" + b"[" * 100_000,
    b"=" + struct.pack("<cI", b"i", 0) * 2,
    b"!" + json.dumps({"status": "runtime", "reason": "x" * 9000}).encode(),
    b"\x80\x04\x95",
]


@pytest.mark.parametrize("answer", MALFORMED)
def test_a_malformed_answer_is_refused_as_output(answer: bytes) -> None:
    with pytest.raises(Refused) as refused:
        decode(answer, 1)
    assert refused.value.status == "output"


def test_a_failure_keeps_its_status_and_one_short_line_of_reason() -> None:
    with pytest.raises(Refused) as refused:
        decode(encode_failure("runtime", "one\ntwo " + "x" * 1000), 1)
    assert refused.value.status == "runtime"
    assert refused.value.reason.startswith("one two x") and len(refused.value.reason) == 200


def test_integers_and_numbers_are_checked_for_kind_length_and_range() -> None:
    def status(check: str, array: np.ndarray, **bounds: int) -> str:
        with pytest.raises(Refused) as refused:
            getattr(decisions, check)(array, **bounds)
        return refused.value.status

    assert status("integers", np.array([0.0]), max_length=3, below=3) == "output"
    assert status("integers", np.array([], int), max_length=3, below=3) == "output"
    assert status("integers", np.arange(4), max_length=3, below=9) == "output"
    assert status("integers", np.array([-1]), max_length=3, below=3) == "infeasible"
    assert status("integers", np.array([3]), max_length=3, below=3) == "infeasible"
    assert status("numbers", np.arange(3), length=3) == "output"
    assert status("numbers", np.array([0.0, np.nan]), length=2) == "nonfinite"
