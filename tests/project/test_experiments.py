"""The plans in experiments/: what their cells set exists, and a cell has one command of its own."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from real import Cell, Plan, lines

from dartune import params
from dartune.presets import dotted
from dartune.tasks.task import names

ROOT = Path(__file__).parents[2]
PLANS = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))
each_plan = pytest.mark.parametrize("name", PLANS)
FIGURES = {"equal_to_template": 0.125, "validity": 0.5, "mean": 0.25, "top_10": 0.75}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def cells(plan: Plan) -> list[Cell]:
    """The cells of the first task and seed: the others differ in these alone."""
    plan.content |= {"tasks": plan.content["tasks"][:1], "seeds": plan.content["seeds"][:1]}
    return list(plan.cells({f"{name}s": [*plan.content[f"{name}s"]] for name in Cell._fields}))


@each_plan
def test_a_plan_sets_only_parameters_that_exist(here: None, name: str) -> None:
    plan = Plan(Path(f"experiments/{name}.yaml"))
    assert set(plan.content["tasks"]) <= set(names())
    for key in {key for cell in cells(plan) for key in plan.settings(cell)}:
        file, _, parameter = key.rpartition(":")
        assert parameter in dict(dotted(params.read(Path(file or "params.yaml")))), key


@each_plan
def test_the_cells_of_a_plan_have_different_commands_and_names(here: None, name: str) -> None:
    plan = Plan(Path(f"experiments/{name}.yaml"))
    all_cells = cells(plan)
    commands = {plan.command(cell).replace(plan.name_of(cell), "") for cell in all_cells}
    assert len(commands) == len({plan.name_of(cell) for cell in all_cells}) == len(all_cells)
    words = shlex.split(plan.command(all_cells[0]))
    assert "STUDENT" not in "".join(commands)
    assert words[:3] == ["dvc", "exp", "run"] and words[-1] == f"evaluate@{all_cells[0].task}"


def test_the_table_has_means_over_seeds_and_the_gain_over_the_untuned(here: None) -> None:
    plan = Plan(Path("experiments/real.yaml"))
    results: dict[str, dict[str, Any]] = {}
    for seed, mean in ((1, 0.5), (2, 0.75)):
        cell = Cell("smollm2-135m", "admissible_set", "recorded", "sft", seed)
        results[plan.name_of(cell)] = {
            **cell._asdict(),
            **{"base": FIGURES, "tuned": FIGURES | {"mean": mean}},
            "differences": {"base": {"mean": {"estimate": mean - 0.25, "low": 0.0, "high": 1.0}}},
        }
    results["writer-admissible_set"] = {"task": "admissible_set", "base": FIGURES}
    writer, untuned, tuned = list(lines(plan, results))[2:]
    assert writer.startswith("| qwen2.5-coder-1.5b | admissible_set |  | untuned |  | 0.500 | 0.250 | 0.750 |")
    assert untuned.startswith("| smollm2-135m | admissible_set |  | untuned | 2 | 0.500 | 0.250 | 0.750 |")
    assert tuned.startswith("| smollm2-135m | admissible_set | recorded | sft | 2 | 0.500 | 0.625 | 0.750 |")
    assert " | 0.125 | 0.375 | " in untuned  # valid, and not the template
    command = "`dvc exp run --temp -n real-smollm2-135m-admissible-set-recorded-sft-1 "
    assert "| +0.375 [-1.213, +1.963] |" in tuned and f"| {command}" in tuned
    del results[plan.name_of(cell)]
    assert "| +0.250 [+0.000, +1.000] |" in list(lines(plan, results))[-1]  # one seed: the bootstrap's
