"""What a program does: a fingerprint of its solutions, and a signature that estimates how similar two programs are.

A solution is a sequence of moves, integers that stand for an edge of a tour on one of the instances, say, or for a
candidate that was taken. All programs of a pool are compared on the same instances.
"""

import hashlib

import numpy as np

N_BITS = 128
ONE = np.uint64(1)
# One odd multiplier per bit of a signature.
MULTIPLIERS = np.random.default_rng(0).integers(0, 2**63, N_BITS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def fingerprint(moves: np.ndarray) -> str:
    """Return 16 hexadecimal digits, equal for programs that make the same moves in the same order."""
    return hashlib.sha256(moves.astype("<i8").tobytes()).hexdigest()[:16]


def signature(moves: np.ndarray) -> tuple[int, ...]:
    """Return 128 bits in words of 64, by one-bit minwise hashing (Li and Koenig 2010).

    The share of bits in which two signatures differ estimates (1 - J) / 2 with a standard error of .04, where J is the
    Jaccard similarity of their sets of moves. One move more or less changes few bits, so a tie that another machine
    breaks differently does not make a program look new.
    """
    hashed = mixed(np.unique(moves).astype(np.uint64) + ONE)  # + 1, as 0 would be the least under each multiplier
    least = (hashed[:, None] * MULTIPLIERS).min(axis=0)
    bits = (mixed(least) & ONE).astype(np.uint8)
    return tuple(np.packbits(bits, bitorder="little").view("<u8").tolist())


def mixed(words: np.ndarray) -> np.ndarray:
    """Scramble 64-bit words one to one (the finaliser of MurmurHash3)."""
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    result: np.ndarray = words ^ (words >> np.uint64(33))
    return result
