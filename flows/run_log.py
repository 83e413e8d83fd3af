"""The lines of a run: in its log and, where the script was started by hand, on the terminal."""

from prefect.logging import get_run_logger

is_by_hand = False  # finetune.py sets it where it is the script


def log(line: str, stage: str = "") -> None:
    """Write to the run's log and, where the script was started by hand, to the terminal."""
    get_run_logger().info(line)
    if is_by_hand:
        print(f"{stage} | {line}" if stage else line, flush=True)
