"""`dartune score`: a person's programs, judged as a model's are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dartune.tasks.task import Task

NEAREST = "def select_next_node(c, d, u, m):\n    return u[0]\n"


def score(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dartune.cli", "score", "--task", "tsp_construct", *arguments]
    return subprocess.run(command, cwd=folder, input=stdin, text=True, capture_output=True)


def test_json_holds_one_object_per_program_and_line_with_known_answers(tmp_path: Path) -> None:
    (tmp_path / "nearest.py").write_text(NEAREST)
    (tmp_path / "cheat.py").write_text("def select_next_node(c, d, u, m):\n    return c\n")
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n" + NEAREST.encode())
    done = score(tmp_path, "--split", "llm4ad", "--json", "nearest.py", "cheat.py", "-", "latin.py", stdin="def f(:")
    nearest, cheat, piped, latin = [json.loads(line) for line in done.stdout.splitlines()]
    keys = ["file", "task", "split", "status", "reason", "score", "objective", "gap", "objectives", "cpu_s"]
    keys += ["extraction", "program"]
    assert done.returncode == 1 and all(list(record) == keys for record in (nearest, cheat, piped, latin))
    assert (nearest["file"], nearest["task"], nearest["split"]) == ("nearest.py", "tsp_construct", "llm4ad")
    assert (round(nearest["score"], 4), round(nearest["objective"], 4)) == (-6.8240, 6.8240)
    assert nearest["gap"] == pytest.approx(0.2002, abs=1e-4) and len(nearest["objectives"]) == 16
    assert sum(nearest["objectives"]) / 16 == pytest.approx(nearest["objective"]) and nearest["cpu_s"] > 0
    assert (cheat["status"], cheat["score"], cheat["objectives"]) == ("infeasible", None, None) and cheat["reason"]
    assert (piped["file"], piped["status"], latin["status"]) == ("-", "syntax", "ok")


def test_a_models_whole_answer_is_read_as_the_pipeline_reads_it(tmp_path: Path) -> None:
    draft = NEAREST.replace("u[0]", "u[-1]")
    answer = f"<think>\n```python\n{draft}```\n</think>\nThis is better:\n```python\n{NEAREST}print(1 / 0)\n```\nIt is."
    (tmp_path / "answer.md").write_text(answer)
    (tmp_path / "class.py").write_text(
        "class Rule:\n    def select_next_node(self, c, d, u, m):\n        return u[0]\n"
    )
    done = score(tmp_path, "--split", "llm4ad", "--json", "answer.md", "class.py")
    fenced, method = [json.loads(line) for line in done.stdout.splitlines()]
    assert (fenced["extraction"], fenced["program"], round(fenced["score"], 4)) == ("fenced", NEAREST, -6.8240)
    assert (method["extraction"], round(method["score"], 4)) == ("method", -6.8240)


def test_the_table_names_the_reference_and_shows_a_line_per_program(tmp_path: Path) -> None:
    (tmp_path / "nearest.py").write_text(NEAREST)
    done = score(tmp_path, "--split", "llm4ad", "nearest.py")
    assert "minimise mean tour length" in done.stdout and "reference 5.6859" in done.stdout
    assert done.stdout.splitlines()[-1].split()[:5] == ["nearest.py", "ok", "-6.8240", "6.8240", "20.02%"]


def test_columns_stand_below_each_other_whatever_the_paths(tmp_path: Path) -> None:
    deep = "a_folder_of_a_long_name/" * 4 + "nearest.py"
    for file in ("a.py", deep):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(NEAREST)
    lines = score(tmp_path, "--split", "llm4ad", "a.py", deep).stdout.splitlines()[-3:]
    assert len({line.index(word) for line, word in zip(lines, ("status", "ok", "ok"), strict=True)}) == 1
    assert len({line.index("-6.8240") for line in lines[1:]}) == 1


def test_the_default_split_is_no_test_instance(tmp_path: Path) -> None:
    record = json.loads(score(tmp_path, "--json", "-", stdin=NEAREST).stdout)
    assert record["split"] == "validation" and record["split"] in Task("tsp_construct").splits


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nowhere.py",), "nowhere.py: no such file or directory; expected a file with a program"),
        (("--split", "tests", "-"), "tsp_construct: there is no split 'tests'; did you mean 'test'?"),
        ((".",), ".: is a directory; expected a file with a program"),
    ],
)
def test_a_mistake_gets_one_line_before_anything_is_judged(
    tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    done = score(tmp_path, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line + "\n")


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").touch()  # as a project has it
    (tmp_path / ".work").write_text("in the way")
    done = score(tmp_path, "-", stdin=NEAREST)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(".work/verdicts/tsp_construct.sqlite: verdicts cannot be kept there (")


def test_outside_a_project_nothing_is_left_behind(tmp_path: Path) -> None:
    assert score(tmp_path, "-", stdin=NEAREST).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_closes_the_pipe_ends_it_quietly() -> None:
    command = f"{sys.executable} -m dartune.cli tasks | head -1"
    done = subprocess.run(["bash", "-c", command], text=True, capture_output=True)
    assert done.stdout.startswith("admissible_set: maximise") and done.stderr == ""
