"""`dartune import-pool`: records of other tools become a pool, and nothing of what they claim is believed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from dartune import cli
from dartune.errors import UserError
from dartune.pool.import_pool import import_pool
from dartune.pool.pool import POOL_SCHEMA, write_pool
from dartune.referee.referee import INTERPRETER
from dartune.referee.score import write_scored
from foreign_logs import EOH, EVOTUNE, FARTHEST, FUNSEARCH, LLM4AD, NEAREST, STAYS, TASK, completions, file_of, imported

ROOT = Path(__file__).parents[2]
PLACES = (Path("limits.json"), {}, Path("pool.parquet"), Path("pool.json"))
SETTINGS = {
    "method": "independent",
    "n_searches": 1,
    "batch_size": 4,
    "seed": 0,
    "temperature": 1.0,
    "top_p": 0.95,
    "max_new_tokens": 8,
}


# ---- duplicates, scores, what is said


def test_duplicates_are_dropped_to_the_byte() -> None:
    programs = [NEAREST, STAYS, NEAREST, f"{NEAREST}\n"]
    rows = imported(file_of([{"program": program} for program in programs]))
    assert [row["completion"] for row in rows] == [NEAREST, STAYS, f"{NEAREST}\n"]
    assert [row["id"][-6:] for row in rows] == ["000000", "000001", "000002"]


def test_one_line_says_what_came_in_and_what_to_do_next() -> None:
    records = [{"program": f"# {number}\n{NEAREST}", "score": 1.0} for number in range(4)]
    said = import_pool(TASK, [file_of([*records, EOH, EOH])], Path("imported"))
    assert said == (
        "imported/tsp_construct.parquet: 5 programs of 6 records, 1 duplicates dropped; scores are not taken over,"
        " since the referee always makes them anew. Next: `pool.source: imported` in params.yaml, then `dvc repro`"
    )


def test_importing_again_replaces_the_pool_and_says_so() -> None:
    assert completions(file_of([{"program": NEAREST}])) == [NEAREST]
    assert "tsp_construct.parquet (replaced): 1 programs" in import_pool(
        TASK, [file_of([{"program": STAYS}])], Path("imported")
    )
    assert pq.read_table("imported/tsp_construct.parquet")["completion"].to_pylist() == [STAYS]


def test_the_same_files_make_the_same_bytes() -> None:
    file = file_of([LLM4AD, EOH, EVOTUNE, FUNSEARCH])
    for folder in ("one", "two"):
        import_pool(TASK, [file], Path(folder))
    assert Path("one/tsp_construct.parquet").read_bytes() == Path("two/tsp_construct.parquet").read_bytes()


def test_records_without_a_program_are_dropped_and_counted_by_reason() -> None:
    records = [{"code": NEAREST}, {"code": None}, {"code": None}, {"code": " "}, {"score": 1}, {"code": [1]}]
    said = import_pool(TASK, [file_of(records)], Path("imported"))
    assert pq.read_table("imported/tsp_construct.parquet")["completion"].to_pylist() == [NEAREST]
    assert "1 programs of 6 records, 0 duplicates, 5 without a program (2 null, " in said
    assert "1 without a field for one" in said and "1 empty" in said and "1 no text" in said


def test_other_interpreters_that_judged_the_records_are_named() -> None:
    said = import_pool(TASK, [file_of([{"program": NEAREST, "interpreter": "Python 3.12.1, NumPy 2.0.0"}])], Path("i"))
    assert f"(theirs by Python 3.12.1, NumPy 2.0.0, here {INTERPRETER}: sums may differ)" in said


def test_a_pool_that_is_there_survives_a_broken_import() -> None:
    assert completions(file_of([{"program": NEAREST}])) == [NEAREST]
    with pytest.raises(UserError):
        import_pool(TASK, [file_of("{")], Path("imported"))
    assert [file.name for file in Path("imported").iterdir()] == ["tsp_construct.parquet"]
    assert pq.read_table("imported/tsp_construct.parquet")["completion"].to_pylist() == [NEAREST]


def test_the_command_writes_below_data_and_prints_one_line() -> None:
    files = str(file_of([LLM4AD])), str(file_of([EOH], "eoh.json"))
    command = [sys.executable, "-m", "dartune.cli", "import-pool", "--task", TASK, *files]
    done = subprocess.run(command, text=True, capture_output=True)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert done.stdout.startswith("data/imported/tsp_construct.parquet: 2 programs of 2 records, 0 duplicates")
    assert "`pool.source: data/imported`" in done.stdout
    assert len(pq.read_table("data/imported/tsp_construct.parquet")) == 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nowhere.json",), "nowhere.json: no such file or directory; expected records with a program"),
        ((".",), ".: no file of it has records; expected records"),
        (
            ("--task", "tsp_constuct", "nowhere.json"),
            "tasks: there is no task 'tsp_constuct'; did you mean 'tsp_construct'?",
        ),
    ],
)
def test_the_command_says_a_mistake_in_one_line(
    arguments: tuple[str, ...], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dartune", "import-pool", "--task", TASK, *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert capsys.readouterr() == ("", "")  # Python prints what sys.exit was given to stderr, and ends with status 1
    assert isinstance(left.value.code, str) and left.value.code.startswith(line) and "\n" not in left.value.code


# ---- an imported pool in the stages


def test_an_imported_pool_is_taken_whole_whatever_n_programs_is(capsys: pytest.CaptureFixture[str]) -> None:
    rows = imported(file_of([{"program": program} for program in (NEAREST, FARTHEST, STAYS)]))
    for n_programs in (2, 3, 100):
        write_pool(TASK, *PLACES, source="imported", n_programs=n_programs, **SETTINGS)
        assert pq.read_table("pool.parquet").to_pylist() == rows
        assert pq.read_schema("pool.parquet") == POOL_SCHEMA
        assert ("3 imported programs, all there are" in capsys.readouterr().out) == (n_programs != 3)


def test_the_first_programs_are_taken_and_the_rest_is_said() -> None:
    file = file_of([{"program": program} for program in (NEAREST, FARTHEST, NEAREST, STAYS)])
    said = import_pool(TASK, [file], Path("imported"), first=2)
    assert pq.read_table("imported/tsp_construct.parquet")["completion"].to_pylist() == [NEAREST, FARTHEST]
    assert "2 programs of 4 records, 1 duplicates dropped; 1 more left out by --first;" in said


def test_a_task_without_an_imported_pool_is_named_with_what_to_do() -> None:
    assert len(imported(file_of([{"program": NEAREST}]))) == 1
    with pytest.raises(UserError) as caught:
        write_pool("cvrp_construct", *PLACES, source="imported", n_programs=2, **SETTINGS)
    assert str(caught.value) == (
        "pool.source: imported holds a pool of tsp_construct and none of cvrp_construct; import one with `dartune"
        " import-pool FILE --task cvrp_construct`, or take cvrp_construct out of tasks in params.yaml"
    )


def test_a_table_with_other_columns_is_no_pool() -> None:
    Path("imported").mkdir()
    pq.write_table(pa.table({"program": [NEAREST]}), "imported/tsp_construct.parquet")
    with pytest.raises(UserError, match="has other columns than a pool"):
        write_pool(TASK, *PLACES, source="imported", n_programs=2, **SETTINGS)


def test_an_imported_pool_is_scored_by_the_referee_not_by_its_records() -> None:
    records = [
        {"program": STAYS, "score": 99.0},
        {"program": FARTHEST, "score": 50.0},
        {"completion": f"Nearest:\n```python\n{NEAREST}```\n", "score": -99.0},
    ]
    assert len(imported(file_of(records))) == 3
    write_pool(TASK, *PLACES, source="imported", n_programs=3, **SETTINGS)
    limits = {"max_slowdown": 1000.0, "memory_mib": 512, "cluster": None}
    write_scored(TASK, Path("pool.parquet"), Path("no_base"), Path("scored.parquet"), Path("score.json"), **limits)
    stays, farthest, nearest = pq.read_table("scored.parquet").to_pylist()
    assert (stays["status"], stays["score"]) == ("infeasible", None)
    assert farthest["status"] == nearest["status"] == "ok"
    assert farthest["score"] < nearest["score"] < 0  # minus the length of a tour
    assert nearest["score"] == pytest.approx(-sum(nearest["costs"]) / len(nearest["costs"]))
    assert nearest["program"] == NEAREST
    assert [row["id"] for row in (stays, farthest, nearest)] == [f"{TASK}-imported-00000{n}" for n in range(3)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with what the pool's stage depends on, whose pool is an imported one."""
    for name in ("dvc.yaml", "params.yaml", "presets", ".gitignore", "stages", "src", ".dvc/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    yaml = YAML()
    content = yaml.load(Path("params.yaml").read_text())
    content["tasks"] = [TASK]
    content["pool"]["source"] = "data/imported"
    yaml.dump(content, Path("params.yaml"))
    run("git", "init", "-q")
    import_pool(TASK, [file_of([{"program": NEAREST}])], cli.IMPORTED)
    return tmp_path


def run(*command: str) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dvc_reruns_the_pool_after_another_import_and_can_keep_the_imports(project: Path) -> None:
    stage = f"pool@{TASK}"
    assert "Running stage" in run("dvc", "repro", stage)
    assert pq.read_table(f"data/pool/{TASK}.parquet")["completion"].to_pylist() == [NEAREST]
    import_pool(TASK, [file_of([{"program": STAYS}])], cli.IMPORTED)
    assert f"Running stage '{stage}'" in run("dvc", "repro", stage)
    assert pq.read_table(f"data/pool/{TASK}.parquet")["completion"].to_pylist() == [STAYS]
    run("git", "add", "-A")
    assert "data/imported" not in run("git", "ls-files")  # git ignores it, and DVC can keep it
    run("dvc", "add", "data/imported")
    run("git", "add", "-A")
    assert [path for path in run("git", "ls-files").splitlines() if "imported" in path] == ["data/imported.dvc"]
    assert "Running stage" not in run("dvc", "repro", stage)
