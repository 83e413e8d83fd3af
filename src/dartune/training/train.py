"""Training: a model tuned by one of the trainers, watched on the way. The reference is the model it starts from."""

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune.errors import UserError
from dartune.files import atomic, batches, parquet
from dartune.files.fingerprint import fingerprint
from dartune.files.modules import code_fingerprint
from dartune.models.backend import Decoding
from dartune.models.checkpoint import LoadIn, open_tokenizer, save_model, write_base_revision
from dartune.pairs.pairs import formatted
from dartune.referee.referee import Referee
from dartune.referee.sandbox import LIBC
from dartune.tasks.task import Task
from dartune.training.distributed import SHARDED, Launch, agreed, in_processes, is_main, refuse_unfit
from dartune.training.memory import fitted, longest
from dartune.training.patches import lean_steps
from dartune.training.probe import Probe, ProbeConfig, diverged
from dartune.training.reward import text
from dartune.training.trainers import ONLINE, SPLIT, TRAINERS, Lora, TrainingInputs

SHOWN = ("loss", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected", "reward", "kl")
# How Python, Rust and PyTorch say that a file cannot grow: no space, a limit on a file's size, a quota.
FULL = re.compile(r"(Errno|os error) (28|27|122)\b|failed writing file")
KEPT = {-1: 512 << 20, -3: 8 << 20}  # bytes, by mallopt's numbers of M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
Schedule = Literal["linear", "cosine", "constant", "constant_with_warmup"]


@in_processes
def write_tuned(
    task: str,
    pairs: Path,
    base: Path,
    start: Path | None,
    limits: dict[str, Any],
    options: dict[str, Any],
    output: Path,
    metrics: Path,
    plots: Path,
    *,
    method: str,
    seed: NonNegativeInt,
    lr_scheduler_type: Schedule,
    warmup_steps: Annotated[float, Field(ge=0)],
    max_grad_norm: PositiveFloat,
    patience: PositiveInt | None,
    max_length: PositiveInt,
    lora: Lora | None,
    load_in: LoadIn | None,
    launch: Launch | None,
    temperature: PositiveFloat,
    top_p: Annotated[float, Field(gt=0, le=1)],
    max_new_tokens: PositiveInt,
    watch: ProbeConfig,
) -> None:
    """Write the tuned model's folder (an adapter, or weights), its metrics and its curves.

    start: a tuned model to go on from, None for the base model. limits: the referee's (stage referee).
    options: of the trainer. method: one of TRAINERS. warmup_steps below 1 is a share of the steps. patience: stop after
    so many looks at the held-out pairs, one every SAVE_STEPS steps, without a lower loss, and keep the lowest; null
    trains to the end, and for grpo and rloo, which have no such loss, nothing else is possible. max_length: tokens of
    prompt and answer; longer pairs are left out, where TRL would cut them, and named in the metrics. lora: null trains
    all weights. load_in: bits of the base model's weights under an adapter; null: 16 on a GPU, else 32. launch: null
    for one process. temperature, top_p, max_new_tokens: of what the model writes while it is trained.
    """
    refuse_unfit(launch, method in ONLINE, watch["n_times"] > 0, load_in)
    if load_in and lora is None:
        raise UserError(f"train.load_in is {load_in}: such weights stay as they are; set train.lora, or load_in: null")
    if patience and method in ONLINE:
        raise UserError(f"train.patience is {patience}: {method} has no held-out loss to look at; set it to null")
    kept, too_long = fitting(task, parquet.read(pairs).to_pylist(), base, max_length, patience)
    drawn = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens}
    schedule = {"lr_scheduler_type": lr_scheduler_type, "warmup_steps": warmup_steps, "max_grad_norm": max_grad_norm}
    settings = {
        "method": method,
        "seed": seed,
        **schedule,
        "patience": patience,
        "max_length": max_length,
        "lora": lora,
        "load_in": load_in,
        "launch": launch,
        **drawn,
        method: options,
        "watch": watch,
    }
    files = [pairs, base, *([start] if start else [])]
    work = batches.folder(
        f"train {task}", fingerprint(files, code=code_fingerprint(__name__), limits=limits, **settings)
    )
    with ExitStack() as stack, disk_watched(work):
        judges = {
            split: stack.enter_context(Referee.from_limits(Task(task), split, limits))
            for split in wanted(method, watch)
        }
        common = {"seed": seed, **schedule}
        referee = judges.get(SPLIT)
        material = TrainingInputs(
            task, kept, base, start, work, lora, load_in, max_length, patience, common, drawn, referee
        )
        saving = {"activation_checkpointing": fitted(material, method, options, watch, launch)}
        material = replace(material, common=common | saving)
        trainer = new_trainer(material, method, options, plots)
        looker = watched(trainer, material, judges.get(watch["split"]), watch, seed)
        with lean_steps(trainer):
            trainer.train(resume_from_checkpoint=agreed(lambda: batches.last_checkpoint(work)))
        is_last = looker is None or looker.kept_step() is None
        final = trainer.evaluate() if trainer.eval_dataset is not None and is_last else {}
        weights = gathered(trainer) if launch and launch["kind"] in SHARDED else None
        if is_main():
            save(trainer, material, looker, weights, output)
            known = {"n_pairs": len(kept), "too_long": too_long, "settings": settings}
            record(trainer, final, looker, metrics, known)
    if is_main():
        shutil.rmtree(work)


