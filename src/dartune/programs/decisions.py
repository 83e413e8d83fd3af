"""Decisions on their way out of a program's process: bounded, typed, and nothing that could run.

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
    """The answer that holds these decisions; a list of which the first is a float is one of floats."""
    return b"=" + b"".join(map(encode_one, decisions))


def encode_one(decision: list[int] | list[float]) -> bytes:
    """Return one array of an answer."""
    name, typecode = (b"f", "d") if decision and isinstance(decision[0], float) else (b"i", "q")
    return HEAD.pack(name, len(decision)) + array(typecode, decision).tobytes()


def encode_failure(status: str, reason: str) -> bytes:
    """Return the answer that tells of a failure."""
    return b"!" + json.dumps({"status": status, "reason": reason[:500]}).encode()


def decode(answer: bytes, n_arrays: int) -> list[np.ndarray]:
    """The n_arrays arrays in an answer, or Refused: with the failure that it tells of, or "output" otherwise."""
    if answer[:1] == b"!":
        raise failure(answer[1:])
    if answer[:1] != b"=":
        raise Refused("output", "the answer holds no decisions")
    arrays, at = [], 1
    while at < len(answer):
        if len(answer) < at + HEAD.size:
            raise Refused("output", "the answer is cut")
        name, length = HEAD.unpack_from(answer, at)
        at += HEAD.size
        if name not in KINDS or len(answer) < at + 8 * length:
            raise Refused("output", "the answer is malformed or cut")
        arrays.append(np.frombuffer(answer, KINDS[name], length, at))
        at += 8 * length
        if len(arrays) > n_arrays:
            break
    if len(arrays) != n_arrays:
        found = len(arrays) if len(arrays) < n_arrays else "more"
        raise Refused("output", f"expected decisions for {n_arrays} instances, found {found}")
    return arrays


def failure(body: bytes) -> Refused:
    """What the program's process says of its own failure. It may lie, but never to its advantage."""
    try:
        content = json.loads(body) if len(body) <= MAX_FAILURE_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("status") not in STATUSES[1:]:
        return Refused("output", "the answer is malformed")
    return Refused(content["status"], str(content.get("reason", "")))


def integers(decision: np.ndarray, *, max_length: int, below: int) -> np.ndarray:
    """The decision as int64, shape (at most max_length,), each value in 0..below-1; or Refused."""
    if decision.dtype.kind != "i" or not 0 < len(decision) <= max_length:
        raise Refused("output", f"expected 1 to {max_length} integers")
    if decision.min() < 0 or decision.max() >= below:
        raise Refused("infeasible", f"a decision is outside 0..{below - 1}")
    return decision


def numbers(decision: np.ndarray, *, length: int) -> np.ndarray:
    """The decision as finite float64, shape (length,); or Refused."""
    if decision.dtype.kind != "f" or len(decision) != length:
        raise Refused("output", f"expected {length} numbers")
    if not np.isfinite(decision).all():
        raise Refused("nonfinite", "a number is not finite")
    return decision
