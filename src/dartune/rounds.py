"""Rounds: the tuned model writes the next pool, which tunes the next model, as long as a gate lets the model pass.

The first round is the pipeline itself, stages pool to train; DVC's graph has no cycles, so the others are one stage.
Each is a folder with all that the stages of the first one make. A model tuned again and again collapses sooner or later
onto few programs, or onto no valid one, so each must pass the gate on instances that no training saw.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import PositiveInt

from dartune.files import atomic, parquet
from dartune.files.fingerprint import fingerprint
from dartune.files.modules import code_fingerprint
from dartune.models.backend import Decoding
from dartune.models.checkpoint import open_model, open_tokenizer
from dartune.pairs.pairs import write_pairs
from dartune.pairs.sample import write_sample
from dartune.pool.ask_tell import INDEPENDENT
from dartune.pool.pool import generate_pool
from dartune.pool.search_loop import SearchSpec
from dartune.referee.referee import Referee
from dartune.referee.score import write_scored
from dartune.tasks.task import Task
from dartune.training.probe import Probe, warnings_of
from dartune.training.train import limits, write_tuned

SEEDS = 1000  # between one round's seeds and the next one's, so that two runs share none
POOL, SCORED, SAMPLED, PAIRS, TUNED = "pool.parquet", "scored.parquet", "sample.parquet", "pairs.parquet", "tuned"
Sections = dict[str, dict[str, Any]]


def write_rounds(
    task: str,
    base: Path,
    tuned: Path,
    scored: Path,
    rules: tuple[Path, Path],
    sections: Sections,
    options: tuple[dict[str, Any], dict[str, Any]],
    output: Path,
    final: Path,
    metrics: Path,
    *,
    n: PositiveInt,
    start: Literal["base", "last"],
    pools: Literal["last", "all"],
    n_samples: PositiveInt,
    min_gain: float,
) -> None:
    """Write a folder with what each round made, from the second on, the model that passed last, and what the gate saw.

    tuned, scored: what the first round made. rules, options: of the search method that writes pools, and of the
    training. sections: pool, score, sample, pairs and train of params.yaml. n: rounds in all. start: the model that is
    tuned, the base model or the one that passed last. pools: that pairs are drawn from, the round's own or all so far.
    n_samples: of each model, at the gate. min_gain: by which the mean quality must rise, on the instances of
    train.watch.split; the limits of train.watch hold too, against the base model.
    """
    accepted, gates = tuned, []
    tables = [scored]
    if n > 1:
        gates.append(gate(task, base, [None, tuned], sections, rules[1], n_samples, min_gain, 1))
    for number in range(2, n + 1):
        if not gates[-1]["is_accepted"]:
            break
        folder = begun(output / str(number), [accepted, base, *tables, *rules], sections, options, start, pools)
        made = Round(task, base, folder, number, sections, rules, options)
        made.write_pool(accepted)
        made.write_scored()
        tables = [*tables, folder / SCORED] if pools == "all" else [folder / SCORED]
        made.write_pairs(tables)
        made.train(accepted if start == "last" else None)
        models = [None, accepted, folder / TUNED]
        gates.append(gate(task, base, models, sections, rules[1], n_samples, min_gain, number))
        accepted = folder / TUNED if gates[-1]["is_accepted"] else accepted
    for extra in [path for path in output.glob("*") if path.is_dir() and int(path.name) > n]:
        shutil.rmtree(extra)
    atomic.publish(lambda folder: shutil.copytree(accepted, folder), final)
    kept = int(accepted.parent.name) if accepted != tuned else 1
    for file in (metrics, output / "rounds.json"):
        atomic.write_json(file, {"n_rounds": n, "kept_round": kept, "gates": gates})


def begun(folder: Path, files: list[Path], sections: Sections, options: Any, start: str, pools: str) -> Path:
    """The round's folder, with what an earlier run made of the same: another key empties it."""
    key = fingerprint(
        files, code=code_fingerprint(__name__), sections=sections, options=options, start=start, pools=pools
    )
    file = folder / "key.json"
    if not file.exists() or json.loads(file.read_text()) != {"key": key}:
        shutil.rmtree(folder, ignore_errors=True)
        atomic.write_json(file, {"key": key})
    return folder


