"""Training on preference pairs: DPO by TRL, of all weights or of a LoRA adapter. The reference is the base model."""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt
from typing_extensions import TypedDict

from dartune import journal
from dartune.checkpoint import open_model, open_tokenizer
from dartune.mistake import Mistake

SAVE_STEPS = 10  # a killed training loses fewer steps than this
LOG_STEPS = 5  # a divisor of it, or an average would span a checkpoint and a resumed run would log another one

# TRL 1.16 looks at the name of a loss only when it computes the first one, long after the pool was paid for.
Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip
Schedule = Literal["linear", "cosine", "constant", "constant_with_warmup"]


class Lora(TypedDict):
    """Arguments of PEFT's LoraConfig. target_modules: "all-linear" or names of layers."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]
    r: PositiveInt
    lora_alpha: PositiveInt
    lora_dropout: Annotated[float, Field(ge=0, lt=1)]
    target_modules: str | list[str]


def write_tuned(
    task: str,
    pairs: Path,
    base: Path,
    output: Path,
    metrics: Path,
    plots: Path,
    *,
    seed: NonNegativeInt,
    beta: PositiveFloat,
    loss_type: list[Loss],
    loss_weights: list[float],
    learning_rate: PositiveFloat,
    lr_scheduler_type: Schedule,
    warmup_steps: Annotated[float, Field(ge=0)],
    num_train_epochs: PositiveFloat,
    per_device_train_batch_size: PositiveInt,
    gradient_accumulation_steps: PositiveInt,
    max_length: PositiveInt,
    lora: Lora | None,
) -> None:
    """Write the tuned model's folder (an adapter, or weights), its metrics and its curve.

    All but seed and lora go to TRL's DPOConfig under their own names; lora goes to PEFT's LoraConfig, null trains all
    weights. warmup_steps below 1 is a share of the steps. max_length: tokens of prompt and answer; longer pairs are
    left out, where TRL would cut them, and named in the metrics.
    """
    options = {
        "seed": seed,
        "beta": beta,
        "loss_type": loss_type,
        "loss_weights": loss_weights,
        "learning_rate": learning_rate,
        "lr_scheduler_type": lr_scheduler_type,
        "warmup_steps": warmup_steps,
        "num_train_epochs": num_train_epochs,
        "per_device_train_batch_size": per_device_train_batch_size,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "max_length": max_length,
    }
    kept, too_long = fitting(task, journal.read(pairs).to_pylist(), max_length)
    work = journal.folder(f"train {task}", journal.fingerprint([pairs, base, Path(__file__)], lora=lora, **options))
    trainer = new_trainer(f"train {task}", kept, base, work, options, lora)
    trainer.train(resume_from_checkpoint=journal.last_checkpoint(work))
    final = trainer.evaluate() if trainer.eval_dataset is not None else {}
    save(trainer, base, output)
    record(trainer, final, metrics, plots, {"n_pairs": len(kept), "too_long": too_long, "beta": beta})
    shutil.rmtree(work)


def fitting(task: str, rows: list[dict[str, Any]], max_length: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The pairs that are short enough, and the names of the others."""
    too_long = [row["pair"] for row in rows if longest(row) > max_length]
    kept = [row for row in rows if longest(row) <= max_length]
    if not any(not row["is_held_out"] for row in kept):
        raise Mistake(f"train: all {len(rows)} pairs of {task} are longer than train.max_length = {max_length} tokens")
    if too_long:
        names = ", ".join(too_long[:10]) + (" ..." if len(too_long) > 10 else "")
        print(f"train {task}: {len(too_long)} pairs over {max_length} tokens left out: {names}", file=sys.stderr)
    return kept, too_long


def longest(row: dict[str, Any]) -> int:
    return int(row["prompt_tokens"] + max(row["chosen_tokens"], row["rejected_tokens"]))


def new_trainer(
    stage: str,
    rows: list[dict[str, Any]],
    base: Path,
    work: Path,
    options: dict[str, Any],
    lora: Lora | None,
) -> Any:
    """TRL's trainer over these pairs: the held-out ones are for evaluation, the rest for training."""
    import torch
    from peft import LoraConfig
    from transformers import PrinterCallback, set_seed
    from trl import DPOConfig, DPOTrainer

    from dartune.curve import Progress

    torch.set_num_threads(1)  # the same sums in the same order on every run; stages run side by side
    set_seed(options["seed"])
    on_gpu = torch.cuda.is_available()
    try:
        settings = DPOConfig(
            output_dir=str(work),
            use_cpu=not on_gpu,
            bf16=on_gpu,
            activation_checkpointing=on_gpu,
            dataloader_pin_memory=on_gpu,
            precompute_ref_log_probs=True,  # once, not in every epoch
            logging_steps=LOG_STEPS,
            save_steps=SAVE_STEPS,
            save_total_limit=1,
            disable_tqdm=True,
            report_to="none",
            **options,
        )
        adapter = LoraConfig(task_type="CAUSAL_LM", **lora) if lora else None
    except (TypeError, ValueError) as error:
        raise Mistake(f"params.yaml: train: {error}") from error
    trainer = DPOTrainer(
        model=open_model(base),
        args=settings,
        processing_class=open_tokenizer(base),
        train_dataset=dataset(row for row in rows if not row["is_held_out"]),
        eval_dataset=dataset(row for row in rows if row["is_held_out"]),
        peft_config=adapter,
        callbacks=[Progress(stage)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def dataset(rows: Any) -> Any:
    """What TRL trains on, and nothing else of the pairs; None without rows."""
    from datasets import Dataset

    columns = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows]
    return Dataset.from_list(columns) if columns else None


def save(trainer: Any, base: Path, output: Path) -> None:
    """The adapter (or the weights) with the tokenizer, complete before it gets its name."""
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    trainer.model.save_pretrained(partial)
    open_tokenizer(base).save_pretrained(partial)
    shutil.rmtree(output, ignore_errors=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(output)


def record(trainer: Any, final: dict[str, float], metrics: Path, plots: Path, known: dict[str, Any]) -> None:
    """Metrics of the last step and of the held-out pairs, and the curve. No wall-clock values."""
    from dartune.curve import curve, write_csv

    history = curve(trainer.state.log_history)
    shown = ("loss", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected")
    last = {name: history[-1][name] for name in shown if history and name in history[-1]}
    held_out = {name: round(final[f"eval_{name}"], 6) for name in shown if f"eval_{name}" in final}
    steps = {"steps": trainer.state.global_step}
    journal.write_json(metrics, known | steps | {"last": last, "held_out": held_out})
    write_csv(history, plots)