@contextmanager
def disk_watched(work: Path) -> Iterator[None]:
    """A block whose failure to write is a UserError. The libraries tell it in ways of their own."""
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


def fitting(
    task: str, rows: list[dict[str, Any]], base: Path, max_length: int, patience: int | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """The pairs that are short enough, and the names of the others."""
    refuse_others(rows, base)
    too_long = [row["pair"] for row in rows if longest(row) > max_length]
    kept = [row for row in rows if longest(row) <= max_length]
    if not rows:
        raise UserError(f"train: there are no pairs of {task}; raise sample.n_pairs or pool.n_programs")
    if not kept:
        raise UserError(
            f"train: all {len(rows)} pairs of {task} are longer than train.max_length = {max_length} tokens"
        )
    if all(row["is_held_out"] for row in kept):
        raise UserError(f"train: all {len(kept)} pairs of {task} are held out; lower pairs.held_out")
    if patience and not any(row["is_held_out"] for row in kept):
        raise UserError(f"train.patience is {patience}, and no pair of {task} is held out; raise pairs.held_out")
    if too_long:
        names = ", ".join(too_long[:10]) + (" ..." if len(too_long) > 10 else "")
        print(f"train {task}: {len(too_long)} pairs over {max_length} tokens left out: {names}", file=sys.stderr)
    return kept, too_long


def refuse_others(rows: list[dict[str, Any]], base: Path) -> None:
    """A UserError about the first pair that is not in the form, or has not the tokens, that this base model gives it."""
    tokenizer = open_tokenizer(base)
    for row in rows:
        plain = row | {name: text(row[name]) for name in ("prompt", "chosen", "rejected")}
        if formatted(plain, tokenizer) != row:
            raise UserError(f"train: pair {row['pair']} was made for another model than {base}; run stage pairs again")


def wanted(method: str, watch: ProbeConfig) -> list[str]:
    """The splits on which this process judges programs during the training."""
    return [SPLIT] * (method in ONLINE) + [watch["split"]] * (watch["n_times"] > 0 and is_main())


def new_trainer(material: TrainingInputs, method: str, options: dict[str, Any], plots: Path) -> Any:
    """TRL's trainer, which tells its progress, and stops at the first loss that is no number."""
    import torch
    from transformers import PrinterCallback, set_seed

    from dartune.training.callbacks import Patience, Saving
    from dartune.training.progress import Curves, Progress

    torch.set_num_threads(1)  # the same sums in the same order on every run; stages run side by side
    keep_freed_memory()
    set_seed(material.common["seed"])
    trainer = TRAINERS[method](material, **options)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Progress(f"train {material.task}"))
    trainer.add_callback(Curves(plots))
    trainer.add_callback(Saving())
    if material.patience:
        trainer.add_callback(Patience(material.patience))
    stop_at_nan(trainer, [row["pair"] for row in material.rows])
    return trainer


