"""Rounds: the tuned model writes the next pool, which tunes the next model, until a model fails the gate.

The first round is the pipeline itself, stages pool to train. DVC's graph has no cycles, so one stage runs all further
rounds, each in a folder with the outputs of those stages. Repeated tuning sooner or later collapses onto a few programs
or onto none that is valid, so each model must pass the gate, on instances that no training saw.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import PositiveInt

from dartune.files import atomic
from dartune.files.fingerprint import fingerprint
from dartune.files.modules import code_fingerprint
from dartune.models.backend import Decoding
from dartune.models.checkpoint import open_model
from dartune.models.host import run_settings
from dartune.pairs.pairs import write_pairs
from dartune.pairs.sample import write_sample
from dartune.pool.ask_tell import INDEPENDENT
from dartune.pool.pool import generate_pool, search_seeds
from dartune.pool.search_loop import SearchSpec
from dartune.referee.referee import Referee
from dartune.referee.score import write_scored
from dartune.tasks.task import Task
from dartune.training.probe import Probe, warnings_of
from dartune.training.train import Outputs, Sources, write_tuned

SEED_STEP = 1000  # between the seeds of two rounds, so that no two share one
POOL, SCORED, SAMPLED, PAIRS, TUNED = "pool.parquet", "scored.parquet", "sample.parquet", "pairs.parquet", "tuned"


class FirstRound(NamedTuple):
    """Outputs of the first round, that is of the stages before this one."""

    base: Path  # the base model
    tuned: Path  # the tuned model
    pool_limits: Path  # file of data/referee: the referee's limits for programs of a search
    train_limits: Path  # the same for training


class Settings(NamedTuple):
    """Sections of params.yaml, by stage, and the options of the search method and, by name, of the trainers."""

    pool: dict[str, Any]
    score: dict[str, Any]
    sample: dict[str, Any]
    pairs: dict[str, Any]
    train: dict[str, Any]
    search_options: dict[str, Any]
    trainer_options: dict[str, Any]

    def of_round(self, number: int) -> "Settings":
        """Return these settings with the seeds of a round; the first round is number 1."""
        step = SEED_STEP * (number - 1)
        seeded = {name: content for name, content in self._asdict().items() if "seed" in content}
        return self._replace(**{name: content | {"seed": content["seed"] + step} for name, content in seeded.items()})


def write_rounds(
    task: str,
    first: FirstRound,
    settings: Settings,
    output: Path,
    final: Path,
    metrics: Path,
    *,
    n: PositiveInt,
    start: Literal["base", "last"],
    n_samples: PositiveInt,
    min_gain: float,
) -> None:
    """Run rounds 2 to n; write their outputs, the last model that passed the gate, and what the gate decided.

    output: gets a folder per round. final: the model. metrics: the gate's decisions. n: rounds in all. start: which
    model a round tunes, the base model or the last that passed. n_samples: completions per model at the gate. min_gain:
    least rise of the mean quality, on the instances of train.probe.split; the limits of train.probe, against the base
    model, must hold too.
    """
    accepted = first.tuned
    gates = [gate(task, first, settings, [None, accepted], 1, n_samples, min_gain)] if n > 1 else []
    for number in range(2, n + 1):
        if not gates[-1]["is_accepted"]:
            break
        folder = output / str(number)
        empty_unless_same(folder, [accepted, first.base, first.pool_limits, first.train_limits], settings, start)
        run_round(task, folder, first, settings.of_round(number), accepted, accepted if start == "last" else None)
        models = [None, accepted, folder / TUNED]
        gates.append(gate(task, first, settings, models, number, n_samples, min_gain))
        accepted = folder / TUNED if gates[-1]["is_accepted"] else accepted
    for surplus in [path for path in output.glob("*") if path.is_dir() and int(path.name) > n]:
        shutil.rmtree(surplus)
    atomic.publish(lambda folder: shutil.copytree(accepted, folder), final)
    kept_round = int(accepted.parent.name) if accepted != first.tuned else 1
    for file in (metrics, output / "rounds.json"):
        atomic.write_json(file, {"n_rounds": n, "kept_round": kept_round, "gates": gates})


def empty_unless_same(folder: Path, inputs: list[Path], settings: Settings, start: str) -> None:
    """Empty a round's folder unless an earlier run began it with the same inputs, settings and code."""
    key = fingerprint(inputs, code=code_fingerprint(__name__), settings=settings._asdict(), start=start)
    file = folder / "key.json"
    if not file.exists() or json.loads(file.read_text()) != {"key": key}:
        shutil.rmtree(folder, ignore_errors=True)
        atomic.write_json(file, {"key": key})


