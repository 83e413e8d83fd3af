"""How a program acts, in short: a fingerprint of its solutions, and a signature by which two of them can be compared.

A solution is a sequence of moves, each a number: an edge of a tour on one of the instances, a candidate taken. The
instances of the split are the probes: every program of a pool answers the same ones.
"""

import hashlib

import numpy as np

N_BITS = 128
ONE = np.uint64(1)
# Odd multipliers, one per bit of a signature.
MULTIPLIERS = np.random.default_rng(0).integers(0, 2**63, N_BITS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def fingerprint(moves: np.ndarray) -> str:
    """16 hexadecimal digits, equal for programs that make the same moves in the same order."""
    return hashlib.sha256(moves.astype("<i8").tobytes()).hexdigest()[:16]


def signature(moves: np.ndarray) -> tuple[int, ...]:
    """128 bits in words of 64. The bits of two signatures differ in the share (1 - J) / 2, where J is the share of
    their moves that they have in common (Jaccard), give or take .04: one-bit minwise hashing (Li and Koenig 2010).

    One move more or less changes few bits, so a tie that another machine breaks otherwise does not make a stranger.
    """
    hashed = mixed(np.unique(moves).astype(np.uint64) + ONE)  # 0 would stay 0, and be the least under each multiplier
    least = (hashed[:, None] * MULTIPLIERS).min(axis=0)
    bits = (mixed(least) & ONE).astype(np.uint8)
    return tuple(np.packbits(bits, bitorder="little").view("<u8").tolist())


def mixed(words: np.ndarray) -> np.ndarray:
    """Each 64-bit word scrambled, one to one (the finaliser of MurmurHash3)."""
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    result: np.ndarray = words ^ (words >> np.uint64(33))
    return result
