"""Later rounds: the tuned model writes the next pool, and a gate stops what collapses. On the embedded model, small."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dartune import params
from dartune.files import batches
from dartune.pairs.pairs import write_pairs
from dartune.pairs.sample import write_sample
from dartune.pool import search_loop
from dartune.pool.pool import write_pool
from dartune.referee.score import write_scored
from dartune.rounds import PAIRS, POOL, SCORED, TUNED, FirstRound, Settings, write_rounds
from dartune.training import trainers
from dartune.training.train import write_tuned

ROOT = Path(__file__).parents[2]
TASK = "admissible_set"
BASE = ROOT / "models/embedded"
FUNCTIONS = {
    "pool": write_pool,
    "score": write_scored,
    "sample": write_sample,
    "pairs": write_pairs,
    "train": write_tuned,
}
LENIENT = {"max_validity_drop": 1.0, "max_distinct_drop": 1.0, "max_template_rise": 1.0, "max_length_drift": 100.0}
ROUNDS: dict[str, Any] = {"start": "base", "n_samples": 12, "min_gain": -1.0}


def settings(probe: dict[str, float] | None = None, **trainer: Any) -> Settings:
    """Those of params.yaml, small. probe: values of train.probe. trainer: options of dpo."""
    file = ROOT / "params.yaml"
    sections = {name: params.section(name, function, file) for name, function in FUNCTIONS.items()}
    sections["pool"] |= {"n_programs": 40, "batch_size": 40}
    sections["sample"] |= {"n_pairs": 8, "options": {"dar": {"one_per": "text", "n_subsets": 4, "gap": 1, "tau": 3.0}}}
    sections["train"]["probe"] |= {"n_times": 0, **(probe or {})}
    small = {"num_train_epochs": 1, "per_device_train_batch_size": 2}
    return Settings(
        **sections,
        search_options=search_loop.options("independent", file),
        trainer_options={"dpo": trainers.options("dpo", file) | small | trainer},
    )


def run_rounds(folder: Path, settings: Settings, **section: Any) -> dict[str, Any]:
    """What the gate saw. The first round's model is the base model itself: cheap, and as good as any to go on from."""
    shutil.copytree(BASE, folder / "tuned", dirs_exist_ok=True)
    (folder / "none.json").write_text("{}")
    (folder / "limits.json").write_text('{"version": "", "max_slowdown": 1000, "memory_mib": 512}')
    names = ("tuned", "none.json", "limits.json")
    first = FirstRound(BASE, *(folder / name for name in names))
    outputs = [folder / name for name in ("rounds", "final", "rounds.json")]
    write_rounds(TASK, first, settings, *outputs, **ROUNDS | section)
    return dict(json.loads((folder / "rounds.json").read_text()))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def two_rounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two rounds with a lenient gate. Copy it; do not change it."""
    folder = tmp_path_factory.mktemp("two_rounds")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_rounds(folder, settings(LENIENT), n=2)["kept_round"] == 2
    return folder


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_one_round_is_the_tuned_model_as_it_is(folder: Path) -> None:
    found = run_rounds(folder, settings(), n=1)
    assert found == {"n_rounds": 1, "kept_round": 1, "gates": []}
    assert weights(folder / "final") == weights(folder / "tuned")
    assert [path.name for path in (folder / "rounds").iterdir()] == ["rounds.json"]


def test_the_gate_stops_a_collapsing_run_and_keeps_the_previous_model(folder: Path) -> None:
    """At 250 times the learning rate the second model writes nothing valid: there is no third round."""
    found = run_rounds(folder, settings(learning_rate=0.05, num_train_epochs=4), n=3)
    assert [(gate["round"], gate["is_accepted"]) for gate in found["gates"]] == [(1, True), (2, False)]
    refused = found["gates"][1]
    assert refused["tuned"]["validity"] < 0.5 <= refused["before"]["validity"]
    assert any("validity fell" in warning for warning in refused["warnings"])
    assert found["kept_round"] == 1 and weights(folder / "final") == weights(folder / "tuned")
    assert not (folder / "rounds/3").exists()


def test_more_rounds_keep_earlier_ones_unless_settings_changed(two_rounds: Path, folder: Path) -> None:
    shutil.copytree(two_rounds, folder, dirs_exist_ok=True)
    lenient, second = settings(LENIENT), folder / "rounds/2"
    assert weights(folder / "final") == weights(second / TUNED) != weights(folder / "tuned")
    before = {path: path.stat().st_mtime_ns for path in second.rglob("*") if path.is_file()}

    assert run_rounds(folder, lenient, n=3)["kept_round"] == 3
    assert {path: path.stat().st_mtime_ns for path in second.rglob("*") if path.is_file()} == before
    third = pq.read_table(folder / "rounds/3" / POOL)
    assert set(third["model"].to_pylist()) != set(pq.read_table(second / POOL)["model"].to_pylist())
    assert weights(folder / "final") == weights(folder / "rounds/3" / TUNED)

    pairs, from_base = (folder / "rounds/3" / PAIRS).read_bytes(), weights(folder / "final")
    assert run_rounds(folder, lenient, n=3, start="last")["kept_round"] == 3
    assert (folder / "rounds/3" / PAIRS).read_bytes() == pairs and weights(folder / "final") != from_base

    old = weights(second / TUNED)
    run_rounds(folder, settings(LENIENT, beta=0.5), n=2)
    assert weights(second / TUNED) != old and not (folder / "rounds/3").exists()


def test_an_interrupted_round_ends_as_an_undisturbed_one(two_rounds: Path, folder: Path) -> None:
    lenient = settings(LENIENT)

    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    for module, name in (
        ("dartune.rounds", "write_scored"),
        ("dartune.rounds", "write_pairs"),
        ("dartune.training.train", "save"),
    ):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(f"{module}.{name}", lambda *a, **k: cut())
            run_rounds(folder, lenient, n=2)
    pool = (folder / "rounds/2" / POOL).stat().st_mtime_ns
    assert run_rounds(folder, lenient, n=2)["kept_round"] == 2
    assert (folder / "rounds/2" / POOL).stat().st_mtime_ns == pool  # kept, not written again
    for name in (POOL, SCORED, PAIRS):
        assert (folder / "rounds/2" / name).read_bytes() == (two_rounds / "rounds/2" / name).read_bytes()
    assert weights(folder / "final") == weights(two_rounds / "final")
    assert not list(batches.WORK.rglob("*.parquet"))
