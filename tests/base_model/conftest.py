"""Examples of programs rewritten, for the tests of what they are and of how they are shown."""

import pytest

from dartune.base_model.rewriting import PretrainingTask, Rewriting

TASKS = ("admissible_set", "cvrp_construct", "tsp_construct")


@pytest.fixture(scope="module", params=TASKS)
def examples_of_task(request: pytest.FixtureRequest) -> tuple[PretrainingTask, list[tuple[str, str, str]]]:
    """The task and 400 examples."""
    made = Rewriting(request.param, 0)
    return PretrainingTask(request.param), [made.example() for _ in range(400)]
