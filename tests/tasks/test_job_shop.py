"""Job shops: published instances and makespans, exact optima, a schedule by hand, refusals."""

import numpy as np
import pytest
from references import earliest_end

from dartune.programs.verdict import Refused
from dartune.referee.referee import Referee
from dartune.tasks.job_shop.cost import compute_costs, prepare
from dartune.tasks.job_shop.instances import draw, published
from dartune.tasks.job_shop.rollout import run
from dartune.tasks.task import Task

TASK = Task("job_shop")
HEAD = "import numpy as np\n\n\ndef select_next_job(available, position, machines, times):\n    return "
SHORTEST = HEAD + "available[np.argmin(times[available, position[available]])]\n"
MOST_WORK = HEAD + "max(available, key=lambda job: times[job, position[job]:].sum())\n"
# Makespans of the rules of shortest processing time and most work remaining, without deliberate idleness.
KNOWN = {"ft06": (55, 88, 61), "ft10": (930, 1074, 1108), "la01": (666, 751, 735)}
# Two jobs, two machines: job 0 does machine 0 for 3 and then 1 for 2, job 1 does machine 0 for 1 and then 1 for 4.
SMALL = {"machines": np.array([[0, 1], [0, 1]]), "times": np.array([[3, 2], [1, 4]])}


def test_rules_have_their_known_makespans_on_published_instances() -> None:
    names = list(published())
    with Referee(TASK, "benchmark", max_slowdown=1000, memory_mib=512) as referee:
        shortest, most_work = (verdict.costs or () for verdict in referee.judge([SHORTEST, MOST_WORK]))
    for name, (optimum, by_time, by_work) in KNOWN.items():
        number = names.index(name)
        assert TASK.references("benchmark")[number] == optimum
        assert (shortest[number], most_work[number]) == (by_time, by_work)


def test_no_rule_beats_a_published_optimum() -> None:
    assert [*published()] == ["ft06", "ft10", *(f"la{i:02d}" for i in range(1, 41))]
    with Referee(TASK, "benchmark", max_slowdown=1000, memory_mib=512) as referee:
        for verdict in referee.judge([TASK.template, SHORTEST, MOST_WORK]):
            assert all(a >= b for a, b in zip(verdict.costs or (), TASK.references("benchmark"), strict=True))


@pytest.mark.parametrize("number", range(3))
def test_references_are_optimal(number: int) -> None:
    instance = draw("train")[number]
    order = np.array(earliest_end(instance))
    assert compute_costs(prepare([instance]), [order])[0] == [TASK.references("train")[number]]


@pytest.mark.parametrize("split", TASK.splits)
def test_each_job_visits_each_machine_once(split: str) -> None:
    for instance in draw(split):
        machines = np.sort(instance["machines"], axis=1)
        assert (machines == np.arange(machines.shape[1])).all() and (instance["times"] >= 0).all()


def test_a_schedule_by_hand() -> None:
    first, second = (compute_costs(prepare([SMALL]), [np.array(order)]) for order in ([0, 0, 1, 1], [1, 1, 0, 0]))
    assert first[0] == [9.0]  # machine 0 until 3 and 4, machine 1 until 5 and from 5 to 9
    assert second[0] == [7.0]  # machine 0 until 1 and 4, machine 1 until 5 and from 5 to 7
    assert sorted(first[1].tolist()) == [1, 5] and sorted(second[1].tolist()) == [2, 6]


def test_only_jobs_that_can_start_now_are_available() -> None:
    seen = []

    def first(available: np.ndarray, position: np.ndarray, *_: np.ndarray) -> int:
        seen.append((available.tolist(), position.tolist()))
        return int(available[0])

    assert run(first, SMALL) == [0, 0, 1, 1]  # at 3 machine 1 is free for job 0, and machine 0 for job 1
    assert seen == [([0, 1], [0, 0]), ([0, 1], [1, 0]), ([1], [2, 0]), ([1], [2, 1])]
    with pytest.raises(Refused, match="chose job 0, which cannot start now"):
        run(lambda *_: 0, SMALL)


@pytest.mark.parametrize("order", [[0, 0, 1], [0, 0, 0, 1]])
def test_a_job_that_is_not_done_is_refused(order: list[int]) -> None:
    with pytest.raises(Refused, match="instance 0: a job is not done, or done too often"):
        compute_costs(prepare([SMALL]), [np.array(order)])
