"""A training with several threads: its memory is measured in a fork, which does not have the parent's threads."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import torch
from dartune.training.memory import in_fork

torch.set_num_threads(2)
one = torch.rand(512, 512)
one @ one  # from here on the process has a second thread
assert in_fork(lambda: [one @ one for _ in range(3)], 2**30) is not None
"""


def test_a_step_is_measured_beside_threads_that_a_fork_does_not_have(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