def keep_freed_memory() -> None:
    """Have glibc hand it to the next step: given back to the kernel, each page costs a fault when it is used again.

    Not what is large: it would leave holes, and the process would grow to twice its size.
    """
    if hasattr(LIBC, "mallopt"):
        for limit, n_bytes in KEPT.items():
            LIBC.mallopt(limit, n_bytes)


def stop_at_nan(trainer: Any, names: list[str]) -> None:
    """Make the trainer raise a UserError at a loss that is no number. names: of the pairs, by the column number."""
    import torch

    collate, compute = trainer.data_collator, trainer.compute_loss

    def collated(rows: list[dict[str, Any]]) -> Any:
        batch = collate(rows)
        if isinstance(batch, dict) and "number" in rows[0]:
            batch["number"] = torch.tensor([row["number"] for row in rows])
        return batch

    def computed(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        numbers = inputs.pop("number", None) if isinstance(inputs, dict) else None
        result = compute(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if not bool(torch.isfinite(loss)):
            step = trainer.state.global_step + model.training
            batch = [] if numbers is None else [names[number] for number in numbers.tolist()]
            raise diverged(f"the loss is {float(loss.detach())}", step, batch)
        return result

    trainer.data_collator, trainer.compute_loss = collated, computed


def watched(trainer: Any, material: TrainingInputs, referee: Referee | None, watch: ProbeConfig, seed: int) -> Any:
    """The callback that looks at the model on the way, added to the trainer; None where nothing is to be looked at."""
    if watch["n_times"] == 0:
        return None
    from dartune.training.callbacks import ProbeCallback

    held_out = [row for row in material.rows if row["is_held_out"]]
    tokenizer, decoding = open_tokenizer(material.base), Decoding(**material.decoding)
    probe = Probe(referee, tokenizer, held_out, watch, decoding, seed) if referee else None
    looker = ProbeCallback(f"train {material.task}", probe, watch, material.work)
    trainer.add_callback(looker)
    return looker


def gathered(trainer: Any) -> Any:
    """All weights that the processes have between them, in the main one. All must call it."""
    return trainer.accelerator.get_state_dict(trainer.model_wrapped)


def save(trainer: Any, material: TrainingInputs, looker: Any, weights: Any, output: Path) -> None:
    """The adapter (or the weights) with the tokenizer, complete before it gets its name. weights: None: the model's."""

    if not all(bool(weight.isfinite().all()) for weight in trainer.model.parameters()):
        raise diverged("a weight is no number", trainer.state.global_step)

    def write(folder: Path) -> None:
        if looker is not None and looker.kept_step() is not None:
            shutil.copytree(material.work / "best", folder)
        else:
            save_model(trainer.model, folder, weights)
        open_tokenizer(material.base).save_pretrained(folder)
        write_base_revision(material.base, folder)

    atomic.publish(write, output)


def record(trainer: Any, final: dict[str, float], looker: Any, metrics: Path, known: dict[str, Any]) -> None:
    """Metrics of the last step, of the held-out pairs and of each look. No wall-clock values."""
    from dartune.training.progress import curve

    history = curve(trainer.state.log_history)
    last = {name: history[-1][name] for name in SHOWN if history and name in history[-1]}
    held_out = {name: round(final[f"eval_{name}"], 6) for name in SHOWN if f"eval_{name}" in final}
    kept = looker.kept_step() if looker else None
    watched = {"watch": looker.history if looker else [], "kept_step": kept}
    atomic.write_json(
        metrics, known | {"steps": trainer.state.global_step, "last": last, "held_out": held_out} | watched
    )
