"""Recorded pools in data/recorded, which are in git, and the script that makes them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recording import main, renamed

from dartune.models.fetch import KNOWN
from dartune.pool.pool import POOL_SCHEMA, read_imported_pool

RECORDED = Path(__file__).parents[2] / "data/recorded"
FILES = sorted(RECORDED.glob("*/*.parquet"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")


@each_file
def test_a_recorded_pool_is_read_as_a_source_and_its_ids_are_unique(file: Path) -> None:
    table = read_imported_pool(file.stem, file.parent)
    assert table is not None and set(table["task"].to_pylist()) == {file.stem}
    ids = table["id"].to_pylist()
    assert len(set(ids)) == len(ids) > 0
    assert {id for parents in table["parents"].to_pylist() for id in parents} <= {*ids, "template"}


@each_file
def test_the_card_of_a_recorded_pool_names_its_model_and_licence(file: Path) -> None:
    name = next(name for name in KNOWN if file.parent.name.startswith(name))
    card, weights = (file.parent / "README.md").read_text(), KNOWN[name]
    assert set(pq.read_table(file)["model"].to_pylist()) == {weights.digest}
    assert weights.digest in card and weights.hub in card and weights.licence in card and f"| {file.stem} |" in card


def test_all_recorded_pools_take_less_than_five_megabytes() -> None:
    assert FILES and sum(file.stat().st_size for file in FILES) < 5e6


def pool(method: str, completions: list[str]) -> pa.Table:
    rows = [
        {
            "id": f"tsp_construct-0-{number:06d}",
            "parents": ["template"] if number == 0 else ["tsp_construct-0-000000"],
            "task": "tsp_construct",
            "method": method,
            "operation": "m1",
            "model": KNOWN["smollm2-135m"].digest,
            "temperature": 1.0,
            "completion": completion,
            "n_prompt_tokens": 9,
            "n_tokens": 9,
            "finish": "stop",
        }
        for number, completion in enumerate(completions)
    ]
    return pa.Table.from_pylist(rows, schema=POOL_SCHEMA)


def test_two_pools_of_a_task_become_one_whose_programs_keep_their_parents() -> None:
    pools = {"eoh": ["a", "b"], "independent": ["c"]}
    rows = [row for method, answers in pools.items() for row in renamed(pool(method, answers), method).to_pylist()]
    assert [row["id"] for row in rows] == [
        "eoh-tsp_construct-0-000000",
        "eoh-tsp_construct-0-000001",
        "independent-tsp_construct-0-000000",
    ]
    assert [row["parents"] for row in rows] == [["template"], ["eoh-tsp_construct-0-000000"], ["template"]]


def test_the_card_counts_what_the_referee_makes_of_each_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    nearest = "def select_next_node(c, d, u, m):\n    return min(u, key=lambda x: m[c][x])\n"
    farthest = "def select_next_node(c, d, u, m):\n    return u[-1]\n"
    pq.write_table(pool("independent", [nearest, farthest, "no program", nearest]), "one.parquet")
    pq.write_table(pool("eoh", [farthest, farthest]), "two.parquet")
    monkeypatch.setattr("sys.argv", ["recording.py", "smollm2-135m", "one.parquet", "two.parquet"])
    main()
    table = read_imported_pool("tsp_construct", Path("smollm2-135m"))
    expected = [nearest, farthest, "no program", nearest, farthest, farthest]
    assert table is not None and table["completion"].to_pylist() == expected
    printed = capsys.readouterr().out
    assert "| tsp_construct | independent | 1.0 | None | None | 4 | 0.750 | 2 | 0.667 | 0 |" in printed
    assert "| tsp_construct | eoh | 1.0 | None | None | 2 | 1.000 | 1 | 0.000 | 0 |" in printed
    assert "| tsp_construct | independent | m1 | 3 | 0.667 | 0.333 | 0.000 |" in printed
    assert "| tsp_construct | eoh | m1 | 1 | 1.000 | 0.000 | 0.000 |" in printed
    assert "| tsp_construct | eoh | 2 | 1.000 | 1 | 0." in printed  # the first of equals, on test instances
    assert printed.strip() in Path("smollm2-135m/README.md").read_text()


def test_a_recording_that_is_added_to_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recorded = "smollm2-135m/tsp_construct.parquet"
    for name, answers in {"independent": ["a", "b"], "eoh": ["c"], "climb": ["d"]}.items():
        pq.write_table(pool(name, answers), f"{name}.parquet")
    monkeypatch.setattr("sys.argv", ["recording.py", "smollm2-135m", "independent.parquet", "eoh.parquet"])
    main()
    first = pq.read_table(recorded).to_pylist()
    monkeypatch.setattr("sys.argv", ["recording.py", "smollm2-135m", recorded, "climb.parquet"])
    main()
    assert pq.read_table(recorded).to_pylist()[:-1] == first
    assert Path("smollm2-135m/README.md").read_text().count("| tsp_construct |") >= 3