def run_round(task: str, folder: Path, first: FirstRound, settings: Settings, writer: Path, start: Path | None) -> None:
    """Write what a round's folder lacks of its pool, scored pool, pairs and tuned model.

    settings: with the seeds of this round. writer: the tuned model that writes the pool. start: the model that is
    tuned, None for the base model.
    """
    pool, scored, sampled, pairs, tuned = (folder / name for name in (POOL, SCORED, SAMPLED, PAIRS, TUNED))
    if not pool.exists():
        from dartune.models.transformers_backend import TransformersBackend

        section, options = settings.pool, settings.search_options
        method, decoding = section["method"], decoding_of(section)
        size = section["batch_size"] if method == INDEPENDENT else None
        n = section["n_programs"]
        seeds = search_seeds(section["seed"], section["n_searches"], n)
        this = Task(task, run_settings(first.base)["prompt"])
        spec = SearchSpec(this, method, options, n // section["n_searches"], seeds, decoding, size)
        limits = json.loads(first.pool_limits.read_text())
        generate_pool(spec, TransformersBackend(first.base, writer, this.function), limits, pool, folder / "pool.json")
    if not scored.exists():
        write_scored(task, pool, first.base, scored, folder / "score.json", **settings.score)
    if not pairs.exists():
        write_sample(task, scored, sampled, folder / "sample.json", folder / "sample.md", **settings.sample)
        write_pairs(task, sampled, scored, first.base, pairs, **settings.pairs)
    if not tuned.exists():
        sources, outputs = Sources(pairs, first.base, start), Outputs(tuned, folder / "train.json", folder / "plots")
        limits = json.loads(first.train_limits.read_text())
        write_tuned(task, sources, limits, settings.trainer_options, outputs, **settings.train)


def decoding_of(section: dict[str, Any]) -> Decoding:
    """Return the sampling settings of a section of params.yaml."""
    return Decoding(**{name: section[name] for name in ("temperature", "top_p", "max_new_tokens")})


def gate(
    task: str,
    first: FirstRound,
    settings: Settings,
    models: list[Path | None],
    number: int,
    n_samples: int,
    min_gain: float,
) -> dict[str, Any]:
    """Return the gate's decision on a new model: {"round", "is_accepted", "warnings", "base", "before", "tuned"}.

    models: the base model (None), the last that passed unless that is the base, and the new one. All sample with the
    same random numbers. base, before, tuned: what the probe measured of each.
    """
    section = settings.train
    config = section["probe"] | {"n_samples": n_samples, "remember": []}
    limits, seed = json.loads(first.train_limits.read_text()), section["seed"] + SEED_STEP * number + 1
    with Referee.from_limits(Task(task), config["split"], limits) as referee:
        probe = Probe(referee, first.base, [], config, decoding_of(section), seed)
        measured = [probe.measure(open_model(first.base, model).eval()) for model in models]
    base, before, tuned = measured[0], measured[-2], measured[-1]
    warnings = warnings_of(base, tuned, config)
    gain = tuned["mean"] - before["mean"]
    if gain < min_gain:
        warnings.append(f"mean quality {before['mean']:.4g} to {tuned['mean']:.4g} (rounds.min_gain {min_gain:g})")
    verdict = "refused: " + "; ".join(warnings) if warnings else f"passed, mean quality {gain:+.4f}"
    print(f"rounds {task}: round {number} {verdict}", file=sys.stderr, flush=True)
    outcome = {"round": number, "is_accepted": not warnings, "warnings": warnings}
    return outcome | {"base": base, "before": before, "tuned": tuned}
