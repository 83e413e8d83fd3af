"""The plans in experiments/: what their cells set exists, and a cell has one command of its own."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import uses
from real import Cell, Plan, lines, main

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
    asked = ["", *plan.content.get("uses", {})]
    for key in {key for cell in cells(plan) for use in asked for key in plan.settings(cell, use)}:
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


def test_a_seeds_cells_follow_each_other_and_imitation_is_the_first(here: None) -> None:
    tasks, trainings = ["cvrp_construct"], ["dpo", "sft"]
    asked = {"students": ["a"], "tasks": tasks, "pools": ["recorded"], "trainings": trainings, "seeds": [1, 2]}
    cells = [(cell.seed, cell.training) for cell in Plan(Path("experiments/real.yaml")).cells(asked)]
    assert cells == [(1, "sft"), (1, "dpo"), (2, "sft"), (2, "dpo")]


def test_a_recording_is_a_pool_only_of_the_tasks_that_it_has(here: None) -> None:
    asked = {"students": ["a"], "tasks": ["cvrp_construct", "job_shop"], "trainings": ["sft"], "seeds": [1]}
    found = Plan(Path("experiments/real.yaml")).cells({**asked, "pools": ["recorded", "own"]})
    assert [(cell.task, cell.pool) for cell in found] == [
        ("cvrp_construct", "recorded"),
        ("cvrp_construct", "own"),
        ("job_shop", "own"),
    ]


def test_asking_for_no_cell_of_the_plan_is_an_error(
    here: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["real.py", "--tasks", "tsp_construct", "--pools", "recorded", "--trainings", "more-sampling"]
    monkeypatch.setattr("sys.argv", asked)
    with pytest.raises(SystemExit):
        main()
    assert "the plan has no such cell" in capsys.readouterr().err


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


def test_the_table_of_a_use_has_a_line_for_each_method_or_task(here: None) -> None:
    plan, cell = Plan(Path("experiments/real.yaml")), Cell("smollm2-135m", "cvrp_construct", "recorded", "sft-dpo", 1)
    gain = {"estimate": 0.25, "low": 0.0, "high": 0.5}
    figures = {"validity": 0.5, "mean": 0.5, "top_1": 0.5, "top_10": 0.5, "best_of_100": 0.5}
    both = {"n_seeds": 3, "base": figures, "tuned": {metric: 0.75 for metric in figures}}
    both["difference"] = {metric: gain for metric in figures}
    timed = {"base": {"evaluations": 300.0, "top_1": 0.5}, "tuned": {"evaluations": 200.0, "top_1": 0.25}}
    searched = both | {"at_equal_seconds": timed | {"difference": gain | {"estimate": -0.25}}}
    for use, metrics in {
        "search": {"eoh": searched},
        "transfer": {"tsp_construct": both},
        "cooler": {"cvrp_construct": both},
    }.items():
        results = {"": {**cell._asdict(), "use": use, "metrics": metrics}, "other": {"use": "none"}}
        titles, _, line = uses.lines(plan, use, results)
        assert titles.count("|") == line.count("|")
        assert f"| 1 | {next(iter(metrics))} | " in line and "| 0.500 | 0.750 | +0.250 [+0.000, +0.500] |" in line
        assert line.endswith(f"| `{plan.command(cell, use)}` |")
        assert f"-n {plan.name_of(cell)}-{use} " in line
        assert f" {'search' if use == 'search' else 'evaluate'}@cvrp_construct`" in line
    assert "| 300 | 200 | 0.500 | 0.250 | -0.250 [+0.000, +0.500]" in " | ".join(uses.of_search(searched))
    untimed = list(uses.of_search(both))
    assert len(untimed) == len(list(uses.of_search(searched))) and untimed[-5:] == [""] * 5
