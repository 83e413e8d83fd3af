"""Packs items as the program says. Runs in the sandbox with it, so cost.py trusts none of its results."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dartune.programs.online import Decisions
from dartune.programs.verdict import Refused

FUNCTION = "priority"
N_ARGUMENTS = 2
ONLINE = "items"


def run(program: Callable[..., Any], instance: dict[str, Any]) -> Decisions:
    """Yield None, then the bin of each item that is sent. There are as many bins as items.

    Raises Refused where the program does not give one number for each bin with room.
    """
    free = np.full(instance["items"], instance["capacity"])
    item = yield None
    while True:
        (has_room,) = (free >= item).nonzero()
        priorities = np.asarray(program(item, free[has_room]))
        if priorities.shape != has_room.shape or priorities.dtype.kind not in "bif":
            raise Refused("output", f"expected {len(has_room)} numbers, one for each bin")
        best = priorities.argmax()  # the first NaN, where there is one
        if np.isnan(priorities[best]):
            raise Refused("nonfinite", "a priority is NaN")
        chosen = int(has_room[best])
        free[chosen] -= item
        item = yield chosen
