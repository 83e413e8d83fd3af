"""How many stages share the cores of a machine, which a model that runs on the CPU must know."""

import sys
from pathlib import Path

import pytest

from toy_repository import FLOWS

sys.path.insert(0, str(FLOWS))

from dvc_commands import DvcCommands


@pytest.mark.parametrize(
    ("workers", "tasks", "n"), [(1, "[a, b]", 1), (2, "[a, b, c]", 2), (4, "[a]", 1), (2, "[]", 1)]
)
def test_stages_side_by_side_are_as_many_as_workers_and_tasks_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, tasks: str, n: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"tasks: {tasks}\n")
    assert DvcCommands(sys.stdout, workers).n_stages() == n
