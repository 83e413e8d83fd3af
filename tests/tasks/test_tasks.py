"""Known answers: values measured with LLM4AD (commit e8d848f) on its own instances, and cheats that must not score."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from references import shortest_walk

from dartune.programs.verdict import STATUSES, Verdict
from dartune.referee.referee import Referee
from dartune.tasks.task import Task, decisions_on, names

ROUTING = "def select_next_node(c, d, u, m):\n    {}\n"
VEHICLES = "def select_next_node(c, d, u, r, q, m):\n    {}\n"
PRIORITY = "def priority(el, n, w):\n    {}\n"


Judge = Callable[..., list[Verdict]]
LIMITS = {"max_slowdown": 1, "memory_mib": 256}


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    """judge(task, split, program, ...): verdicts of one referee for each task and split."""
    referees: dict[tuple[str, str], Referee] = {}
    with ExitStack() as stack:
        stack.enter_context(chdir(tmp_path_factory.mktemp("verdicts")))  # where none is cached

        def judged(task: str, split: str, *programs: str) -> list[Verdict]:
            if (task, split) not in referees:
                referees[task, split] = stack.enter_context(Referee(Task(task), split, **LIMITS))
            return referees[task, split].judge(programs)

        yield judged


KNOWN = [
    ("tsp_construct", "llm4ad", ROUTING.format("return u[0]"), -6.8240),
    ("tsp_construct", "llm4ad", ROUTING.format("return min(u, key=lambda x: m[c, x] - 0.3 * m[d, x])"), -6.5533),
    ("cvrp_construct", "llm4ad", Task("cvrp_construct").template, -15.0380),
    ("cvrp_construct", "llm4ad", VEHICLES.format("return min(u, key=lambda x: m[c, x])"), -13.6108),
    ("admissible_set", "llm4ad", Task("admissible_set").template, 1842),
    ("admissible_set", "llm4ad", PRIORITY.format("return sum(el) / n"), 1740),
    ("admissible_set", "llm4ad", PRIORITY.format("return -sum(el)"), 1452),
    ("admissible_set", "shifted_12_7", PRIORITY.format("return 0"), 690),
    ("admissible_set", "shifted_12_7", PRIORITY.format("return sum(el) / n"), 630),
]


@pytest.mark.parametrize(("task", "split", "program", "score"), KNOWN)
def test_a_program_scores_what_llm4ad_measured(judge: Judge, task: str, split: str, program: str, score: float) -> None:
    (verdict,) = judge(task, split, program)
    assert verdict.status == "ok"
    assert round(verdict.score, 4) == score


def test_references_of_llm4ads_instances_are_the_known_costs() -> None:
    assert Task("tsp_construct").reference("llm4ad") == pytest.approx(5.6859, abs=5e-5)
    assert Task("cvrp_construct").reference("llm4ad") == pytest.approx(10.38, abs=0.02)  # given to two digits


def test_the_gap_of_nearest_neighbour_is_twenty_percent() -> None:
    # (6.8240 - 5.6859) / 5.6859 = 0.2002, and the quality is 5.6859 / 6.8240 = 0.8332
    assert Task("tsp_construct").gap(-6.8240, "llm4ad") == pytest.approx(0.2002, abs=1e-4)
    assert Task("tsp_construct").quality(-6.8240, "llm4ad") == pytest.approx(0.8332, abs=1e-4)


def test_the_gap_of_a_constant_priority_counts_missing_elements() -> None:
    # (3003 - 1842) / 3003 = 0.3866, and the quality is 1842 / 3003
    assert Task("admissible_set").gap(1842, "llm4ad") == pytest.approx(0.3866, abs=1e-4)
    assert Task("admissible_set").quality(1842, "llm4ad") == pytest.approx(0.6134, abs=1e-4)


FAILURES = [
    ("tsp_construct", ROUTING.format("return None"), "runtime"),
    ("tsp_construct", ROUTING.format("return u[0] + 0.5"), "runtime"),
    ("tsp_construct", ROUTING.format("return c"), "infeasible"),
    ("tsp_construct", ROUTING.format("return 10 ** 30"), "infeasible"),
    ("tsp_construct", ROUTING.format("while True: pass"), "timeout"),
    ("tsp_construct", ROUTING.format("return [0] * 10 ** 10"), "memory"),
    ("tsp_construct", ROUTING.format("return f(c)\ndef f(x):\n    return f(x)"), "runtime"),
    ("tsp_construct", ROUTING.format("import os; os._exit(0)"), "crash"),
    ("tsp_construct", ROUTING.format("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), "forbidden"),
    ("tsp_construct", "import nowhere\n" + ROUTING.format("return nowhere.first(u)"), "import"),
    ("tsp_construct", "def select_next_node(c, d):\n    return d\n", "signature"),
    ("tsp_construct", "select_next_node = 3\n", "no_program"),
    ("tsp_construct", "def select_next_node(c, d, u, m:\n    return d\n", "syntax"),
    ("tsp_construct", ROUTING.format("raise SystemExit"), "runtime"),
    ("cvrp_construct", VEHICLES.format("return d"), "infeasible"),
    ("cvrp_construct", VEHICLES.format("return max(range(1, 51), key=lambda x: -m[c, x])"), "infeasible"),
    ("admissible_set", PRIORITY.format("return float('nan')"), "nonfinite"),
    ("admissible_set", PRIORITY.format("return 'high'"), "runtime"),
]


@pytest.mark.parametrize(("task", "program", "status"), FAILURES)
def test_a_failing_program_gets_a_typed_verdict_without_a_score(
    judge: Judge, task: str, program: str, status: str
) -> None:
    (verdict,) = judge(task, "train", program)
    assert (verdict.status, verdict.score, verdict.costs) == (status, None, None)
    assert verdict.status in STATUSES and verdict.reason and "\n" not in verdict.reason


def test_a_vehicle_above_its_capacity_is_refused() -> None:
    task = Task("cvrp_construct")
    prepared = task.cost.prepare(task.instances("train"))
    with pytest.raises(Exception, match="its capacity is 40"):
        task.cost.compute_costs(prepared, [np.arange(51)] * 8)


FORGED = """
import os, struct
def select_next_node(c, d, u, m):
    body = b"=" + 8 * (struct.pack("<cI", b"i", 2) + struct.pack("<qq", 0, 0))
    os.write(3, struct.pack("<Q", len(body)) + body)
    os._exit(0)
