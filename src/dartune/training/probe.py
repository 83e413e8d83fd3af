"""ProbeConfig a training for what makes it useless: fresh samples, held-out pairs and other tasks' programs, now and then.

The model is measured before the first step, n_times on the way and after the last. What went further off its start than
a limit allows is a warning, and can stop the training or take it back to the best model so far.
"""

import math
from collections.abc import Iterator
from random import Random
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from typing_extensions import TypedDict

from dartune.errors import UserError
from dartune.models.backend import Decoding, start_seed
from dartune.models.checkpoint import render, render_completion
from dartune.referee.completions import equals_template, judge, template_score
from dartune.referee.referee import Referee
from dartune.tasks.task import Task

N_LESSONS = 32  # programs of each other task
BATCH = 16  # texts a forward pass, fewer where their logits were more than LOGITS, a GiB in float32
LOGITS = 2**28


class ProbeConfig(TypedDict):
    """n_times: measurements on the way, the last at the end; 0 watches nothing. n_samples: completions each time.

    split: whose instances judge them, never the training's. on_warning: "note" it, "stop" the training, or "roll_back"
    to the model with the best mean quality among those without warnings. max_validity_drop, max_distinct_drop,
    max_template_rise: shares of the samples, the last of those that score as the template does. max_length_drift: share
    of the start's mean length. max_chosen_drop: nats a held-out chosen program. max_forgetting: nats a token of other
    tasks' programs. remember: those tasks.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]
    n_times: NonNegativeInt
    n_samples: PositiveInt
    split: str
    on_warning: Literal["note", "stop", "roll_back"]
    max_validity_drop: Annotated[float, Field(ge=0, le=1)]
    max_distinct_drop: Annotated[float, Field(ge=0, le=1)]
    max_template_rise: Annotated[float, Field(ge=0, le=1)]
    max_length_drift: NonNegativeFloat
    max_chosen_drop: NonNegativeFloat
    max_forgetting: NonNegativeFloat
    remember: list[str]


class Probe:
    """Measures a model, each time in the same way."""

    def __init__(
        self,
        referee: Referee,
        tokenizer: Any,
        held_out: list[dict[str, Any]],
        watching: ProbeConfig,
        decoding: Decoding,
        seed: int,
    ) -> None:
        self.referee, self.tokenizer, self.decoding = referee, tokenizer, decoding
        self.n_samples, self.split, self.seed = watching["n_samples"], watching["split"], seed
        self.task = referee.task
        self.pairs = [
            {side: self._ids(row["prompt"], row[side]) for side in ("chosen", "rejected")} for row in held_out
        ]
        self.lessons = [self._ids(*lesson) for lesson in lessons(tokenizer, watching["remember"], self.task.name)]
        self.template = template_score(referee)
        self.sane = self._ids(render(tokenizer, self.task.prompt), render_completion(tokenizer, self.task.template))
        self.reference: np.ndarray | None = None  # log-probabilities of the pairs under the model before training

    def measure(self, model: Any, step: int = 0) -> dict[str, float]:
        """Figures of the model as it is now; its mode and the trainer's chance stay as they were."""
        was_training = model.training
        model.eval()
        if not math.isfinite(log_probabilities(model, [self.sane])[0]):
            raise diverged("the model's probabilities are no numbers", step)
        found = self._samples(model) | self._pairs(model) | self._lessons(model)
        model.train(was_training)
        return {name: round(float(value), 6) for name, value in found.items()}

    def _samples(self, model: Any) -> dict[str, float]:
        from dartune.models.transformers_backend import TransformersBackend

        backend = TransformersBackend.from_loaded(model, self.tokenizer)
        prompts, seed = [self.task.prompt] * self.n_samples, start_seed("watch", self.task.name, self.seed)
        written = backend.complete(prompts, seed=seed, decoding=self.decoding)
        verdicts = [verdict for _, verdict in judge(self.referee, [each.text for each in written])]
        scores = [verdict.score for verdict in verdicts if verdict.score is not None]
        behaviours = {verdict.behaviour for verdict in verdicts} - {None}
        n_equal = sum(equals_template(score, self.template) for score in scores)
        return {
            "validity": len(scores) / self.n_samples,
            "mean": float(sum(self.task.quality(score, self.split) for score in scores)) / self.n_samples,
            "distinct_behaviours": len(behaviours) / self.n_samples,
            "equal_to_template": n_equal / self.n_samples,
            "mean_tokens": float(np.mean([each.n_tokens for each in written])),
        }

    def _pairs(self, model: Any) -> dict[str, float]:
        """Of the held-out pairs: log-probabilities, and how much the margin grew; without any, nothing."""
        if not self.pairs:
            return {}
        values = np.array([log_probabilities(model, [pair[side] for pair in self.pairs]) for side in self.pairs[0]])
        self.reference = values if self.reference is None else self.reference
        margins = (values - self.reference)[0] - (values - self.reference)[1]
        chosen, rejected = values.mean(axis=1)
        return {"chosen": chosen, "rejected": rejected, "margin": margins.mean(), "accuracy": (margins > 0).mean()}

    def _lessons(self, model: Any) -> dict[str, float]:
        if not self.lessons:
            return {}
        n_tokens = sum(len(ids) - start for ids, start in self.lessons)
        return {"loss_elsewhere": -sum(log_probabilities(model, self.lessons)) / n_tokens}

    def _ids(self, prompt: Any, completion: Any) -> tuple[list[int], int]:
        """Token ids of a prompt with its answer, and where the answer starts."""
        if isinstance(prompt, str):
            start = list(self.tokenizer(prompt)["input_ids"])
            end = list(self.tokenizer(completion + self.tokenizer.eos_token, add_special_tokens=False)["input_ids"])
            return start + end, len(start)
        start = list(self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False))
        whole = list(self.tokenizer.apply_chat_template([*prompt, *completion], return_dict=False))
        return whole, len(start)


