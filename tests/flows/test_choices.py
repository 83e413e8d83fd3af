"""What the form of a run offers: choices as the files have them, and an example that exists."""

import json
import re
import sys
from pathlib import Path

import pytest

from toy_repository import FLOWS

sys.path.insert(0, str(FLOWS))

import artifacts
import choices
import finetune
import overrides
from dartune.errors import UserError

ROOT = FLOWS.parent
FORM = finetune.finetune.parameters.model_dump()["properties"]


def test_the_form_offers_every_task_preset_strategy_and_trainer() -> None:
    from dartune.pairs.strategies import strategies
    from dartune.tasks.task import names
    from dartune.training.trainers import TRAINERS

    presets = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))
    assert FORM["tasks"]["items"]["enum"] == names()
    assert FORM["preset"]["enum"] == [choices.AS_IS, *presets]
    assert FORM["strategy"]["enum"] == [choices.AS_IS, *strategies()]
    assert FORM["method"]["enum"] == [choices.AS_IS, *sorted(TRAINERS)]
    assert [FORM[name]["default"] for name in choices.NAMES] == [[], *[choices.AS_IS] * 3]


def test_the_example_of_an_override_in_the_form_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    example = json.loads(re.findall(r"\{.*\}", FORM["overrides"]["description"])[0])
    assert overrides.by_file(example) == {Path("presets/embedded.yaml"): example}
    assert overrides.by_file(dict.fromkeys(choices.NAMES.values())).keys() == {Path("params.yaml")}


def test_a_value_that_is_given_twice_is_refused() -> None:
    chosen = {"tasks": [], "preset": choices.AS_IS, "strategy": "dar", "method": "sft"}
    assert choices.overrides({"a.b": 1}, chosen) == {"a.b": 1, "sample.strategy": "dar", "train.method": "sft"}
    with pytest.raises(UserError, match=r"train\.method is 'grpo' here and 'sft' in the form; give it once"):
        choices.overrides({"train.method": "grpo"}, chosen)


def test_a_run_of_stages_of_one_task_is_tagged_with_that_task_alone() -> None:
    tasks = ["x", "y", "z"]
    assert artifacts.tasks_of([], tasks) == artifacts.tasks_of(["report"], tasks) == tasks
    assert artifacts.tasks_of(["score@y", "train@y"], tasks) == ["y"]
    assert artifacts.tasks_of(["score@y", "base"], tasks) == tasks