"""


def test_a_forged_answer_is_only_decisions_which_are_then_refused(judge: Judge) -> None:
    (verdict,) = judge("tsp_construct", "train", FORGED)
    assert (verdict.status, verdict.score) == ("infeasible", None)


def test_a_program_after_hostile_ones_has_the_cost_that_it_has_alone(
    judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ROUTING.format("return u[0]")
    hostile = ROUTING.format("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    (alone,) = judge("tsp_construct", "train", honest)
    monkeypatch.chdir(tmp_path)  # where its verdict is not cached
    with Referee(Task("tsp_construct"), "train", **LIMITS) as referee:
        after = referee.judge([*[hostile.replace("c, d", f"c{i}, d") for i in range(4)], honest])
        assert referee.n_run == 5
    assert [verdict.status for verdict in after[:4]] == ["forbidden"] * 4
    assert after[4].costs == alone.costs


def test_a_program_that_changes_its_inputs_does_not_change_its_cost(judge: Judge) -> None:
    honest, vandal = ROUTING.format("return u[0]"), ROUTING.format("x = u[0]; m *= 0; return x")
    alone, changed = judge("tsp_construct", "train", honest, vandal)
    assert changed.status == "ok" and changed.score <= alone.score


@pytest.mark.parametrize("name", [name for name in names() if (Task(name).folder / "grammar.py").exists()])
def test_the_grammar_draws_programs_that_run_and_differ(judge: Judge, name: str) -> None:
    rng = Random(7)
    programs = [Task(name).grammar.draw(rng) for _ in range(30)]
    verdicts = judge(name, "train", *programs)
    assert [verdict.status for verdict in verdicts] == ["ok"] * 30
    assert len({verdict.behaviour for verdict in verdicts}) > 18


@pytest.mark.parametrize("name", names())
def test_splits_share_no_instance_where_a_task_has_many(name: str) -> None:
    if name == "admissible_set":
        return
    task = Task(name)
    instances = [pickle.dumps(instance) for split in task.splits for instance in task.instances(split)]
    assert len(set(instances)) == len(instances)


@pytest.mark.parametrize(("task", "sizes"), [("tsp_construct", (51, 198)), ("cvrp_construct", (32, 80))])
def test_published_instances_are_all_there(task: str, sizes: tuple[int, int]) -> None:
    instances = Task(task).instances("benchmark")
    n_nodes = [len(instance["distances"]) for instance in instances]
    assert len(instances) == 27 and (min(n_nodes), max(n_nodes)) == sizes
    for distances in (instance["distances"] for instance in instances):
        assert (distances == distances.T).all() and not distances.diagonal().any()
        # the rollout of tours takes a city's nearest to be the city itself
        assert task == "cvrp_construct" or (distances + np.eye(len(distances)) > 0).all()


def test_published_routes_of_the_first_instance_of_set_a_cost_784() -> None:
    walk = "0 21 31 19 17 13 7 26 0 12 1 16 30 0 27 24 0 29 18 8 9 22 15 10 25 5 20 0 14 28 11 4 23 3 2 6"
    assert cost_of("cvrp_construct", [int(node) for node in walk.split()]) == pytest.approx(1.0)
    lengths = Task("cvrp_construct").instances("benchmark")[0]["distances"] * 784
    assert np.abs(lengths - np.round(lengths)).max() < 1e-9


def test_a_solver_comes_to_the_optimum_of_eil51_and_not_below() -> None:
    cost = cost_of("tsp_construct", shortest_walk(Task("tsp_construct").instances("benchmark")[0]))
    assert 1 - 1e-9 < cost < 1.01


def cost_of(task: str, decision: list[int]) -> float:
    """The cost of a decision on the first published instance."""
    cost = Task(task).cost
    return float(cost.compute_costs(cost.prepare(Task(task).instances("benchmark")[:1]), [np.array(decision)])[0][0])


@pytest.mark.parametrize("task", ["tsp_construct", "cvrp_construct"])
def test_instances_of_different_sizes_cost_what_they_cost_alone(task: str) -> None:
    this = Task(task)
    scope: dict[str, Any] = {}
    exec(this.template, scope)
    instances = this.instances("benchmark")[::5]
    decisions = [np.array(each) for each in decisions_on(instances, this.rollout, scope[this.function])]
    costs = this.cost.compute_costs(this.cost.prepare(instances), decisions)[0]
    alone = [
        this.cost.compute_costs(this.cost.prepare([instance]), [decision])[0][0]
        for instance, decision in zip(instances, decisions, strict=True)
    ]
    assert costs == pytest.approx(alone, rel=1e-12) and min(costs) > 1