def lessons(tokenizer: Any, tasks: list[str], own: str) -> Iterator[tuple[Any, Any]]:
    """(prompt, answer) of programs that the grammars of other tasks draw with a seed of their own."""
    for name in tasks:
        task = Task(name)
        rng = Random(f"{name}/elsewhere")
        for _ in range(N_LESSONS if name != own else 0):
            yield render(tokenizer, task.prompt), render_completion(tokenizer, task.grammar.draw(rng))


def log_probabilities(model: Any, texts: list[tuple[list[int], int]]) -> list[float]:
    """Natural logarithms of the probability of each text's answer, in order. texts: (ids, where the answer starts)."""
    import torch

    found: list[float] = []
    n_logits = max((len(ids) for ids, _ in texts), default=1) * model.config.vocab_size
    size = min(BATCH, max(1, LOGITS // n_logits))
    for first in range(0, len(texts), size):
        part = texts[first : first + size]
        longest = max(len(ids) for ids, _ in part)
        padded = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids, _ in part], device=model.device)
        places = torch.arange(longest, device=model.device)
        starts, ends = (torch.tensor(each, device=model.device)[:, None] for each in zip(*spans(part), strict=True))
        with torch.inference_mode():
            logits = model(padded, attention_mask=(places < ends).long()).logits[:, :-1].float()
        each = logits.log_softmax(-1).gather(-1, padded[:, 1:, None]).squeeze(-1)
        found += (each * ((places[1:] >= starts) & (places[1:] < ends))).sum(-1).tolist()
    return found


def spans(texts: list[tuple[list[int], int]]) -> list[tuple[int, int]]:
    return [(start, len(ids)) for ids, start in texts]


def diverged(found: str, step: int, names: list[str] | None = None) -> UserError:
    """names: of the pairs at which it was found."""
    where = f"step {step}" + (f", pairs {', '.join(names)}" if names else "")
    return UserError(
        f"train: {found} at {where}; lower the trainer's learning_rate or train.max_grad_norm, or raise"
        " train.warmup_steps"
    )


def warnings_of(before: dict[str, float], now: dict[str, float], limits: ProbeConfig) -> list[str]:
    """What is further off the start than its limit, in words."""
    length = max(before["mean_tokens"], 1e-9)
    off = {
        "max_validity_drop": ("validity fell", before["validity"] - now["validity"], "validity"),
        "max_distinct_drop": (
            "distinct behaviours fell",
            before["distinct_behaviours"] - now["distinct_behaviours"],
            "distinct_behaviours",
        ),
        "max_template_rise": (
            "copies of the template rose",
            now["equal_to_template"] - before["equal_to_template"],
            "equal_to_template",
        ),
        "max_length_drift": ("programs changed their length", abs(now["mean_tokens"] / length - 1), "mean_tokens"),
    }
    if "chosen" in before:
        off["max_chosen_drop"] = ("chosen programs got unlikely", before["chosen"] - now["chosen"], "chosen")
    if "loss_elsewhere" in before:
        forgot = now["loss_elsewhere"] - before["loss_elsewhere"]
        off["max_forgetting"] = ("other tasks' programs got unlikely", forgot, "loss_elsewhere")
    return [
        f"{words}: {name} {before[name]:.4g} to {now[name]:.4g} (watch.{limit} {limits[limit]:g})"  # type: ignore[literal-required]
        for limit, (words, value, name) in off.items()
        if value > limits[limit]  # type: ignore[literal-required]
    ]
