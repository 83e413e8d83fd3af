"""The format in which decisions leave a program's process: bounded, typed arrays, never pickles.

An answer is b"=" and one array per instance, each a kind (b"i" int64, b"f" float64), its length and its values in
little-endian order; or b"!" and a JSON object with the status and the reason of a failure.
"""

import json
import struct
from array import array
from collections.abc import Iterable

import numpy as np

from dartune.programs.verdict import STATUSES, Refused

MAX_BYTES = 16 << 20
MAX_FAILURE_BYTES = 8192  # reading JSON costs time that no limit covers
KINDS = {b"i": np.dtype("<i8"), b"f": np.dtype("<f8")}
HEAD = struct.Struct("<cI")


def encode(decisions: Iterable[list[int] | list[float]]) -> bytes:
    """Return the answer with these decisions. A list is written as floats if its first value is a float."""
    return b"=" + b"".join(map(encode_array, decisions))


def encode_array(decision: list[int] | list[float]) -> bytes:
    """Return one list as its kind, length and values."""
    name, typecode = (b"f", "d") if decision and isinstance(decision[0], float) else (b"i", "q")
    return HEAD.pack(name, len(decision)) + array(typecode, decision).tobytes()


def encode_failure(status: str, reason: str) -> bytes:
    """Return the answer that reports a failure."""
    return b"!" + json.dumps({"status": status, "reason": reason[:500]}).encode()


def decode(answer: bytes, n_arrays: int) -> list[np.ndarray]:
    """Return the arrays in an answer. Raises Refused with the failure it reports, or "output" if malformed."""
    if answer[:1] == b"!":
        raise failure(answer[1:])
    if answer[:1] != b"=":
        raise Refused("output", "the answer holds no decisions")
    arrays: list[np.ndarray] = []
    at = 1
    while at < len(answer) and len(arrays) <= n_arrays:
        if len(answer) < at + HEAD.size:
            raise Refused("output", "the answer is cut")
        name, length = HEAD.unpack_from(answer, at)
        at += HEAD.size
        if name not in KINDS or len(answer) < at + 8 * length:
            raise Refused("output", "the answer is malformed or cut")
        arrays.append(np.frombuffer(answer, KINDS[name], length, at))
        at += 8 * length
    if len(arrays) != n_arrays:
        count = len(arrays) if len(arrays) < n_arrays else "more"
        raise Refused("output", f"expected decisions for {n_arrays} instances, found {count}")
    return arrays


def failure(body: bytes) -> Refused:
    """Return the failure that a process reports of itself; a program may forge one, but only to its disadvantage."""
    try:
        content = json.loads(body) if len(body) <= MAX_FAILURE_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("status") not in STATUSES[1:]:
        return Refused("output", "the answer is malformed")
    return Refused(content["status"], str(content.get("reason", "")))


def integers(decision: np.ndarray, *, max_length: int, below: int) -> np.ndarray:
    """Return a decision of 1 to max_length int64 in 0..below-1. Raises Refused if it is anything else."""
    if decision.dtype.kind != "i" or not 0 < len(decision) <= max_length:
        raise Refused("output", f"expected 1 to {max_length} integers")
    if decision.min() < 0 or decision.max() >= below:
        raise Refused("infeasible", f"a decision is outside 0..{below - 1}")
    return decision


def numbers(decision: np.ndarray, *, length: int, is_order: bool = False) -> np.ndarray:
    """Return a decision of `length` float64. Raises Refused if it is anything else.

    is_order: only the order of the numbers counts, so that -inf, the last place, is allowed; others must be finite.
    """
    if decision.dtype.kind != "f" or len(decision) != length:
        raise Refused("output", f"expected {length} numbers")
    if np.isnan(decision).any() or (decision == np.inf).any() or not (is_order or np.isfinite(decision).all()):
        raise Refused("nonfinite", f"a number is {decision[~np.isfinite(decision)][0]}")
    return decision
