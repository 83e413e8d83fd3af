"""What killed processes leave behind is removed, what others are still writing is not."""

import os
import platform
import subprocess
from pathlib import Path

from dartune.files.scratch import remove_leftovers


def test_only_what_a_dead_process_of_this_machine_left_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = [f"{platform.node()}-{process}-ab.partial" for process in (dead.pid, os.getpid())]
    names += [f"elsewhere-{dead.pid}-ab.partial"]
    for name in names:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
