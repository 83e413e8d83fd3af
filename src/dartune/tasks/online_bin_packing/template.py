import numpy as np


def priority(item: float, bins: np.ndarray) -> np.ndarray:
    """Return the priorities of the bins for this item.

    item: the size of the item.
    bins: the free capacity of each bin that has room for it, in the order in which bins came into use; then empty bins.
    """
    return -np.arange(len(bins), dtype=float)
