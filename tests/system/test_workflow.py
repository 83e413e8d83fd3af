"""The workflow for GitHub: what its table step does, and what actionlint says. Jobs run at GitHub only."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / ".github/workflows/ci.yml"
BIN = Path(sys.executable).parent
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@localhost")
SUMMARY = Path("metrics/summary.json")


def script(name: str) -> str:
    (step,) = (each for each in YAML(typ="safe").load(CI)["jobs"]["metrics"]["steps"] if each.get("name") == name)
    return str(step["run"])


def git(repo: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *IDENTITY, *arguments], cwd=repo, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A clone, whose last commit is what pull requests begin from."""
    git(tmp_path, "clone", "-q", "--no-hardlinks", str(ROOT), "clone")
    return tmp_path / "clone"


def commit(repo: Path) -> str:
    git(repo, "commit", "-qam", "a change")
    return git(repo, "rev-parse", "HEAD")


def add_numbers(repo: Path, n: int) -> None:
    """Adds numbers to a metrics file, by names that no other has."""
    file = repo / SUMMARY
    content: dict[str, Any] = json.loads(file.read_text())
    file.write_text(json.dumps(content | {f"a_number_that_was_not_there_{i:05}": i for i in range(n)}))


def table(repo: Path, base: str, head: str) -> tuple[str, str]:
    """The comment and the summary that the step writes, run as GitHub runs it: bash -e."""
    summary = repo.parent / "summary.md"
    step = {"BASE": base, "HEAD": head, "GITHUB_STEP_SUMMARY": str(summary), "PATH": f"{BIN}:{os.environ['PATH']}"}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script("Table")]
    done = subprocess.run(command, cwd=repo, env=os.environ | step, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return (repo / "comment.md").read_text(), summary.read_text()


def test_the_comment_shows_the_branch_and_not_what_came_to_main_since(repo: Path) -> None:
    start = git(repo, "rev-parse", "HEAD")
    add_numbers(repo, 1)
    head = commit(repo)
    git(repo, "checkout", "-q", start)
    other = repo / SUMMARY
    other.write_text(json.dumps(json.loads(other.read_text()) | {"came_to_main_since": 1}))
    main = commit(repo)
    comment, summary = table(repo, main, head)
    rows = [line for line in comment.splitlines() if line.startswith("|")]
    assert comment.startswith("<!-- dvc metrics diff -->\n") and head in comment
    assert len(rows) == 3 and "a_number_that_was_not_there_00000" in rows[2]  # beneath two lines of head
    assert summary == comment and "came_to_main_since" not in comment


def test_where_no_metric_changed_the_comment_says_so(repo: Path) -> None:
    start = git(repo, "rev-parse", "HEAD")
    (repo / "README.md").write_text("other words\n")
    comment, _ = table(repo, start, commit(repo))
    assert comment.endswith("No metric changed.\n") and "|" not in comment


def test_a_table_too_long_for_a_comment_is_cut_and_whole_in_the_summary(repo: Path) -> None:
    start = git(repo, "rev-parse", "HEAD")
    add_numbers(repo, 1500)
    comment, summary = table(repo, start, commit(repo))
    *rows, last = comment.rstrip().splitlines()
    assert len(comment.encode()) < 65_536 < len(summary.encode())
    assert last == "The rest is in the summary of the job." and "there_01499" in summary
    assert [row for row in rows if row and not row.startswith(("|", "#", "<"))] == []
    assert all(row.endswith("|") for row in rows if row.startswith("|"))


def test_the_workflow_is_clean_to_actionlint() -> None:
    actionlint = shutil.which("actionlint", path=f"{BIN}:{os.environ['PATH']}")
    if not actionlint:
        pytest.skip("needs actionlint: requirements-system.in")
    found = subprocess.run([actionlint, str(CI)], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")
