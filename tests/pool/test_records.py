"""Records in the files of other tools, whatever their shape, and files that hold none."""

import csv
import hashlib
import json
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dartune.errors import UserError
from dartune.pool.import_pool import import_pool
from dartune.pool.pool import POOL_SCHEMA
from dartune.programs.extract import extract
from dartune.tasks.task import Task
from foreign_logs import (
    EOH,
    EVOTUNE,
    FARTHEST,
    FUNSEARCH,
    LLM4AD,
    NEAREST,
    STAYS,
    TASK,
    completions,
    file_of,
    imported,
    lines,
)

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


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("exploded").touch, ())


def test_a_pickle_is_refused_and_not_run() -> None:
    with pytest.raises(UserError, match="a binary file"):
        import_pool(TASK, [file_of(pickle.dumps(Bomb()), "programbank.pkl")], Path("imported"))
    assert not Path("exploded").exists()
