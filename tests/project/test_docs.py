"""What the pages say exists, exists: files, make targets, links, entries of the log; and what is drawn is the code."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dartune.tasks.task import names

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "LOG.md", *(ROOT / "docs").glob("*.md")])
FOLDERS = "src|stages|flows|tests|metrics|models|benchmarks|docs|presets|servers|experiments"
WRITTEN = (
    "data/",
    "report/",
    "models/base",
    "models/tuned",
    "models/final",
    *(f"metrics/{name}" for name in ("evaluate", "pool", "resources", "rounds", "sample", "score", "search")),
    *(f"metrics/{name}" for name in ("train", "transfer")),
    ".venv",
    ".work",
)  # by runs, so not in a fresh clone


def anchors(page: Path) -> set[str]:
    """Return the ids that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tree() -> Iterator[str]:
    """Yield the paths of README's tree. A line is two blanks per folder, a name, and a comment."""
    block = (ROOT / "README.md").read_text().split("## The tree\n\n```\n")[1].split("```")[0]
    folders: list[str] = []
    for line in block.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders = [*folders[:depth], name]
        yield "".join(folders).replace("<task>", "tsp_construct")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_make_targets_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in re.findall(r"`make ([a-z -]+)`", text):
        assert set(words.split()) <= targets
    for path in re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", text):
        path = path.replace("TASK", "tsp_construct")
        assert path.startswith(WRITTEN) or (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not link.startswith("http"):
            path, _, heading = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not heading or heading in anchors(target), link


def test_readme_is_a_tour_of_fewer_than_250_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 250


def test_the_tree_in_the_readme_names_every_module_and_no_other() -> None:
    named = set(tree())
    for path in named:
        assert path.startswith(WRITTEN) or (ROOT / path).exists(), path
    modules = {*(ROOT / "src/dartune").rglob("*.py"), *(ROOT / "flows").glob("*.py")}
    found = {str(file.relative_to(ROOT)) for file in modules if file.name != "__init__.py"}
    tasks = [f"src/dartune/tasks/{name}/" for name in names() if name != "tsp_construct"]  # the one that is shown
    folders = ("src/dartune/authoring/new_task/", "src/dartune/pool/methods/", *tasks)
    assert {path for path in found if not path.startswith(folders)} <= named


def test_the_log_begins_with_links_to_all_of_its_entries() -> None:
    text = (ROOT / "LOG.md").read_text()
    contents = re.findall(r"^- \[(.+)\]\(#", text.split("## Contents")[1].split("\n## ")[0], re.MULTILINE)
    assert contents == re.findall(r"^## (?!Contents)(.+)$", text, re.MULTILINE)


def test_the_glossary_has_at_most_fifteen_words() -> None:
    rows = re.findall(r"^\| (.+?) \|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    assert len(rows) - 1 <= 15


def test_the_drawings_of_the_architecture_are_up_to_date() -> None:
    command = [sys.executable, "docs/architecture.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stderr == ""
