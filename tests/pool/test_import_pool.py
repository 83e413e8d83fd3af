"""`dartune import-pool`: records of other tools become a pool, and nothing of what they claim is believed."""

import csv
import hashlib
import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from dartune import cli
from dartune.errors import UserError
from dartune.pool.import_pool import import_pool
from dartune.pool.pool import POOL_SCHEMA, write_pool
from dartune.programs.extract import extract
from dartune.referee.referee import INTERPRETER
from dartune.referee.score import write_scored
from dartune.tasks.task import Task

ROOT = Path(__file__).parents[2]
TASK = "tsp_construct"
NEAREST = "def select_next_node(c, d, u, m):\n    return u[0]\n"
FARTHEST = "def select_next_node(c, d, u, m):\n    return u[-1]\n"
STAYS = "def select_next_node(c, d, u, m):\n    return c\n"
PLACES = (Path("limits.json"), {}, Path("pool.parquet"), Path("pool.json"))
SETTINGS = {"method": "independent", "batch_size": 4, "seed": 0, "temperature": 1.0, "top_p": 0.95, "max_new_tokens": 8}

# One record of each tool, as it writes them. LLM4AD: str(Function) ends with an empty line.
LLM4AD = {
    "sample_order": 1,
    "algorithm": "{The node that is nearest.}",
    "function": f"{NEAREST}\n",
    "score": -7.03,
    "program": f"import numpy as np\n\n{NEAREST}\n",
}
EOH = {"algorithm": None, "code": f"import numpy as np\n\n{NEAREST}", "objective": 0.03984, "other_inf": None}
EVOTUNE = {
    "function_str": FARTHEST,
    "imports_str": "import numpy as np",
    "score": -412.0,
    "true_score": float("nan"),
    "fail_flag": 0,
    "fail_exception": "",
    "correct_flag": 1,
    "chat": [{"role": "user", "content": "Write heuristics()."}, {"role": "assistant", "content": "Sure!"}],
    "prompt": {"island_id": 3, "min_prompt_score": -430.0, "temperature": 0.9},
    "eval": {"idx_process": -1, "weight_key": []},
    "function_num": 12,
    "prompt_num": 4,
}
FUNSEARCH = {
    "name": "select_next_node",
    "args": "here, home, left, m",
    "body": "  best = left[0]\n\n  return best",
    "return_type": "int",
    "docstring": None,
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def file_of(content: Any, name: str = "pool.json") -> Path:
    """A file with this text, these bytes, or this value as JSON."""
    content = content if isinstance(content, str | bytes) else json.dumps(content, indent=4)
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(name)


def lines(*records: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def imported(*files: Path, task: str = TASK) -> list[dict[str, Any]]:
    import_pool(task, list(files), Path("imported"))
    return list(pq.read_table(f"imported/{task}.parquet").to_pylist())


def completions(*files: Path, task: str = TASK) -> list[str]:
    return [row["completion"] for row in imported(*files, task=task)]


# ---- what can be read


def test_a_program_becomes_a_row_of_a_pool_with_null_for_what_is_unknown() -> None:
    file = file_of(lines({"program": NEAREST, "score": -7.0}))
    assert imported(file) == [
        {
            **dict.fromkeys(POOL_SCHEMA.names),
            "id": "tsp_construct-imported-000000",
            "task": TASK,
            "method": "imported",
            "prompt": Task(TASK).prompt,
            "completion": NEAREST,
            "finish": "imported",
            "model": f"imported:{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}",
        }
    ]
    assert pq.read_schema("imported/tsp_construct.parquet") == POOL_SCHEMA


def test_prompt_and_model_of_a_record_are_kept() -> None:
    row = imported(file_of(lines({"completion": "Sure!", "prompt": "Write it.", "model": "gpt-4o"})))[0]
    assert (row["completion"], row["prompt"], row["model"]) == ("Sure!", "Write it.", "gpt-4o")


def test_a_completion_stays_as_the_model_wrote_it() -> None:
    answer = f"Here it is:\n```python\n{NEAREST}```\nIt takes the nearest."
    assert completions(file_of(lines({"completion": answer, "program": NEAREST}))) == [answer]


@pytest.mark.parametrize(
    "content",
    [
        [{"program": NEAREST}, {"program": STAYS}],
        lines({"program": NEAREST}, {"program": STAYS}),
        lines({"program": NEAREST}, {"program": STAYS}).replace("\n", "\r\n\r\n"),
        "\ufeff" + lines({"program": NEAREST}, {"program": STAYS}),
    ],
    ids=["list", "lines", "lines of Windows", "with a byte order mark"],
)
def test_json_and_json_lines_hold_the_same_records(content: Any) -> None:
    assert completions(file_of(content)) == [NEAREST, STAYS]


def test_a_file_may_be_one_record() -> None:
    # as RayZhhh/funsearch writes: samples_7.json
    assert completions(file_of({"sample_order": 7, "function": NEAREST, "score": None})) == [NEAREST]


def test_any_text_comes_through_unchanged() -> None:
    program = '# naïve — 最近邻 🧭\u2028\u0085\n"""\\n \x0c"""\n' + NEAREST
    text = json.dumps({"program": program}, ensure_ascii=False)
    assert completions(file_of(f"{text}\n{lines({'program': STAYS})}")) == [program, STAYS]


def test_of_llm4ad_the_whole_program_is_taken() -> None:
    assert completions(file_of([LLM4AD], "samples_1~200.json")) == [LLM4AD["program"]]


def test_of_llm4ad_the_function_is_taken_where_the_program_is_empty() -> None:
    assert completions(file_of([LLM4AD | {"program": ""}])) == [LLM4AD["function"]]


def test_llm4ads_best_samples_repeat_the_others_and_are_dropped() -> None:
    second = LLM4AD | {"sample_order": 201, "function": STAYS, "program": STAYS, "score": None}
    files = [file_of([LLM4AD], "samples_1~200.json"), file_of([second], "samples_201~400.json")]
    best = file_of([LLM4AD | {"program": ""}], "samples_best.json")
    assert completions(*files, best) == [LLM4AD["program"], STAYS]


def test_each_row_names_its_own_file() -> None:
    one, two = file_of([{"program": NEAREST}], "one.json"), file_of([{"program": STAYS}], "two.json")
    assert len({row["model"] for row in imported(one, two)}) == 2


def test_of_eoh_the_code_is_taken() -> None:
    assert completions(file_of([EOH])) == [EOH["code"]]


def test_of_evotune_the_imports_come_before_the_function() -> None:
    row = imported(file_of(json.dumps(EVOTUNE)))[0]
    assert row["completion"] == f"import numpy as np\n{FARTHEST}"
    assert row["prompt"] == Task(TASK).prompt


def test_of_evotune_a_function_without_imports_stands_alone() -> None:
    assert completions(file_of([EVOTUNE | {"imports_str": ""}])) == [FARTHEST]


def test_of_funsearch_the_body_gets_a_head_with_its_own_arguments() -> None:
    expected = "def select_next_node(here, home, left, m):\n  best = left[0]\n\n  return best\n"
    assert completions(file_of([FUNSEARCH])) == [expected]


@pytest.mark.parametrize("body", ["\n    return unvisited_nodes[0]\n\n", "return unvisited_nodes[0]"])
def test_a_bare_body_gets_the_signature_of_the_template(body: str) -> None:
    expected = f"{Task(TASK).signature}\n    return unvisited_nodes[0]\n"
    assert completions(file_of([{"body": body}])) == [expected]


def test_every_shape_holds_a_program_that_the_stages_find() -> None:
    versioned = {"function": "def priority_v2(el, n, w):\n    return 0.0\n"}
    for record, task in [
        *((r, TASK) for r in (LLM4AD, EOH, EVOTUNE, FUNSEARCH)),
        (versioned, "admissible_set"),
        ({"body": "  return 0.0"}, "admissible_set"),
    ]:
        rule = Task(task).rollout
        extracted = extract(
            completions(file_of([record]), task=task)[0], rule.FUNCTION, rule.N_ARGUMENTS, Task(task).template
        )
        names: dict[str, Any] = {}
        exec(extracted.program, names)
        assert callable(names[rule.FUNCTION])


# ---- files of other shapes


def table_of(name: str, rows: list[dict[str, Any]]) -> Path:
    """A table as CSV, Parquet or SQLite, by the name's suffix."""
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), name)
    elif name.endswith(".csv"):
        with open(name, "w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        with closing(sqlite3.connect(name)) as database, database:
            names = ", ".join(rows[0])
            database.execute("CREATE TABLE metadata (key TEXT)")
            database.execute(f"CREATE TABLE programs ({names})")
            marks = ", ".join("?" * len(rows[0]))
            database.executemany(f"INSERT INTO programs VALUES ({marks})", [tuple(row.values()) for row in rows])
    return Path(name)


CHAT = [{"role": "user", "content": "Write it."}, {"role": "assistant", "content": NEAREST}]
JSON_SHAPES = {
    "one object that holds a list": {"task": "tsp", "samples": [{"program": NEAREST}]},
    "lists by island": {"islands": [{"programs": [{"code": NEAREST}]}, {"programs": []}]},
    "a map of names to programs": {"nearest": NEAREST, "comment": "the best of run 3"},
    "a list of programs": [NEAREST],
    "programs by their ids": {"programs": {"a1": {"code": NEAREST, "metrics": {"score": 1}}}, "best_program_id": "a1"},
    "messages": [{"messages": CHAT}],
    "choices with messages": [{"choices": [{"index": 0, "message": {"role": "assistant", "content": NEAREST}}]}],
    "choices with texts": [{"choices": [{"text": NEAREST}]}],
    "response": [{"prompt": "Write it.", "response": NEAREST}],
    "a prompt with the given program, and a text": [{"prompt": f"Improve:\n{STAYS}", "text": NEAREST}],
    "outputs beside a prompt": [{"prompt": f"Improve:\n{STAYS}", "outputs": [{"text": NEAREST}]}],
    "a name and a hash in fields for programs": [{"function": "select_next_node", "program": "v1.2", "code": NEAREST}],
    "programs below a hash": {"code": "4b8b4e7", "generations": [{"code": NEAREST}]},
    "the output of a batch": [{"response": {"status_code": 200, "body": {"choices": [{"text": NEAREST}]}}}],
    "messages of parts": [{"messages": [{"role": "assistant", "content": [{"type": "text", "text": NEAREST}]}]}],
    "a courtesy after the program": [{"messages": [*CHAT, {"role": "assistant", "content": "You are welcome!"}]}],
}


@pytest.mark.parametrize("content", JSON_SHAPES.values(), ids=JSON_SHAPES)
def test_json_holds_its_programs_wherever_they_lie(content: Any) -> None:
    assert completions(file_of(content)) == [NEAREST]


def test_each_of_several_choices_is_a_program() -> None:
    answer = {"choices": [{"text": NEAREST}, {"message": {"role": "assistant", "content": STAYS}}]}
    assert completions(file_of([answer])) == [NEAREST, STAYS]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_of_text_may_have_other_delimiters(delimiter: str) -> None:
    quoted = [text.replace('"', '""') for text in (NEAREST, STAYS)]
    file = file_of(
        f"id{delimiter}code\n" + "".join(f'{n}{delimiter}"{text}"\n' for n, text in enumerate(quoted)), "a.CSV"
    )
    assert completions(file) == [NEAREST, STAYS]


@pytest.mark.parametrize("name", ["log.csv", "log.parquet", "log.sqlite", "evolution_db.db"])
def test_a_table_holds_programs_in_a_column_that_is_known_or_named(name: str) -> None:
    rows = [{"id": 1, "code": f'{NEAREST}# a, "b"\n', "answer": STAYS}, {"id": 2, "code": FARTHEST, "answer": STAYS}]
    file = table_of(name, rows)
    assert completions(file) == [row["code"] for row in rows]
    import_pool(TASK, [file], Path("imported"), column="answer")
    assert pq.read_table("imported/tsp_construct.parquet")["completion"].to_pylist() == [STAYS]


def test_a_folder_holds_the_programs_of_all_its_files(capsys: pytest.CaptureFixture[str]) -> None:
    Path("checkpoint_10/programs").mkdir(parents=True)
    for name, program in (("b", STAYS), ("a", NEAREST)):
        file_of({"id": name, "code": program, "language": "python"}, f"checkpoint_10/programs/{name}.json")
    file_of([1, 2], "checkpoint_10/scores.json")
    file_of(f"Farthest:\n```python\n{FARTHEST}```\n", "checkpoint_10/answer.md")
    assert completions(Path("checkpoint_10")) == [f"Farthest:\n```python\n{FARTHEST}```\n", NEAREST, STAYS]
    assert capsys.readouterr().err.startswith("left out: checkpoint_10/scores.json: record 1 is 1; expected")


def test_records_without_a_program_are_dropped_and_counted_by_reason() -> None:
    records = [{"code": NEAREST}, {"code": None}, {"code": None}, {"code": " "}, {"score": 1}, {"code": [1]}]
    said = import_pool(TASK, [file_of(records)], Path("imported"))
    assert pq.read_table("imported/tsp_construct.parquet")["completion"].to_pylist() == [NEAREST]
    assert "1 programs of 6 records, 0 duplicates, 5 without a program (2 null, " in said
    assert "1 without a field for one" in said and "1 empty" in said and "1 no text" in said


def test_other_interpreters_that_judged_the_records_are_named() -> None:
    said = import_pool(TASK, [file_of([{"program": NEAREST, "interpreter": "Python 3.12.1, NumPy 2.0.0"}])], Path("i"))
    assert f"(theirs by Python 3.12.1, NumPy 2.0.0, here {INTERPRETER}: sums may differ)" in said


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


# ---- mistakes

BROKEN = [
    ("", "pool.json: there is no record in it"),
    (" \n\n", "pool.json: there is no record in it"),
    ("[]", "pool.json: there is no record in it"),
    (lines({"program": NEAREST}) * 2 + '{"program": "def', "pool.json: line 3 is not JSON (unterminated string"),
    ('{"program": "def\n' + lines({"program": NEAREST}), "pool.json: line 1 is not JSON (invalid control character"),
    ('[\n    {"program": "a"},\n    {"program"', "pool.json: line 3 is not JSON (expecting ':' delimiter"),
    ("# Score: 3\n\ndef f(): ...", "pool.json: line 1 is not JSON (expecting value)"),
    ("[" * 100_000, "pool.json: line 1 is not JSON (maximum recursion depth"),
    ("1" * 5000, "pool.json: line 1 is not JSON (exceeds the limit"),
    ('"nearest"', 'pool.json: record 1 is "nearest"; expected'),
    ([{"program": NEAREST}, 7], "pool.json: record 2 is 7; expected"),
    (lines({"program": NEAREST}) + "[1]", "pool.json: line 2 is [1]; expected"),
    ([{"score": 1}], "pool.json: record 1 has no program, only score; expected text in one of"),
    ({}, "pool.json: record 1 has no program, only nothing; expected"),
    ([{"program": ""}], "pool.json: record 1 has no program, only program; expected"),
    ([{"program": {"score": 1}}], "pool.json: record 1 has no program, only program; expected"),
    ([{"code": None, "objective": None}], "pool.json: record 1 has no program, only code, objective; expected"),
    (b"SQLite format 3\0", "pool.json: SQLite cannot read it ("),
    (b"PAR1", "pool.json: "),
    (b"\x89PNG\r\n\x1a\n\0\0", "pool.json: a binary file; "),
    ('[{"program": "\\ud83e"}]', "pool.json: record 1 holds half a character (\\ud83e); repair it"),
    (b'{"program": "caf\xe9"}', "pool.json: line 1 is not UTF-8 text; "),
]


@pytest.mark.parametrize(("content", "message"), BROKEN, ids=[message[11:60] for _, message in BROKEN])
def test_a_broken_file_is_named_with_the_place_and_nothing_is_written(content: Any, message: str) -> None:
    bad = file_of(content)
    with pytest.raises(UserError) as caught:
        import_pool(TASK, [bad], Path("imported"))
    assert message in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 250
    assert not Path("imported").exists()


def test_a_pool_that_is_there_survives_a_broken_import() -> None:
    assert completions(file_of([{"program": NEAREST}])) == [NEAREST]
    with pytest.raises(UserError):
        import_pool(TASK, [file_of("{")], Path("imported"))
    assert [file.name for file in Path("imported").iterdir()] == ["tsp_construct.parquet"]
    assert pq.read_table("imported/tsp_construct.parquet")["completion"].to_pylist() == [NEAREST]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("exploded").touch, ())


def test_a_pickle_is_refused_and_not_run() -> None:
    with pytest.raises(UserError, match="a binary file"):
        import_pool(TASK, [file_of(pickle.dumps(Bomb()), "programbank.pkl")], Path("imported"))
    assert not Path("exploded").exists()


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
