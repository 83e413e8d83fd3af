"""No training is lost or silently spoilt: killed, ended early, diverged, or on a full disk."""

import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dartune.errors import UserError
from dartune.models.transformers_backend import TransformersBackend
from dartune.training import callbacks, train, trainers
from dartune.training.probe import SAMPLED
from dartune.training.progress import Progress
from dartune.training.trainers import ONLINE, TRAINERS
from small_llama import (
    DROPOUT,
    OPTIONS,
    PROBED,
    UNPROBED,
    curves,
    rows_of,
    trainer,
    tune,
    weights,
)

pytestmark = pytest.mark.usefixtures("trl_imported")


class Stop(Exception):
    pass


def stopping_at(step: int) -> Any:
    def on_step_end(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == step:
            raise Stop

    return on_step_end


def assert_same(one: str, other: str) -> None:
    assert weights(Path(one)) == weights(Path(other))
    assert Path(f"{one}.json").read_text() == Path(f"{other}.json").read_text()
    assert curves(one) == curves(other) != {}


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints every 4 steps at once, logs every 2."""
    monkeypatch.setattr(callbacks, "SAVE_AFTER_S", 0)
    monkeypatch.setattr(trainers, "SAVE_STEPS", 4)
    monkeypatch.setattr(trainers, "LOG_STEPS", 2)


GROUPS = {"n_completions": 24, "num_generations": 4}  # of answers: six, each of which counts twice where it is said so
INTERRUPTED: dict[str, tuple[int, dict[str, Any]]] = {  # the step after which it is killed
    "dpo, all weights": (6, {"options": {"num_train_epochs": 2}}),
    "dpo, LoRA": (
        7,
        {"options": {"num_train_epochs": 2, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}}
        | {"lora": DROPOUT, "lr_scheduler_type": "cosine", "warmup_steps": 0.25},
    ),
    "dpo, from an adapter": (5, {"start": Path("start"), "lora": DROPOUT, "options": {"num_train_epochs": 2}}),
    "dpo, patience": (7, {"patience": 2, "options": {"num_train_epochs": 5, "learning_rate": 0.05}}),
    "dpo, probed": (6, {"probe": PROBED, "options": {"num_train_epochs": 2}}),
    "dpo, probed and rolled back": (
        5,
        {"probe": PROBED | {"on_warning": "roll_back", "max_chosen_drop": 250.0}}
        | {"options": {"num_train_epochs": 2, "learning_rate": 0.02}},
    ),
    "sft, all weights": (6, {"method": "sft", "options": {"num_train_epochs": 2}}),
    "sft, LoRA": (3, {"method": "sft", "lora": DROPOUT, "options": {"num_train_epochs": 2}}),
    "grpo, all weights": (17, {"method": "grpo", "options": GROUPS | {"num_iterations": 3}}),
    "grpo, LoRA": (5, {"method": "grpo", "lora": DROPOUT, "options": GROUPS | {"beta": 0.1}}),
    "rloo, all weights": (5, {"method": "rloo", "options": GROUPS}),
    "rloo, LoRA": (10, {"method": "rloo", "lora": DROPOUT, "options": GROUPS | {"num_iterations": 2}}),
}


@pytest.mark.parametrize(("step", "settings"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_an_interrupted_training_ends_with_the_bytes_of_an_undisturbed_one(
    base: Path, pairs: Path, often: None, monkeypatch: pytest.MonkeyPatch, step: int, settings: dict[str, Any]
) -> None:
    if "start" in settings:
        tune(base, pairs, "start", lora=DROPOUT)
    tune(base, pairs, "whole", **settings)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Progress, "on_step_end", stopping_at(step))
        tune(base, pairs, "stopped", **settings)
    assert not Path("stopped").exists()
    with monkeypatch.context() as patch:
        steps: list[int] = []
        patch.setattr(Progress, "on_step_end", lambda self, args, state, control, **_: steps.append(state.global_step))
        tune(base, pairs, "stopped", **settings)
    between = 4 * settings.get("options", {}).get("num_iterations", 1)
    assert steps[0] == (step - 1) // between * between + 1  # it went on from its last checkpoint
    assert_same("stopped", "whole")


def test_a_training_shorter_than_a_log_step_has_a_curve_too(base: Path, pairs: Path) -> None:
    tune(base, pairs, "short", options={"num_train_epochs": 0.5})
    assert json.loads(Path("short.json").read_text())["steps"] == 2 < trainers.LOG_STEPS
    assert any(name.endswith("loss.tsv") for name in curves("short"))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from dartune.training import callbacks, trainers
from dartune.training.progress import Progress
from small_llama import tune

def on_step_end(self, args, state, control, **_):
    if state.global_step == 6:
        os.kill(os.getpid(), signal.SIGKILL)

callbacks.SAVE_AFTER_S, trainers.SAVE_STEPS, trainers.LOG_STEPS, Progress.on_step_end = 0, 4, 2, on_step_end
tune(Path("base"), Path("pairs.parquet"), "killed", options={"num_train_epochs": 2})
"""


def test_a_killed_process_leaves_the_old_model_and_a_rerun_replaces_it(base: Path, pairs: Path, often: None) -> None:
    Path("killed").mkdir()
    Path("killed/old").write_text("the model of an earlier run")
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1])]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert [path.name for path in Path("killed").iterdir()] == ["old"]
    for name in ("killed", "whole"):
        tune(base, pairs, name, options={"num_train_epochs": 2})
    assert not Path("killed/old").exists()
    assert_same("killed", "whole")


