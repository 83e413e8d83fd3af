"""A search as a whole, with the real referee: its rows, and what becomes of odd completions."""

import re
from contextlib import chdir
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dartune.pool.ask_tell import methods
from dartune.pool.search_loop import TEMPLATE_ID
from dartune.programs.verdict import STATUSES
from dartune.referee.referee import Referee
from replayed_search import NAME, SEARCHES, TASK, Killed, Replaying, explored, text


@pytest.fixture(scope="module")
def found(referee: Referee, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """40 rows of each method: the last batch is not full."""
    with chdir(tmp_path_factory.mktemp("found")):
        return {name: explored(name, Replaying(), referee, n=40) for name in methods()}


@pytest.mark.parametrize("name", methods())
def test_each_evaluation_is_a_row_with_its_number_and_generation(name: str, found: Any) -> None:
    rows = found[name]
    assert [row["id"] for row in rows] == [f"tsp_construct-0-{i:06d}" for i in range(40)]
    assert [row["generation"] for row in rows] == [i // 6 for i in range(40)]  # all four write 6 at a time


@pytest.mark.parametrize("name", methods())
def test_a_row_has_the_programs_verdict_or_the_reason_why_there_is_none(name: str, found: Any, referee: Any) -> None:
    statuses = set()
    for row in found[name]:
        assert (row["score"] is None) == (row["costs"] is None) == (row["status"] != "ok") == (row["reason"] != "")
        assert row["status"] in STATUSES and (row["program"] is None) == (row["status"] in ("no_program", "syntax"))
        statuses.add(row["status"])
    assert statuses >= {"ok", "no_program", "syntax", "runtime"}
    valid = [row for row in found[name] if row["status"] == "ok"]
    for row, verdict in zip(valid, referee.judge([row["program"] for row in valid]), strict=True):
        assert (row["score"], tuple(row["costs"])) == (verdict.score, verdict.costs)


@pytest.mark.parametrize("name", SEARCHES)
def test_each_parent_is_the_template_or_a_valid_row_of_an_earlier_batch(name: str, found: Any) -> None:
    earlier: dict[str, int] = {TEMPLATE_ID: -1}
    for row in found[name]:
        assert all(earlier[parent] < row["generation"] for parent in row["parents"])
        if row["status"] == "ok":
            earlier[row["id"]] = row["generation"]
    assert any(parent != TEMPLATE_ID for row in found[name] for parent in row["parents"])


@pytest.mark.parametrize("name", SEARCHES)
def test_the_programs_of_the_parents_stand_in_the_prompt_in_order(name: str, found: Any) -> None:
    programs = {row["id"]: row["program"] for row in found[name]}
    for row in found[name]:
        blocks = row["prompt"].split("```python\n")[1:]
        assert len(blocks) == len(row["parents"]) + 1
        for i, (parent, block) in enumerate(zip(row["parents"], blocks, strict=False)):
            shown = block.split("```")[0].replace(f"{NAME}_v{i}", NAME)
            if parent == TEMPLATE_ID:
                assert '"""' not in shown and shown.endswith("return unvisited_nodes[0]\n")
            else:
                assert shown == programs[parent]
        assert blocks[-1].count('"""') == 2  # what is asked for has its docstring


def test_the_operations_are_those_of_the_method(found: Any) -> None:
    operations = {name: [row["operation"] for row in found[name]] for name in methods()}
    assert set(operations["independent"]) == {"sample"} and set(operations["funsearch"]) == {"version"}
    assert operations["climb"] == ["m1", "m2"] * 20
    assert operations["eoh"] == ["i1"] * 12 + ["e1"] * 6 + ["e2"] * 6 + ["m1"] * 6 + ["m2"] * 6 + ["e1"] * 4
    assert {row["island"] for row in found["funsearch"]} == {0, 1}
    assert {row["island"] for name in ("independent", "climb", "eoh") for row in found[name]} == {-1}


def test_a_thought_is_shown_with_its_program(found: Any) -> None:
    rows = {row["id"]: row for row in found["eoh"]}
    for row in found["eoh"][12:]:
        for number, parent in enumerate(row["parents"], 1):
            thought = re.findall("{(Idea .*)}", rows[parent]["completion"])[0]
            assert f"\n\nProgram {number}. {thought}\n```python\n" in row["prompt"]


@pytest.mark.parametrize("name", methods())
def test_the_same_seed_gives_the_same_rows_and_another_one_others(name: str, found: Any, referee: Any) -> None:
    backend = Replaying()
    assert explored(name, backend, referee, n=40) == found[name]
    assert sum(backend.asked) == 40
    others = explored(name, Replaying(), referee, n=40, seed=1)
    assert {row["completion"] for row in others} != {row["completion"] for row in found[name]}
    assert {row["id"] for row in others}.isdisjoint(row["id"] for row in found[name])


def test_sampling_needs_no_referee_and_judges_nothing() -> None:
    rows = explored("independent", Replaying(), None)
    judged = ("program", "status", "reason", "score", "costs", "behaviour", "signature", "missing_layers")
    assert {row[name] for row in rows for name in judged} == {None}
    assert {row["prompt"] for row in rows} == {TASK.prompt}
    assert not Path(".work/verdicts").exists()


def test_every_finished_completion_is_counted_also_those_of_an_earlier_run(referee: Referee) -> None:
    first, second = Replaying(), Replaying()
    first.die_at = 4
    with pytest.raises(Killed):
        explored("eoh", first, referee)
    explored("eoh", second, referee)
    assert (first.counted, second.counted) == (24, 36)


# ---- what models write and cannot read

HEAD = f"def {NAME}(current_node, destination_node, unvisited_nodes, distance_matrix):\n"
ODD = {
    "empty": "",
    "blanks": " \n\t\n",
    "half a character": f"{HEAD}    return unvisited_nodes['\ud83d']\n",
    "half a character in words": "I \udcff would take the nearest city.",
    "NUL": f"{HEAD}    return unvisited_nodes['\x00']\n",
    "control characters": "\x1b[31m\x07\x0c\x1c\u2028\ufeff",
    "deep": f"{HEAD}    return {'(' * 5000}{')' * 5000}\n",
    "long": f"{HEAD}    return unvisited_nodes[{'0 + ' * 20_000}no]\n",
    "a number without end": f"{HEAD}    return {'9' * 5000}\n",
    "a version without end": f"def {NAME}_v{'1' * 5000}(a, b, c, d):\n    return no\n",
    "a thought without end": "{" * 20_000,
}


@pytest.mark.parametrize("name", ["eoh", "funsearch"])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_completion_becomes_a_failure_and_the_search_goes_on(name: str, odd: str, referee: Referee) -> None:
    def write(prompt: str, rng: Random) -> str:
        return odd if rng.random() < 0.5 else text(prompt, rng)

    rows = explored(name, Replaying(write=write), referee, n=18)
    statuses = [row["status"] for row in rows]
    assert statuses.count("ok") > 2 and len(statuses) - statuses.count("ok") > 6


def test_a_function_under_another_name_is_taken_where_it_is_the_only_one(referee: Referee) -> None:
    def write(prompt: str, rng: Random) -> str:
        return f"def choose(a, b, c, d):\n    # {rng.random()}\n    return c[-1]\n"

    rows = explored("climb", Replaying(write=write), referee, n=12)
    assert {row["status"] for row in rows} == {"ok"}
    assert all(row["program"].endswith(f"{NAME} = choose\n") for row in rows)
