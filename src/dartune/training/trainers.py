"""Trainers: each makes one of TRL's trainers out of the same material, so that they can be compared.

A trainer's keyword-only arguments are its section under trainers in the preset. All but LoRA and what a docstring
names go to TRL under their own names.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from typing_extensions import TypedDict

from dartune import params
from dartune.errors import UserError, nearest
from dartune.files.atomic import publish
from dartune.models.checkpoint import (
    LoadIn,
    check_base,
    is_adapter,
    open_adapter,
    open_model,
    open_tokenizer,
    render,
)
from dartune.referee.referee import Referee
from dartune.tasks.task import Task
from dartune.training.distributed import is_main
from dartune.training.patches import spare_hash, speed_up

SAVE_STEPS = 10  # a killed training loses fewer steps than this, unless they are quick and saving is slow
LOG_STEPS = 5  # a divisor of it, or an average would span a checkpoint and a resumed run would log another one

# TRL 1.16 looks at the name of a loss only when it computes the first one, long after the pool was paid for.
Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip
# Losses with another divergence than reverse_kl, as TRL 1.16 has them.
DIVERGENT = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}
Divergence = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]
OnlineLoss = Literal["grpo", "dr_grpo", "dapo", "bnpo"]


class Lora(TypedDict):
    """Arguments of PEFT's LoraConfig. target_modules: "all-linear" or names of layers."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]
    r: PositiveInt
    lora_alpha: PositiveInt
    lora_dropout: Annotated[float, Field(ge=0, lt=1)]
    target_modules: str | list[str]


@dataclass(frozen=True)
class TrainingInputs:
    """What a trainer works on.

    rows: pairs, of which the held-out ones are for evaluation. start: a tuned model to go on from, its own reference;
    None: the base model. work: the folder of its checkpoints. patience: looks at the held-out rows without a lower
    loss. common: arguments of TrainingArguments. decoding: temperature, top_p and tokens of what the model writes
    meanwhile. referee: gives the rewards; None where none are.
    """

    task: str
    rows: list[dict[str, Any]]
    base: Path
    start: Path | None
    work: Path
    lora: Lora | None
    load_in: LoadIn | None
    max_length: int
    patience: int | None
    common: dict[str, Any]
    decoding: dict[str, Any]
    referee: Referee | None


def dpo(
    material: TrainingInputs,
    *,
    learning_rate: PositiveFloat,
    num_train_epochs: PositiveFloat,
    per_device_train_batch_size: PositiveInt,
    gradient_accumulation_steps: PositiveInt,
    beta: PositiveFloat,
    loss_type: Annotated[list[Loss], Field(min_length=1)],
    loss_weights: list[float],
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)],
    f_divergence_type: Divergence,
) -> Any:
    """Direct preference optimisation (arXiv 2305.18290), with any of TRL's losses or a weighted mixture.

    f_divergence_type: "forward_kl" is EvoTune's (f-DPO, arXiv 2309.16240).
    """
    from trl import DPOConfig, DPOTrainer

    spare_hash()
    settings = arguments(
        DPOConfig,
        material,
        learning_rate=learning_rate,
        num_train_epochs=num_train_epochs,
        per_device_train_batch_size=per_device_train_batch_size,
        per_device_eval_batch_size=per_device_train_batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        beta=beta,
        loss_type=loss_type,
        loss_weights=loss_weights,
        label_smoothing=label_smoothing,
        f_divergence_type=f_divergence_type,
        max_length=material.max_length,
        precompute_ref_log_probs=True,  # once, not in every epoch
        disable_dropout=False,  # TRL would turn lora_dropout off
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,  # length and number
    )
    columns = ("prompt", "chosen", "rejected")
    return new(DPOTrainer, settings, material, dataset(material, False, columns), dataset(material, True, columns))


def sft(
    material: TrainingInputs,
    *,
    learning_rate: PositiveFloat,
    num_train_epochs: PositiveFloat,
    per_device_train_batch_size: PositiveInt,
    gradient_accumulation_steps: PositiveInt,
) -> Any:
    """Supervised fine-tuning on the chosen programs, that is rejection sampling fine-tuning."""
    from trl import SFTConfig, SFTTrainer

    settings = arguments(
        SFTConfig,
        material,
        learning_rate=learning_rate,
        num_train_epochs=num_train_epochs,
        per_device_train_batch_size=per_device_train_batch_size,
        per_device_eval_batch_size=per_device_train_batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        max_length=material.max_length,
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
    )
    columns = ("prompt", "completion")
    return new(SFTTrainer, settings, material, dataset(material, False, columns), dataset(material, True, columns))


