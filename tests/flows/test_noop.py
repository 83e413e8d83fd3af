"""A run that has nothing to do does not pay for what only stages need."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "trl", "datasets", "accelerate", "duckdb", "pyarrow", "pandas", "matplotlib", "ray"}
FLOW = """
import sys
sys.path.insert(0, "flows")
import finetune
finetune.plan([])
"""
DVC = """
import sys
from dvc.cli import main
main(["status", "-q"])
"""


def imported(script: str) -> set[str]:
    """Top-level modules that a script has loaded when it ends."""
    script += "\nprint('loaded', *{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(("script", "mark"), [(FLOW, "prefect"), (DVC, "dvc")])
def test_neither_planning_nor_dvc_imports_what_only_stages_need(script: str, mark: str) -> None:
    found = imported(script)
    assert mark in found
    assert found & HEAVY == set()
