def next_step(step: float, error: float, previous_step: float, previous_error: float, n_rejected: int) -> float:
    """Return the size of the next step to try.

    step: the size of the step that was just tried.
    error: its estimated error, in tolerances. Below 1 it is accepted; otherwise it is tried again from where it began.
    previous_step, previous_error: those of the last step that was accepted before; 0 if there was none.
    n_rejected: how often this step was rejected before this try.
    """
    factor = 0.9 * error ** (-1 / 5) if error > 0 else 10.0
    if error >= 1:
        return step * max(0.2, factor)
    return step * min(1.0 if n_rejected else 10.0, factor)