def grpo(
    material: TrainingInputs,
    *,
    learning_rate: PositiveFloat,
    n_completions: PositiveInt,
    num_generations: Annotated[int, Field(ge=2)],
    num_iterations: PositiveInt,
    beta: NonNegativeFloat,
    loss_type: OnlineLoss,
) -> Any:
    """Group relative policy optimisation (arXiv 2402.03300), online: the referee rewards what the model writes.

    n_completions: written and judged in all, num_generations of them in each step. num_iterations: updates a step.
    """
    from trl import GRPOConfig, GRPOTrainer

    settings = online(GRPOConfig, material, learning_rate, num_generations, num_iterations, beta, loss_type=loss_type)
    return rewarded(GRPOTrainer, settings, material, n_completions // num_generations)


def rloo(
    material: TrainingInputs,
    *,
    learning_rate: PositiveFloat,
    n_completions: PositiveInt,
    num_generations: Annotated[int, Field(ge=2)],
    num_iterations: PositiveInt,
    beta: NonNegativeFloat,
) -> Any:
    """REINFORCE leave-one-out (arXiv 2402.14740), online. It stands for the PPO that arXiv 2507.10614 names: TRL 1.16
    carries no PPO any more, and RLOO is what its authors found to do as well without a value model.

    n_completions, num_generations, num_iterations: as for grpo.
    """
    from trl import RLOOConfig, RLOOTrainer

    settings = online(RLOOConfig, material, learning_rate, num_generations, num_iterations, beta)
    return rewarded(RLOOTrainer, settings, material, n_completions // num_generations)


TRAINERS: dict[str, Callable[..., Any]] = {"dpo": dpo, "sft": sft, "grpo": grpo, "rloo": rloo}
ONLINE = ("grpo", "rloo")
SPLIT = "train"  # whose instances reward


def options(name: str, file: Path = params.FILE) -> dict[str, Any]:
    """The trainer's own section under `trainers`, checked."""
    if name not in TRAINERS:
        raise UserError(f"{file}: train.method: there is no trainer {name!r}{nearest(name, TRAINERS)}")
    content = params.everything(file).get("trainers", {})
    if not isinstance(content.get(name), dict):
        raise UserError(f"{file}: trainers.{name} is missing; train.method {name} needs it")
    values = params.check(f"trainers.{name}", content[name], TRAINERS[name], file)
    check_fit(name, values, params.place("trainers", name, file))
    return values


def check_fit(name: str, values: dict[str, Any], source: Path) -> None:
    """What no single value shows. source: the file where they stand."""
    if name == "dpo" and len(values["loss_type"]) != len(values["loss_weights"]):
        found = len(values["loss_weights"])
        raise UserError(f"{source}: trainers.dpo.loss_weights has {found} values; one per loss_type is needed")
    if name == "dpo" and "exo_pair" in values["loss_type"] and not values["label_smoothing"]:
        raise UserError(f"{source}: trainers.dpo.label_smoothing is 0; exo_pair needs more, such as 0.001")
    if name == "dpo" and values["f_divergence_type"] != "reverse_kl" and not set(values["loss_type"]) <= DIVERGENT:
        found, losses = values["f_divergence_type"], ", ".join(sorted(DIVERGENT))
        raise UserError(f"{source}: trainers.dpo.f_divergence_type is {found}; only these losses have it: {losses}")
    if name in ONLINE and values["n_completions"] % values["num_generations"]:
        raise UserError(f"{source}: trainers.{name}.n_completions is no multiple of num_generations; make it one")


def arguments(config: Any, material: TrainingInputs, **own: Any) -> Any:
    """TRL's settings: the trainer's own, those that all share, and what the hardware asks for."""
    import torch

    on_gpu = torch.cuda.is_available()
    hardware = {
        "use_cpu": not on_gpu,
        "bf16": on_gpu,
        "tf32": on_gpu or None,
        "dataloader_pin_memory": on_gpu,
        "accelerator_config": {"non_blocking": on_gpu},  # the next batch is made while the GPU works on the last
    }
    fixed = {
        "output_dir": str(material.work),
        "activation_checkpointing": False,
        "logging_steps": LOG_STEPS,
        "logging_nan_inf_filter": False,  # training.py stops at them; to look once more, the host would wait for a GPU
        "logging_first_step": True,  # a shorter training has a curve too: no commit holds an empty folder
        "save_steps": SAVE_STEPS,
        "save_total_limit": 1,
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,
        "report_to": "none",
    }
    try:
        return config(**fixed | hardware | stopping(material) | material.common | own)
    except (TypeError, ValueError) as error:
        raise UserError(f"train: {str(error).splitlines()[0]}") from error


def stopping(material: TrainingInputs) -> dict[str, Any]:
    """Arguments of early stopping: a look at the held-out rows with each checkpoint."""
    if not material.patience:
        return {}
    return {
        "eval_strategy": "steps",
        "eval_steps": SAVE_STEPS,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
    }


def online(
    config: Any,
    material: TrainingInputs,
    learning_rate: float,
    num_generations: int,
    num_iterations: int,
    beta: float,
    **own: Any,
) -> Any:
    """Settings of the trainers that learn from what the model writes: one prompt, one group of answers, one step."""
    drawn = {"temperature": material.decoding["temperature"], "top_p": material.decoding["top_p"]}
    return arguments(
        config,
        material,
        learning_rate=learning_rate,
        num_train_epochs=1,
        per_device_train_batch_size=num_generations,
        num_generations=num_generations,
        num_iterations=num_iterations,
        save_steps=SAVE_STEPS * num_iterations,  # TRL's checkpoint does not hold the answers that it goes on using
        generation_kwargs={"remove_invalid_values": True},  # a model that diverged is found out by its loss
        max_completion_length=material.decoding["max_new_tokens"],
        mask_truncated_completions=False,  # an answer that was cut is a failure to learn from
        beta=beta,
        **drawn,
        **own,
    )


def new(trainer: Any, settings: Any, material: TrainingInputs, training: Any, held_out: Any) -> Any:
    """The trainer on the model to start from."""
    model, adapter = starting_model(material)
    speed_up(model)
    with calm_reference(model):
        made = trainer(
            model=model,
            args=settings,
            processing_class=open_tokenizer(material.base),
            train_dataset=training,
            eval_dataset=held_out,
            peft_config=adapter,
        )
    size = settings.train_batch_size * settings.gradient_accumulation_steps * settings.world_size
    made._get_train_sampler = lambda rows: order(list(rows["length"]), size, made)
    return made


def order(lengths: list[int], size: int, trainer: Any) -> Any:
    """A sampler: each epoch's rows in steps of `size`, rows of similar length together.

    As TRL's group_by_length has it, whose own sampler asks for the batch of one process, so that several would make
    other steps than one does, and for torch's chance, so that a training resumed in its second epoch has the first's.
    """
    from torch import Generator
    from torch.utils.data import Sampler
    from transformers.trainer_pt_utils import get_length_grouped_indices

    class Order(Sampler[int]):
        def __len__(self) -> int:
            return len(lengths)

        def __iter__(self) -> Iterator[int]:
            chance = Generator().manual_seed(trainer.args.seed + int(trainer.state.epoch or 0))
            return iter(get_length_grouped_indices(lengths, size, generator=chance))

    return Order()


def rewarded(trainer: Any, settings: Any, material: TrainingInputs, n_steps: int) -> Any:
    """The same for an online trainer: the task's prompt once a step, and the referee's rewards."""
    from datasets import Dataset

    from dartune.training.reward import Reward

    tokenizer, (model, adapter) = open_tokenizer(material.base), starting_model(material)
    prompt = render(tokenizer, Task(material.task).prompt)
    assert material.referee is not None
    speed_up(model)
    with calm_reference(model):
        return trainer(
            model=model,
            reward_funcs=Reward(material.referee, SPLIT),
            args=settings,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list([{"prompt": prompt}] * n_steps),
            peft_config=adapter,
        )


@contextmanager
def calm_reference(model: Any) -> Iterator[None]:
    """A block where a trainer copies the tuned adapter that it starts from: the copy, its reference, has no dropout."""
    settings = model.peft_config["default"] if hasattr(model, "peft_config") else None
    dropout = getattr(settings, "lora_dropout", 0.0)
    try:
        if settings:
            settings.lora_dropout = 0.0
        yield
    finally:
        if settings:
            settings.lora_dropout = dropout


def starting_model(material: TrainingInputs) -> tuple[Any, Any]:
    """(model, LoRA settings of a new adapter or None). A tuned adapter goes on being trained as it is."""
    from peft import LoraConfig

    start, lora = material.start, material.lora
    if start is not None and is_adapter(start) != bool(lora):
        found = "an adapter" if is_adapter(start) else "no adapter"
        raise UserError(f"train: {start} is {found}, and train.lora is {lora}")
    if start is not None and lora:
        check_base(material.base, start)
        return open_adapter(open_model(material.base, load_in=material.load_in), start, is_trainable=True), None
    model = open_model(material.base, start, material.load_in)
    # All weights are trained in float32, as TRL has it: in bf16 a small step rounds to none.
    return (model, LoraConfig(task_type="CAUSAL_LM", **lora)) if lora else (model.float(), None)


def dataset(material: TrainingInputs, held_out: bool, columns: tuple[str, ...]) -> Any:
    """What TRL trains on, the longest text's length, and the row's number; None without rows. Longest first: so the
    batches in which TRL computes references hold little padding, and too little memory shows at once.

    It lies in the journal's folder: there TRL keeps what it computes once, references among it, for all processes.
    """
    from accelerate import PartialState
    from datasets import Dataset

    rows = [
        {
            **{name: row["chosen" if name == "completion" else name] for name in columns},
            "length": row["prompt_tokens"] + max(row["chosen_tokens"], row["rejected_tokens"]),
            "number": number,
        }
        for number, row in enumerate(material.rows)
        if row["is_held_out"] == held_out
    ]
    rows.sort(key=lambda row: row["length"], reverse=True)
    folder = material.work / ("held_out" if held_out else "rows")
    with PartialState().main_process_first():
        if rows and is_main():
            publish(lambda partial: Dataset.from_list(rows).save_to_disk(partial), folder)
    return Dataset.load_from_disk(folder) if rows else None