class Round:
    """One round's folder. Each method writes what is not there yet."""

    def __init__(
        self,
        task: str,
        base: Path,
        folder: Path,
        number: int,
        sections: Sections,
        rules: tuple[Path, Path],
        options: tuple[dict[str, Any], dict[str, Any]],
    ) -> None:
        self.task, self.base, self.folder, self.rules, self.options = task, base, folder, rules, options
        later = SEEDS * (number - 1)
        self.sections = {
            name: values | ({"seed": values["seed"] + later} if "seed" in values else {})
            for name, values in sections.items()
        }

    def write_pool(self, writer: Path) -> None:
        """What the model that passed last writes."""
        file, own = self.folder / POOL, self.sections["pool"]
        if file.exists():
            return
        from dartune.models.transformers_backend import TransformersBackend

        decoding = Decoding(**{name: own[name] for name in ("temperature", "top_p", "max_new_tokens")})
        size = own["batch_size"] if own["method"] == INDEPENDENT else None
        task, options = Task(self.task), self.options[0]
        spec = SearchSpec(task, own["method"], options, own["n_programs"], [own["seed"]], decoding, size)
        backend, rules = TransformersBackend(self.base, writer), json.loads(self.rules[0].read_text())
        generate_pool(spec, backend, rules, file, self.folder / "pool.json")

    def write_scored(self) -> None:
        if not (self.folder / SCORED).exists():
            where = [self.folder / name for name in (SCORED, "score.json")]
            write_scored(self.task, self.folder / POOL, self.base, *where, **self.sections["score"])

    def write_pairs(self, tables: list[Path]) -> None:
        """Pairs drawn from the rows of all tables."""
        if (self.folder / PAIRS).exists():
            return
        file, sheet = self.folder / "programs.parquet", self.folder / "sample.md"
        parquet.write(pa.concat_tables([parquet.read(each) for each in tables]), file)
        drawn = self.folder / SAMPLED
        write_sample(self.task, file, drawn, self.folder / "sample.json", sheet, **self.sections["sample"])
        write_pairs(self.task, drawn, file, self.base, self.folder / PAIRS, **self.sections["pairs"])

    def train(self, start: Path | None) -> None:
        if not (self.folder / TUNED).exists():
            rules = json.loads(self.rules[1].read_text())
            where = [self.folder / name for name in (TUNED, "train.json", "plots")]
            pairs, own = self.folder / PAIRS, self.sections["train"]
            write_tuned(self.task, pairs, self.base, start, rules, self.options[1], *where, **own)


def gate(
    task: str,
    base: Path,
    models: list[Path | None],
    sections: Sections,
    rules: Path,
    n_samples: int,
    min_gain: float,
    number: int,
) -> dict[str, Any]:
    """Whether the last of the models may go on: {"round", "is_accepted", "warnings", "base", "before", "tuned"}.

    models: the base model (None), the one that passed last, and the new one; all write with the same chances.
    """
    own = sections["train"]
    watch = own["watch"] | {"n_samples": n_samples, "remember": []}
    decoding = Decoding(**{name: own[name] for name in ("temperature", "top_p", "max_new_tokens")})
    tokenizer = open_tokenizer(base)
    with Referee(Task(task), watch["split"], **limits(json.loads(rules.read_text()))) as referee:
        probe = Probe(referee, tokenizer, [], watch, decoding, own["seed"] + SEEDS * number + 1)
        found = [probe.measure(open_model(base, model).eval()) for model in models]
    warnings = warnings_of(found[0], found[-1], watch)
    gain = found[-1]["mean"] - found[-2]["mean"]
    if gain < min_gain:
        warnings.append(
            f"mean quality {found[-2]['mean']:.4g} to {found[-1]['mean']:.4g} (rounds.min_gain {min_gain:g})"
        )
    verdict = "refused: " + "; ".join(warnings) if warnings else f"passed, mean quality {gain:+.4f}"
    print(f"rounds {task}: round {number} {verdict}", file=sys.stderr, flush=True)
    figures = {"base": found[0], "before": found[-2], "tuned": found[-1]}
    return {"round": number, "is_accepted": not warnings, "warnings": warnings, **figures}
