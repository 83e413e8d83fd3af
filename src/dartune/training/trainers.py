"""Trainers: each makes one of TRL's trainers from the same inputs, so that they can be compared.

A trainer's keyword-only arguments are its section under `trainers` in the preset. They go to TRL under their own names,
except those that a docstring explains. Under `extra` any other argument of TRL's configuration can stand.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from typing_extensions import TypedDict

from dartune import params
from dartune.errors import UserError, nearest
from dartune.files.atomic import publish
from dartune.models.checkpoint import (
    check_base,
    is_adapter,
    number_format,
    open_adapter,
    open_model,
    open_tokenizer,
    render,
)
from dartune.models.host import run_settings
from dartune.referee.referee import Referee
from dartune.tasks.task import Task
from dartune.training.distributed import is_main
from dartune.training.patches import patch_model, patched, plain_reference, skip_reference_hash

SAVE_STEPS = 10  # a killed training loses fewer steps than this, or half a minute: see callbacks.Saving
COMMON = ("seed", "lr_scheduler_type", "warmup_steps", "max_grad_norm")  # what all trainers take of section train
# The reference's log-probabilities once, not in every epoch; TRL would switch lora_dropout off.
DPO_FIXED = {"precompute_ref_log_probs": True, "disable_dropout": False}
CONFIGS = {"dpo": "DPOConfig", "sft": "SFTConfig", "grpo": "GRPOConfig", "rloo": "RLOOConfig"}  # TRL's
LOG_STEPS = 5  # divides SAVE_STEPS, or an average would span a checkpoint and a resumed run would log another one

# TRL 1.16 checks the name of a loss only when it computes the first one, long after the pool was paid for.
Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip
# Losses for which TRL 1.16 allows another divergence than reverse_kl.
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

    rows: pairs; the held-out ones are for evaluation. start: a tuned model to go on from, which is then its own
    reference; None for the base model. work: the folder of checkpoints. settings: section train of params.yaml, and the
    trainer's options under its name. referee: gives the rewards of online trainers; None for the others.
    """

    task: str
    rows: list[dict[str, Any]]
    base: Path
    start: Path | None
    work: Path
    settings: dict[str, Any]
    referee: Referee | None

    @property
    def is_online(self) -> bool:
        """Whether the model learns from what it writes during the training."""
        return self.settings["method"] in ONLINE

    @property
    def options(self) -> dict[str, Any]:
        """The trainer's options."""
        return dict(self.settings[self.settings["method"]])


def dpo(
    inputs: TrainingInputs,
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
    extra: dict[str, Any],
) -> Any:
    """Direct preference optimisation (arXiv 2305.18290), with any of TRL's losses or a weighted mixture.

    f_divergence_type: "forward_kl" is EvoTune's (f-DPO, arXiv 2309.16240).
    """
    options = dict(locals())  # first, so that it holds the arguments alone
    from trl import DPOConfig, DPOTrainer

    skip_reference_hash()
    return offline(DPOTrainer, DPOConfig, options | DPO_FIXED, ("prompt", "chosen", "rejected"))


def sft(
    inputs: TrainingInputs,
    *,
    learning_rate: PositiveFloat,
    num_train_epochs: PositiveFloat,
    per_device_train_batch_size: PositiveInt,
    gradient_accumulation_steps: PositiveInt,
    extra: dict[str, Any],
) -> Any:
    """Supervised fine-tuning on the chosen programs, that is rejection sampling fine-tuning."""
    options = dict(locals())
    from trl import SFTConfig, SFTTrainer

    return offline(SFTTrainer, SFTConfig, options, ("prompt", "completion"))


def grpo(
    inputs: TrainingInputs,
    *,
    learning_rate: PositiveFloat,
    n_completions: PositiveInt,
    num_generations: Annotated[int, Field(ge=2)],
    num_iterations: PositiveInt,
    beta: NonNegativeFloat,
    loss_type: OnlineLoss,
    extra: dict[str, Any],
) -> Any:
    """Group relative policy optimisation (arXiv 2402.03300), online: the referee rewards what the model writes.

    n_completions: written and judged in all, num_generations of them in each step. num_iterations: updates per step.
    """
    options = dict(locals())
    from trl import GRPOConfig, GRPOTrainer

    return online(GRPOTrainer, GRPOConfig, options)


def rloo(
    inputs: TrainingInputs,
    *,
    learning_rate: PositiveFloat,
    n_completions: PositiveInt,
    num_generations: Annotated[int, Field(ge=2)],
    num_iterations: PositiveInt,
    beta: NonNegativeFloat,
    extra: dict[str, Any],
) -> Any:
    """REINFORCE leave-one-out (arXiv 2402.14740), online. It replaces the PPO that arXiv 2507.10614 names: TRL 1.16 has
    no PPO any more, and RLOO's authors found it as good without a value model.

    n_completions, num_generations, num_iterations: as for grpo.
    """
    options = dict(locals())
    from trl import RLOOConfig, RLOOTrainer

    return online(RLOOTrainer, RLOOConfig, options)


