"""A task in another process, with other hashes of texts and nothing kept from before.

    python -m dartune.authoring.elsewhere FOLDER

prints {split: digest of its instances} as its last line, and {DRAWS: whether rollout.py imports instances.py}.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dartune.errors import UserError
from dartune.tasks.contract import LIMIT_S, small, text_of
from dartune.tasks.task import Task, task_in

DRAWS = "rollout.py imports instances.py"
OTHER_HASHES = "12345"  # PYTHONHASHSEED; this process has another, by chance or by the user's choice


def digest(instances: list[dict[str, Any]]) -> str:
    """Return a hash of instances as contract.text_of returns them."""
    return hashlib.sha256(repr(instances).encode()).hexdigest()


def elsewhere(task: Task) -> dict[str, Any]:
    """Return what main() prints of a task. Raises UserError where it fails."""
    command = [sys.executable, "-m", __name__, str(task.folder)]
    environment = os.environ | {"PYTHONHASHSEED": OTHER_HASHES, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=environment)
        found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired as error:
        raise UserError(f"draw has not ended in {LIMIT_S} s in a process of its own") from error
    except (ValueError, IndexError) as error:
        last = (ended.stderr.splitlines() or ["no output"])[-1]
        raise UserError(f"draw fails in a process of its own: {last}") from error
    return found


def main(folder: Path) -> None:
    """Print what is found."""
    task = task_in(folder)
    draws = f"{task.rollout.__package__}.instances" in sys.modules  # importing rollout.py is all that was done
    digests = {split: digest(text_of(task.instances(split))) for split in small(task)}
    print(json.dumps(digests | {DRAWS: draws}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
