"""docs/tutorial.md: its commands run, one after the other, and come to what the page says. With smaller numbers."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from project_copy import ROOT, commit, copy_project, run, set_params

BLOCK = re.compile(r"^```\n(.+?)^```$", re.MULTILINE | re.DOTALL)
SMALLER = {  # in the page: here
    "source .venv/bin/activate\n": "",  # the copy has none; its commands are found all the same
    "embedded.n_programs=8000": "embedded.n_programs=4000",
    "embedded.n_rewritings=4000": "embedded.n_rewritings=400",
    "pool.n_programs=600": "pool.n_programs=100",
    "sample.n_pairs=120": "sample.n_pairs=6",
    "evaluate.n_samples=100": "evaluate.n_samples=4",
    "dartune preset smollm2-135m)": "dartune preset smollm2-135m) -S train.probe.n_samples=4 -S search.n_evaluations=4",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("tutorial")
    copy_project(folder, ["admissible_set"])
    set_params(folder, {"pool": {"n_programs": 200, "batch_size": 200}})
    commit(folder, "a pool of some size")
    patch = pytest.MonkeyPatch()
    patch.setenv("DARTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield folder
    patch.undo()


def test_the_tutorials_commands_run_and_come_to_what_it_says(project: Path) -> None:
    page = (ROOT / "docs/tutorial.md").read_text()
    for text, smaller in SMALLER.items():
        assert text in page
        page = page.replace(text, smaller)
    printed = [run(project, "bash", "-ec", block).stdout for block in BLOCK.findall(page)]
    check, score = (next(text for text in printed if words in text) for words in ("usable", "smith.py"))
    assert "my_jobs: usable, 0 warnings" in check
    assert re.search(r"smith\.py +ok .* 0\.00% ", score)
    tuned = json.loads((project / "metrics/train/my_jobs.json").read_text())
    assert [part["settings"]["method"] for part in (*tuned["earlier"], tuned)] == ["sft", "dpo"]
    assert list(json.loads((project / "metrics/summary.json").read_text())) == ["my_jobs"]
    assert "my_jobs" in (project / "report/index.html").read_text()
    assert run(project, "git", "status", "--short").stdout == ""
