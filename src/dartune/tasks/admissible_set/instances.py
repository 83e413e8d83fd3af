"""Instances: one per (n, w). The candidates are all code words with n/3 groups and total weight w.

There is only one instance of each size, so training, validation and test share (15, 10): the sampling is held out, not
the instance. Transfer is measured on (12, 7). (21, 15) is slow and not part of any default run.
"""

from itertools import product

import numpy as np

SPLITS = {
    "train": (15, 10),
    "validation": (15, 10),
    "test": (15, 10),
    "shifted_12_7": (12, 7),
    "large_21_15": (21, 15),
    "llm4ad": (15, 10),
}
SHIFTED = ("shifted_12_7",)

# The 7 codes of a group of three coordinates, one for each class of triples under rotation (FunSearch).
TRIPLES = ((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 2), (0, 2, 1), (1, 1, 1), (2, 2, 2))
WEIGHTS = np.array([sum(x != 0 for x in triple) for triple in TRIPLES])


def draw(split: str) -> list[dict[str, np.ndarray]]:
    """Return one instance: {"n", "w": (), "codes": int64 (n_candidates, n/3), "vectors": int64 (n_candidates, n)}."""
    n, w = SPLITS[split]
    words = np.array(list(product(range(7), repeat=n // 3)))  # product is lexicographic
    codes = words[WEIGHTS[words].sum(axis=1) == w]
    vectors = np.array(TRIPLES)[codes].reshape(len(codes), n)
    return [{"n": np.array(n), "w": np.array(w), "codes": codes, "vectors": vectors}]