TRAINERS: dict[str, Callable[..., Any]] = {"dpo": dpo, "sft": sft, "grpo": grpo, "rloo": rloo}
ONLINE = ("grpo", "rloo")
SPLIT = "train"  # whose instances reward


def options(name: str, file: Path = params.FILE) -> dict[str, Any]:
    """Return the trainer's section under `trainers`; raises UserError where it is missing or invalid."""
    if name not in TRAINERS:
        raise UserError(f"{file}: train.method: there is no trainer {name!r}{nearest(name, TRAINERS)}")
    content = params.everything(file).get("trainers", {})
    if not isinstance(content.get(name), dict):
        raise UserError(f"{file}: trainers.{name} is missing; train.method {name} needs it")
    values = params.check(f"trainers.{name}", content[name], TRAINERS[name], file)
    check_combination(name, values, params.place("trainers", name, file))
    return values


def options_of(method: str | list[str], file: Path = params.FILE) -> dict[str, dict[str, Any]]:
    """Return the sections of all trainers of train.method, by name. Raises what `options` raises."""
    return {name: options(name, file) for name in in_turn(method)}


def in_turn(method: str | list[str]) -> list[str]:
    """Return the trainers that train.method names, in the order in which they train."""
    return [method] if isinstance(method, str) else method


def check_combination(name: str, values: dict[str, Any], source: Path) -> None:
    """Raise UserError about values that are valid alone but not together. source: the file that has them."""
    problem, losses = None, values.get("loss_type", [])
    if name in ONLINE and values["n_completions"] % values["num_generations"]:
        problem = "n_completions is no multiple of num_generations; make it one"
    elif name == "dpo" and len(losses) != len(values["loss_weights"]):
        problem = f"loss_weights has {len(values['loss_weights'])} values; one per loss_type is needed"
    elif name == "dpo" and "exo_pair" in losses and not values["label_smoothing"]:
        problem = "label_smoothing is 0; exo_pair needs more, such as 0.001"
    elif name == "dpo" and values["f_divergence_type"] != "reverse_kl" and not set(losses) <= DIVERGENT:
        allowed = ", ".join(sorted(DIVERGENT))
        problem = f"f_divergence_type is {values['f_divergence_type']}; only these losses have it: {allowed}"
    if problem:
        raise UserError(f"{source}: trainers.{name}.{problem}")