# What ends a training early must end it again, when the run was killed after that: while it saved the model, say.
ENDED: dict[str, tuple[bool, dict[str, Any]]] = {
    "patience": (True, {"patience": 1}),
    "a warning": (True, {"probe": UNPROBED | {"n_times": 5, "on_warning": "stop", "max_chosen_drop": 0.0}}),
    "the last step": (False, {}),
}


@pytest.mark.parametrize(("is_early", "settings"), ENDED.values(), ids=ENDED)
def test_a_training_killed_after_its_end_does_not_go_on_training(
    base: Path, pairs: Path, often: None, monkeypatch: pytest.MonkeyPatch, is_early: bool, settings: dict[str, Any]
) -> None:
    def killed(*_: Any) -> None:
        raise Stop

    settings = settings | {"options": {"num_train_epochs": 5, "learning_rate": 0.05}}
    tune(base, pairs, "whole", **settings)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(train, "record", killed)
        tune(base, pairs, "stopped", **settings)
    tune(base, pairs, "stopped", **settings)
    assert_same("stopped", "whole")
    assert (json.loads(Path("whole.json").read_text())["steps"] < 20) == is_early


def test_patience_stops_and_keeps_the_model_of_the_lowest_held_out_loss(base: Path, pairs: Path, often: None) -> None:
    options = {"num_train_epochs": 10, "learning_rate": 0.05}
    this = trainer(base, rows_of(pairs), patience=2, **options)
    this.train()
    losses = [entry["eval_loss"] for entry in this.state.log_history if "eval_loss" in entry]
    lowest = losses.index(min(losses))
    assert len(losses) == lowest + 3 < 10  # of ten looks in all; two looks without a lower loss
    assert this.evaluate()["eval_loss"] == pytest.approx(losses[lowest], abs=1e-6)
    tune(base, pairs, "tuned", patience=2, options=options)
    metrics = json.loads(Path("tuned.json").read_text())
    assert metrics["steps"] == 4 * len(losses) < 40
    assert metrics["held_out"]["loss"] == pytest.approx(losses[lowest], abs=1e-6)


@pytest.mark.parametrize("method", TRAINERS)
def test_a_training_that_diverges_ends_with_one_line_and_loses_nothing(base: Path, pairs: Path, method: str) -> None:
    Path("tuned").mkdir()
    Path("tuned/old").write_text("the model of an earlier run")
    more = {"n_completions": 16} if method in ONLINE else {}
    with pytest.raises(UserError) as caught:
        tune(base, pairs, "tuned", method=method, options={"learning_rate": 1e38} | more)
    # the first step, from the base model, has a loss; the weights that it leaves have none soon
    words = r"train: the loss is nan at step [23]; lower the trainer's learning_rate or train\.max_grad_norm, or raise "
    assert re.match(words, str(caught.value)) and "\n" not in str(caught.value)
    assert [path.name for path in Path("tuned").iterdir()] == ["old"]


def test_a_training_whose_last_step_breaks_the_model_does_not_save_it(base: Path, pairs: Path) -> None:
    with pytest.raises(
        UserError, match=r"^train: a weight is not finite at step 1; lower the trainer's learning_rate or"
    ):
        tune(base, pairs, "tuned", method="grpo", options={"learning_rate": 1e39, "n_completions": 4})
    assert not Path("tuned").exists()


def test_a_probed_training_that_diverges_ends_with_one_line(base: Path, pairs: Path) -> None:
    with pytest.raises(
        UserError, match=r"^train: the model's probabilities are not finite at step [12]; lower the trainer's"
    ):
        tune(base, pairs, "tuned", probe=PROBED, options={"learning_rate": 1e30})


