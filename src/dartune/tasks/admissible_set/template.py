def priority(el: tuple[int, ...], n: int, w: int) -> float:
    """Return the priority with which el is added to the set.

    el: the candidate vector, n coordinates out of {0, 1, 2}, in groups of three that may be rotated together.
    n: the number of coordinates.
    w: the number of non-zero coordinates.
    """
    return 0.0
