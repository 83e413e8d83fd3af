"""Progress within a batch of answers: a real model on a CPU takes minutes for one."""

import sys
import time

EVERY = 30.0  # seconds


class Progress:
    """Prints how far a batch is, every EVERY seconds; nothing about one that is written before that."""

    def __init__(self) -> None:
        self.start = self.last = time.monotonic()

    def show(self, written: list[list[int]], n_open: int) -> None:
        """Print the answers finished and the tokens a second, if it is time. written: the tokens of all answers."""
        now = time.monotonic()
        if now - self.last < EVERY:
            return
        self.last = now
        rate = sum(map(len, written)) / (now - self.start)
        print(
            f"model: {len(written) - n_open} of {len(written)} answers of this batch, {rate:.0f} tokens/s",
            file=sys.stderr,
            flush=True,
        )
