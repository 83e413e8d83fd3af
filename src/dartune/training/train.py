"""Stage train: a model tuned by one of the trainers, probed on the way. The reference is the model it starts from."""

import gc
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune.errors import UserError
from dartune.files import atomic, batches, parquet
from dartune.files.fingerprint import fingerprint
from dartune.files.modules import code_fingerprint
from dartune.models.backend import Decoding
from dartune.models.checkpoint import LoadIn, open_tokenizer, save_model, weights_of, write_base_revision
from dartune.models.host import release_memory, run_settings
from dartune.pairs.pairs import formatted
from dartune.referee.referee import Referee
from dartune.tasks.task import Task
from dartune.training.distributed import SHARDED, Launch, agreed, in_processes, is_main
from dartune.training.memory import fit_activations, refuse_too_large
from dartune.training.patches import diverged, plain_adapter_inputs
from dartune.training.probe import Probe, ProbeConfig
from dartune.training.reward import text
from dartune.training.trainers import ONLINE, SPLIT, TRAINERS, Lora, TrainingInputs, in_turn, n_tokens

DECODING = ("temperature", "top_p", "max_new_tokens")
SHOWN = ("loss", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected", "reward", "kl")
# How Python, Rust and PyTorch say that a file cannot grow: no space, a limit on a file's size, a quota.
FULL = re.compile(r"(Errno|os error) (28|27|122)\b|failed writing file")
ReportTo = Literal["clearml", "comet_ml", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"]  # packages, too
Schedule = Literal["linear", "cosine", "constant", "constant_with_warmup"]


class Sources(NamedTuple):
    """What a training reads. start: a tuned model to go on from, None for the base model."""

    pairs: Path
    base: Path
    start: Path | None


class Outputs(NamedTuple):
    """What a training writes. model: a folder with an adapter or weights. plots: a folder of curves."""

    model: Path
    metrics: Path
    plots: Path


@in_processes
def write_tuned(
    task: str,
    sources: Sources,
    limits: dict[str, Any],
    options: dict[str, Any],
    outputs: Outputs,
    *,
    method: str | list[str],
    seed: NonNegativeInt,
    lr_scheduler_type: Schedule,
    warmup_steps: Annotated[float, Field(ge=0)],
    max_grad_norm: PositiveFloat,
    patience: PositiveInt | None,
    max_length: PositiveInt,
    lora: Lora | None,
    load_in: LoadIn | None,
    launch: Launch | None,
    report_to: list[ReportTo],
    temperature: PositiveFloat,
    top_p: Annotated[float, Field(gt=0, le=1)],
    max_new_tokens: PositiveInt,
    probe: ProbeConfig,
) -> None:
    """Write the tuned model's folder, its metrics and its curves.

    limits: the referee's (stage referee). options: of each trainer, by name. method: one of TRAINERS, or several
    different ones in turn: each starts from the model of the one before, which is its reference. warmup_steps: a
    share of the steps if below 1. patience: stop after that many evaluations of the held-out pairs, one every
    SAVE_STEPS steps, without a lower loss, and keep the model with the lowest; null trains to the end, and must be null
    for grpo and rloo, which have no such loss. max_length: tokens of prompt and answer; longer pairs, which TRL would
    cut, are left out and named in the metrics. lora: null trains all weights. load_in: bits of the base model's weights
    under an adapter; null: as checkpoint.number_format says. launch: null for one process. report_to: trackers
    beside DVCLive, each an installed package. temperature, top_p, max_new_tokens: of
    completions written during the training.

    Raises UserError about settings that contradict each other, pairs that cannot be trained on, too little memory, a
    full disk, and a training that diverges; the outputs are then as they were before.
    """
    keywords = {key: value for key, value in locals().items() if key not in ("task", "sources", "limits", "outputs")}
    del keywords["options"], keywords["probe"]
    settings = {**keywords, **options, "probe": probe}
    refuse_contradictions(settings)
    rows, too_long = short_enough(task, parquet.read(sources.pairs).to_pylist(), sources.base, max_length, patience)
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(batches.WORK / "tensorboard" / task))  # it outlives `work`
    files, run = [file for file in sources if file], run_settings(sources.base)
    key = partial(fingerprint, files, code=code_fingerprint(__name__), limits=limits, run=run)
    work = batches.folder(f"train {task}", key(**settings))
    known = {"weights": weights_of(sources.base), "n_pairs": len(rows), "too_long": too_long}
    inputs = TrainingInputs(task, rows, sources.base, sources.start, work, settings, None)
    parts = train_earlier(inputs, limits, known, key)
    earlier, (*before, last) = metrics_of(parts), in_turn(method)
    start = parts[-1].model if parts else sources.start
    inputs = replace(inputs, start=start, settings=settings | {"method": last})
    train(inputs, limits, outputs, known | {"earlier": earlier}, earlier)
    if is_main():
        for name, part in zip(before, parts, strict=True):
            shutil.copytree(part.plots, outputs.plots / name)
        shutil.rmtree(work)


def train_earlier(
    inputs: TrainingInputs, limits: dict[str, Any], known: dict[str, Any], key: Callable[..., str]
) -> list[Outputs]:
    """Return what the trainings before the last one of several made, each from the model of the one before.

    They stay in .work for the next time, as the last may be tried with other options. limits, known: see `train`. key:
    returns the fingerprint of a training with the given settings.
    """
    methods, parts = in_turn(inputs.settings["method"])[:-1], list[Outputs]()
    for number, name in enumerate(methods, 1):
        settings = settings_of(inputs.settings, methods[:number])
        work = batches.folder(f"earlier {inputs.task} {name}", key(**settings))
        part = Outputs(work / "tuned", work / "metrics.json", work / "plots")
        if not part.metrics.exists():
            start = parts[-1].model if parts else inputs.start
            one = replace(inputs, start=start, work=work, settings=settings | {"method": name})
            train(one, limits, part, known, metrics_of(parts))
            batches.remove_checkpoints(work)
            gc.collect()  # a trainer refers to itself, and holds its model and the optimiser's moments
            release_memory()
        parts.append(part)
    return parts


def metrics_of(parts: list[Outputs]) -> list[dict[str, Any]]:
    """Return the metrics of trainings."""
    return [json.loads(part.metrics.read_text()) for part in parts]


def settings_of(settings: dict[str, Any], methods: list[str]) -> dict[str, Any]:
    """Return the settings of the first trainings of several: without the options of later ones."""
    later = set(in_turn(settings["method"])) - set(methods)
    return {name: value for name, value in settings.items() if name not in later} | {"method": methods}


def train(
    inputs: TrainingInputs,
    limits: dict[str, Any],
    outputs: Outputs,
    known: dict[str, Any],
    earlier: list[dict[str, Any]],
) -> None:
    """Run one training, or go on with a killed one, and write what it made.

    inputs: without a referee. limits: the referee's. known: what the metrics hold beside what was measured. earlier:
    metrics of the trainings before it. Raises what write_tuned raises.
    """
    method, probe, launch = (inputs.settings[name] for name in ("method", "probe", "launch"))
    with ExitStack() as stack, disk_errors(inputs.work):
        splits = [SPLIT] * (method in ONLINE) + [probe["split"]] * (probe["n_times"] > 0 and is_main())
        referees = {
            split: stack.enter_context(Referee.from_limits(Task(inputs.task), split, limits)) for split in splits
        }
        inputs = replace(inputs, referee=referees.get(SPLIT))
        refuse_too_large(inputs)
        trainer = new_trainer(inputs, outputs.plots)
        probes = add_probes(trainer, inputs, referees.get(probe["split"]), last_probe(earlier))
        with plain_adapter_inputs(trainer.model):
            fit_activations(trainer, inputs)
            trainer.train(resume_from_checkpoint=agreed(lambda: batches.last_checkpoint(inputs.work)))
        keeps_last = probes is None or probes.kept_step() is None
        held_out = trainer.evaluate() if trainer.eval_dataset is not None and keeps_last else {}
        is_sharded = launch is not None and launch["kind"] in SHARDED
        weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if is_sharded else None  # by all processes
        if is_main():
            save(trainer, inputs, probes, weights, outputs.model)
            record(trainer, held_out, probes, outputs.metrics, known | {"settings": inputs.settings})


def refuse_contradictions(settings: dict[str, Any]) -> None:
    """Raise UserError about settings of section train that cannot be had together."""
    methods, launch = in_turn(settings["method"]), settings["launch"]
    load_in, patience = settings["load_in"], settings["patience"]
    method = next((name for name in methods if name in ONLINE), methods[0] if methods else "")
    kind, is_online, is_probed = launch["kind"] if launch else "ddp", method in ONLINE, settings["probe"]["n_times"] > 0
    is_sharded = kind in SHARDED
    missing = [name for name in settings["report_to"] if find_spec(name) is None]
    problems = {
        f"method is {methods}; expected one or more different trainers": len(set(methods)) < max(1, len(methods)),
        f"launch takes one method, not {methods}; set it to null": len(methods) > 1 and launch,
        f"launch: {kind} cannot generate programs, as {method} does; take ddp": is_online and kind != "ddp",
        f"launch: {kind} leaves no process the whole model; set train.probe.n_times: 0": is_probed and is_sharded,
        f"launch: {kind} cannot shard {load_in} weights; set train.load_in: null or take ddp": load_in and is_sharded,
        f"load_in is {load_in}, for weights that stay as they are; set train.lora": load_in and not settings["lora"],
        f"report_to: {' and '.join(missing)} cannot be imported; install it, or take it out": missing,
        f"patience is {patience}: {method} has no held-out loss to look at; set it to null": is_online and patience,
    }
    for problem, is_there in problems.items():
        if is_there:
            raise UserError(f"train.{problem}")


@contextmanager
def disk_errors(work: Path) -> Iterator[None]:
    """A block in which a failure to write for lack of room becomes a UserError; each library reports it its own way."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not FULL.search(str(error)):
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"train: the disk of {work} or of the outputs is full ({reason}); make room and run again: it goes on from"
            " its last checkpoint, and what was there before is still there"
        ) from error


def short_enough(
    task: str, rows: list[dict[str, Any]], base: Path, max_length: int, patience: int | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the pairs of at most max_length tokens, and the names of the others.

    Raises UserError where none is left to train on, none is held out for `patience`, or another model made them.
    """
    refuse_others(rows, base)
    too_long = [row["pair"] for row in rows if n_tokens(row) > max_length]
    short = [row for row in rows if n_tokens(row) <= max_length]
    if not rows:
        raise UserError(f"train: there are no pairs of {task}; raise sample.n_pairs or pool.n_programs")
    if not short:
        raise UserError(f"train: all {len(rows)} pairs of {task} are longer than train.max_length, {max_length} tokens")
    if all(row["is_held_out"] for row in short):
        raise UserError(f"train: all {len(short)} pairs of {task} are held out; lower pairs.held_out")
    if patience and not any(row["is_held_out"] for row in short):
        raise UserError(f"train.patience is {patience}, and no pair of {task} is held out; raise pairs.held_out")
    if too_long:
        names = ", ".join(too_long[:10]) + (" ..." if len(too_long) > 10 else "")
        print(f"train {task}: {len(too_long)} pairs over {max_length} tokens left out: {names}", file=sys.stderr)
    return short, too_long


def refuse_others(rows: list[dict[str, Any]], base: Path) -> None:
    """Raise UserError about the first pair that this base model's template and tokenizer would write otherwise."""
    tokenizer = open_tokenizer(base)
    for row in rows:
        plain = row | {name: text(row[name]) for name in ("prompt", "chosen", "rejected")}
        if formatted(plain, tokenizer) != row:
            raise UserError(f"train: pair {row['pair']} was made for another model than {base}; run stage pairs again")


def new_trainer(inputs: TrainingInputs, plots: Path) -> Any:
    """Return TRL's trainer, patched, with callbacks that show its progress and write curves into `plots`."""
    import torch
    from transformers import PrinterCallback, set_seed

    from dartune.training.callbacks import Patience, Release, Saving
    from dartune.training.progress import Curves, Progress

    torch.set_num_threads(run_settings(inputs.base)["threads"])  # another number adds in another order
    set_seed(inputs.settings["seed"])
    trainer = TRAINERS[inputs.settings["method"]](inputs, **inputs.options)
    trainer.remove_callback(PrinterCallback)
    for callback in (Progress(f"train {inputs.task}"), Curves(plots), Saving(), Release()):
        trainer.add_callback(callback)
    if inputs.settings["patience"]:
        trainer.add_callback(Patience(inputs.settings["patience"]))
    return trainer


def last_probe(earlier: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the probe of the model that the last training kept, None where there is none."""
    if not earlier or not earlier[-1]["probe"]:
        return None
    history, kept = earlier[-1]["probe"], earlier[-1]["kept_step"]
    return dict(next(entry for entry in reversed(history) if kept is None or entry["step"] == kept))


def add_probes(trainer: Any, inputs: TrainingInputs, referee: Referee | None, measured: dict[str, Any] | None) -> Any:
    """Add the callback that probes the model to the trainer and return it; None where no probes are asked for.

    referee: None in all processes but the main one. measured: the probe of the model to begin with, None where there
    is none yet.
    """
    config = inputs.settings["probe"]
    if config["n_times"] == 0:
        return None
    from dartune.training.callbacks import ProbeCallback

    held_out = [row for row in inputs.rows if row["is_held_out"]]
    decoding = Decoding(*(inputs.settings[name] for name in DECODING))
    probe = Probe(referee, inputs.base, held_out, config, decoding, inputs.settings["seed"]) if referee else None
    callback = ProbeCallback(f"train {inputs.task}", probe, config, inputs.work, measured)
    trainer.add_callback(callback)
    return callback


def save(trainer: Any, inputs: TrainingInputs, probes: Any, weights: Any, output: Path) -> None:
    """Write the adapter or the weights with the tokenizer, complete before the folder gets its name.

    probes: the ProbeCallback, which may go back to an earlier model, or None. weights: gathered ones, or None for the
    model's own. Raises UserError where a weight is not finite.
    """
    if not all(bool(weight.isfinite().all()) for weight in trainer.model.parameters()):
        raise diverged("a weight is not finite", trainer.state.global_step)

    def write(folder: Path) -> None:
        if probes is not None and probes.kept_step() is not None:
            shutil.copytree(inputs.work / "best", folder)
        else:
            save_model(trainer.model, folder, weights)
        open_tokenizer(inputs.base).save_pretrained(folder)
        write_base_revision(inputs.base, folder)

    atomic.publish(write, output)


def record(trainer: Any, evaluated: dict[str, float], probes: Any, metrics: Path, known: dict[str, Any]) -> None:
    """Write the metrics: `known`, the last step's, the held-out pairs' and each probe's. No wall-clock values."""
    from dartune.training.progress import step_entries

    history = step_entries(trainer.state.log_history)
    last = {name: history[-1][name] for name in SHOWN if history and name in history[-1]}
    held_out = {name: round(evaluated[f"eval_{name}"], 6) for name in SHOWN if f"eval_{name}" in evaluated}
    content = known | {"steps": trainer.state.global_step, "last": last, "held_out": held_out}
    content |= {"probe": probes.history if probes else [], "kept_step": probes.kept_step() if probes else None}
    atomic.write_json(metrics, content)