@contextmanager
def full_disk(n_bytes: int) -> Iterator[None]:
    """No file can grow beyond n_bytes, which programs are told as they are told of a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("place", ["checkpoint", "output"])
def test_a_full_disk_is_told_in_one_line_and_the_old_model_outlives_it(
    base: Path, pairs: Path, often: None, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def killed(*_: Any) -> None:
        raise Stop

    if place == "output":  # the training is done, and its checkpoint is whole
        with monkeypatch.context() as patch, pytest.raises(Stop):
            patch.setattr(train, "save", killed)
            tune(base, pairs, "tuned")
    Path("tuned").mkdir()
    Path("tuned/old").write_text("the model of an earlier run")
    with pytest.raises(UserError) as caught, full_disk(200_000):  # the weights take more
        tune(base, pairs, "tuned")
    assert re.match(
        r"train: the disk of \.work/train/\S+ or of the outputs is full \(.*\); make room", str(caught.value)
    )
    assert "\n" not in str(caught.value)
    assert [path.name for path in Path("tuned").iterdir()] == ["old"]
    for name in ("tuned", "whole"):
        tune(base, pairs, name)
    assert_same("tuned", "whole")


IN_TURN: dict[str, Any] = {"method": ["sft", "dpo"], "lora": DROPOUT}


def test_trainings_in_turn_equal_one_that_starts_from_the_other(base: Path, pairs: Path) -> None:
    tune(base, pairs, "first", method="sft", lora=DROPOUT)
    tune(base, pairs, "second", method="dpo", lora=DROPOUT, start=Path("first"))
    tune(base, pairs, "both", **IN_TURN)
    assert weights(Path("both")) == weights(Path("second")) != weights(Path("first"))
    first, second, both = (json.loads(Path(f"{name}.json").read_text()) for name in ("first", "second", "both"))
    assert [part["last"] for part in (*both["earlier"], both)] == [first["last"], second["last"]]
    assert [part["settings"]["method"] for part in (*both["earlier"], both)] == ["sft", "dpo"]
    assert Path("both-plots/sft/plots/metrics/loss.tsv").exists()


def test_a_second_training_takes_the_samples_of_the_first_ones_last_probe(
    base: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    complete = TransformersBackend.complete
    monkeypatch.setattr(TransformersBackend, "complete", lambda *a, **k: written.append(1) or complete(*a, **k))
    tune(base, pairs, "both", **IN_TURN, probe=PROBED | {"n_times": 1})
    assert len(written) == 3  # before, between and after
    both = json.loads(Path("both.json").read_text())
    last, first = both["earlier"][0]["probe"][-1], both["probe"][0]
    assert first["step"] == 0 and [entry["step"] for entry in both["probe"]] == [0, both["steps"]]
    assert {name: first[name] for name in SAMPLED} == {name: last[name] for name in SAMPLED}
    assert first["margin"] == 0  # of the second training's own start


def test_a_second_training_that_is_killed_does_not_repeat_the_first(
    base: Path, pairs: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_in_dpo(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if type(args).__name__ == "DPOConfig" and state.global_step == 5:
            raise Stop

    seen: set[str] = set()
    tune(base, pairs, "whole", **IN_TURN, options={"num_train_epochs": 2})
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Progress, "on_step_end", stop_in_dpo)
        tune(base, pairs, "stopped", **IN_TURN, options={"num_train_epochs": 2})
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "on_step_end", lambda self, args, state, control, **_: seen.add(type(args).__name__))
        tune(base, pairs, "stopped", **IN_TURN, options={"num_train_epochs": 2})
    assert seen == {"DPOConfig"}
    assert_same("stopped", "whole")


def test_a_second_training_with_other_options_does_not_repeat_the_first(
    base: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    on_train_begin = Progress.on_train_begin

    def noting(self: Any, args: Any, *rest: Any, **named: Any) -> None:
        seen.append(type(args).__name__)
        on_train_begin(self, args, *rest, **named)

    monkeypatch.setattr(Progress, "on_train_begin", noting)
    tune(base, pairs, "low", **IN_TURN)
    monkeypatch.setitem(OPTIONS, "dpo", OPTIONS["dpo"] | {"beta": 0.5})
    tune(base, pairs, "high", **IN_TURN)
    assert seen == ["SFTConfig", "DPOConfig", "DPOConfig"]
    shutil.rmtree(".work/earlier")
    tune(base, pairs, "whole", **IN_TURN)
    assert_same("high", "whole")
    assert weights(Path("low")) != weights(Path("high"))
    seen.clear()
    tune(base, pairs, "other seed", **IN_TURN, seed=1)
    assert seen == ["SFTConfig", "DPOConfig"]


def test_the_first_trainer_is_gone_when_the_second_begins(
    base: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    new_trainer = train.new_trainer

    def noting(*arguments: Any) -> Any:
        assert [one() for one in made] == [None] * len(made)
        trainer = new_trainer(*arguments)
        made.append(weakref.ref(trainer))
        return trainer

    monkeypatch.setattr(train, "new_trainer", noting)
    tune(base, pairs, "both", **IN_TURN)
    assert len(made) == 2


@pytest.mark.parametrize("methods", [[], ["dpo", "dpo"]])
def test_no_method_and_one_twice_are_refused(base: Path, pairs: Path, methods: list[str]) -> None:
    with pytest.raises(UserError, match="expected one or more different trainers"):
        tune(base, pairs, "refused", method=methods)
