"""Habits of programs that others wrote: what they may do to their arguments, what they remember, old names of NumPy."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from dartune.programs.verdict import Verdict
from dartune.referee.completions import judge
from dartune.referee.referee import Referee
from dartune.tasks.task import Task

ROOT = Path(__file__).parents[2]
TSP = "def select_next_node(current_node, destination_node, unvisited_nodes, distance_matrix):\n    {}\n"
CVRP = "def select_next_node(current_node, depot, unvisited_nodes, rest_capacity, demands, distance_matrix):\n    {}\n"
NEAREST = -6.8240  # on LLM4AD's instances, as LLM4AD measures it
SECOND_FROM_25_ON = -10.9087
WITH_STATE = """
class Rule:
    def __init__(self):
        self.step = 0

    def {method}(self, current_node, destination_node, unvisited_nodes, distance_matrix):
        self.step += 1
        return unvisited_nodes[1 if self.step >= 25 and len(unvisited_nodes) > 1 else 0]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("habits")


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def score(task: str, *completions: str) -> list[Verdict]:
    with Referee(Task(task), "llm4ad", max_slowdown=1000, memory_mib=512) as referee:
        return [one.verdict for one in judge(referee, list(completions))]


def test_a_write_to_an_argument_lasts_for_one_call() -> None:
    nearest = "distances = [distance_matrix[current_node][node] for node in unvisited_nodes]; {}; return "
    nearest += "unvisited_nodes[distances.index(min(distances))]"
    writes = [
        "demands[unvisited_nodes[0]] = 0",
        "demands -= 1",
        "distance_matrix[:] = 0",
        "distance_matrix.fill(1)",
        "unvisited_nodes[:] = unvisited_nodes[::-1].copy(); distances.reverse()",
    ]
    alone, *after = score("cvrp_construct", *[CVRP.format(nearest.format(write)) for write in ("pass", *writes)])
    assert round(alone.score or 0, 4) == -13.6108
    assert [(verdict.status, verdict.score) for verdict in after] == [("ok", alone.score)] * len(writes)


def test_arrays_of_programs_that_write_nothing_cannot_be_written() -> None:
    # By a way that its text does not show; a copy for everybody would cost more than most calls.
    (verdict,) = score(
        "tsp_construct", TSP.format("setattr(distance_matrix, 'fl' + 'at', 0); return unvisited_nodes[0]")
    )
    assert (verdict.status, "read-only" in verdict.reason) == ("runtime", True)


def test_a_class_has_one_object_for_a_program() -> None:
    # for all of its calls and instances, as with LLM4AD; one for each call would never get to step 25
    programs = [
        WITH_STATE.format(method="select_next_node"),
        WITH_STATE.format(method="__call__") + "\nselect_next_node = Rule()\n",
    ]
    for verdict in score("tsp_construct", *programs):
        assert (verdict.status, round(verdict.score or 0, 4)) == ("ok", SECOND_FROM_25_ON)


@pytest.mark.parametrize("name", ["np.Inf", "np.infty", "np.float_(1)", "np.product([1, 2])", "np.alltrue([True])"])
def test_names_that_numpy_removed_mean_what_they_meant(name: str) -> None:
    (verdict,) = score("tsp_construct", TSP.format(f"return unvisited_nodes[0 if {name} else 1]"))
    assert (verdict.status, round(verdict.score or 0, 4)) == ("ok", NEAREST)


def test_minus_infinity_is_the_last_priority_and_nan_is_refused() -> None:
    texts = ["-float('inf') if el[0] == 2 else sum(el)", "-1000.0 if el[0] == 2 else sum(el)"]
    low, finite = score("admissible_set", *[f"def priority(el, n, w):\n    return {text}\n" for text in texts])
    assert low.status == "ok" and low.costs == finite.costs and low.behaviour == finite.behaviour
    for value in ("nan", "inf"):
        (verdict,) = score("admissible_set", f"def priority(el, n, w):\n    return float('{value}')\n")
        assert (verdict.status, verdict.reason) == ("nonfinite", f"a number is {value}")


def test_modules_that_are_missing_are_named() -> None:
    (verdict,) = score("tsp_construct", "import scipy.spatial\n" + TSP.format("return scipy.spatial and 0"))
    assert (verdict.status, verdict.reason) == (
        "import",
        "No module named 'scipy'; programs have Python's library and numpy",
    )


def test_answers_of_a_real_small_model_get_the_verdicts_of_their_functions() -> None:
    rows = YAML(typ="safe").load((ROOT / "tests/programs/real_answers.yaml").read_text())
    for row, verdict in zip(rows, score("tsp_construct", *[row["answer"] for row in rows]), strict=True):
        if isinstance(row["right"], list):
            status, reason = row["right"]
            assert (verdict.status, reason in verdict.reason) == (status, True), (row["answer"], verdict.reason)
        else:
            assert (verdict.status, round(-(verdict.score or 0), 4)) == ("ok", row["right"]), row["answer"]