def check_extra(name: str, values: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raise UserError for arguments under `extra` that TRL's configuration refuses. Without any, imports no TRL.

    name: of the trainer. values: its section. settings: section train.
    """
    if not values["extra"]:
        return
    import trl

    inputs = TrainingInputs("", [], Path(), None, Path(".work"), settings, None)
    options = {key: value for key, value in values.items() if key != "n_completions"}
    more = online_arguments(inputs, options) if name in ONLINE else offline_arguments(inputs, options)
    arguments(getattr(trl, CONFIGS[name]), inputs, **options | more | (DPO_FIXED if name == "dpo" else {}))


def arguments(config: Any, inputs: TrainingInputs, *, extra: dict[str, Any], **options: Any) -> Any:
    """Return TRL's configuration. extra: what params may set beside `options`, by TRL's names.

    Raises UserError where TRL refuses it, and for an `extra` that is set here.
    """
    settings = shared_arguments(inputs) | options
    where, known = f"trainers.{inputs.settings['method']}.extra", [field.name for field in fields(config)]
    for name in extra:
        if name in settings:
            raise UserError(f"{where}.{name} is set by dartune or by another parameter; take it out")
        if name not in known:
            raise UserError(f"{where}.{name} is no argument of TRL's {config.__name__}{nearest(name, known)}")
    try:
        return config(**settings | extra)
    except (TypeError, ValueError) as error:
        raise UserError(f"train: {str(error).splitlines()[0]}") from error


def shared_arguments(inputs: TrainingInputs) -> dict[str, Any]:
    """Return the arguments of TRL's configurations that all trainers share, and those that the hardware asks for."""
    import torch

    on_gpu, settings = torch.cuda.is_available(), inputs.settings
    is_bf16 = on_gpu or (bool(inputs.rows) and settings["lora"] and number_format(inputs.base) == torch.bfloat16)
    fixed: dict[str, Any] = {
        "output_dir": str(inputs.work),
        "use_cpu": not on_gpu,
        "bf16": bool(is_bf16),
        "tf32": on_gpu or None,
        "accelerator_config": {"non_blocking": on_gpu},  # the next batch is made while the GPU works on the last
        "activation_checkpointing": False,
        "logging_steps": LOG_STEPS,
        "logging_nan_inf_filter": False,  # TrainerMixin stops at such a loss; the filter would wait for the GPU
        "logging_first_step": True,  # a shorter training has curves too: no commit holds an empty folder
        "save_steps": SAVE_STEPS,
        "save_total_limit": 1,
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,
        "report_to": settings["report_to"] or "none",
    }
    if settings["patience"]:  # an evaluation of the held-out rows with each checkpoint
        fixed |= {"eval_strategy": "steps", "eval_steps": SAVE_STEPS, "load_best_model_at_end": True}
    return fixed | {name: settings[name] for name in COMMON}


def offline_arguments(inputs: TrainingInputs, options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that trainings on pairs share. options: the trainer's."""
    return {
        "per_device_eval_batch_size": options["per_device_train_batch_size"],
        "max_length": inputs.settings["max_length"],
        "train_sampling_strategy": "group_by_length",
        "remove_unused_columns": False,  # length
    }


def online_arguments(inputs: TrainingInputs, options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that trainings on what the model writes share. options: the trainer's."""
    return {
        "num_train_epochs": 1,
        "per_device_train_batch_size": options["num_generations"],
        "save_steps": SAVE_STEPS * options["num_iterations"],  # a checkpoint lacks completions that TRL goes on using
        "generation_kwargs": {"remove_invalid_values": True},  # a diverged model shows in its loss
        "max_completion_length": inputs.settings["max_new_tokens"],
        "mask_truncated_completions": False,  # a completion that was cut is a failure to learn from
        "temperature": inputs.settings["temperature"],
        "top_p": inputs.settings["top_p"],
    }


def offline(trainer: Any, config: Any, options: dict[str, Any], columns: tuple[str, ...]) -> Any:
    """Return a trainer on the pairs. options: a trainer function's arguments. columns: what TRL reads of a pair."""
    inputs: TrainingInputs = options.pop("inputs")
    return new(
        trainer,
        inputs,
        args=arguments(config, inputs, **options | offline_arguments(inputs, options)),
        train_dataset=dataset(inputs, False, columns),
        eval_dataset=dataset(inputs, True, columns),
    )


def online(trainer: Any, config: Any, options: dict[str, Any]) -> Any:
    """Return a trainer that learns from what the model writes: in each step one prompt and one group of completions."""
    from datasets import Dataset

    from dartune.training.reward import Reward

    inputs: TrainingInputs = options.pop("inputs")
    n_steps = options.pop("n_completions") // options["num_generations"]
    prompt = render(open_tokenizer(inputs.base), Task(inputs.task, run_settings(inputs.base)["prompt"]).prompt)
    assert inputs.referee is not None
    settings = arguments(config, inputs, **options | online_arguments(inputs, options))
    rows = Dataset.from_list([{"prompt": prompt}] * n_steps)
    return new(trainer, inputs, args=settings, train_dataset=rows, reward_funcs=Reward(inputs.referee, SPLIT))


def new(trainer: Any, inputs: TrainingInputs, **settings: Any) -> Any:
    """Return the patched trainer on the model to start from. settings: arguments of its constructor."""
    model, lora = starting_model(inputs)
    patch_model(model)
    with plain_reference(model):
        return patched(trainer)(model=model, processing_class=open_tokenizer(inputs.base), peft_config=lora, **settings)


def starting_model(inputs: TrainingInputs) -> tuple[Any, Any]:
    """Return (model, LoraConfig of a new adapter or None). A tuned adapter goes on being trained as it is.

    Raises UserError where inputs.start and inputs.lora disagree, or where the start was tuned on another base model.
    """
    from peft import LoraConfig

    start, lora, load_in = inputs.start, inputs.settings["lora"], inputs.settings["load_in"]
    if start is not None and is_adapter(start) != bool(lora):
        kind = "an adapter" if is_adapter(start) else "no adapter"
        raise UserError(f"train: {start} is {kind}, and train.lora is {lora}")
    if start is not None and lora:
        check_base(inputs.base, start)
        return open_adapter(open_model(inputs.base, load_in=load_in), start, is_trainable=True), None
    model = open_model(inputs.base, start, load_in)
    # As in TRL, weights that are all trained are float32: in bf16 a small step rounds to none.
    return (model, LoraConfig(task_type="CAUSAL_LM", **lora)) if lora else (model.float(), None)


def n_tokens(row: dict[str, Any]) -> int:
    """Return the tokens of a pair's prompt with its longer answer."""
    return int(row["prompt_tokens"] + max(row["chosen_tokens"], row["rejected_tokens"]))


def dataset(inputs: TrainingInputs, held_out: bool, columns: tuple[str, ...]) -> Any:
    """Return the rows that TRL reads, with the longer text's length; None without rows.

    Longest first: so the batches of the reference's pass hold little padding, and the first batch takes most memory.
    The dataset is in the folder of checkpoints: there TRL caches the reference's log-probabilities for all processes.
    """
    from accelerate import PartialState
    from datasets import Dataset

    rows = [
        {
            **{name: row["chosen" if name == "completion" else name] for name in columns},
            "length": n_tokens(row),
        }
        for row in inputs.rows
        if row["is_held_out"] == held_out
    ]
    rows.sort(key=lambda row: row["length"], reverse=True)
    folder = inputs.work / ("held_out" if held_out else "rows")
    with PartialState().main_process_first():
        if rows and is_main():
            publish(lambda partial: Dataset.from_list(rows).save_to_disk(partial), folder)
    return Dataset.load_from_disk(folder) if rows else None
