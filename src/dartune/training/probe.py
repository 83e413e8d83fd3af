"""Probes: the model during its training, measured on fresh samples, held-out pairs and other tasks' programs.

A model is measured before the first step, n_times on the way and after the last. A figure that moved further from the
start than its limit is a warning, which can stop the training or take it back to the best model so far.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from typing_extensions import TypedDict

from dartune.models.backend import Decoding, start_seed
from dartune.models.checkpoint import open_model, open_tokenizer, render, render_completion, save_model
from dartune.models.host import run_settings
from dartune.referee.completions import equals_template, judge, template_score
from dartune.referee.drift import FIGURES, exceeded
from dartune.referee.referee import Referee
from dartune.tasks.task import Task
from dartune.training.patches import diverged

N_PROBE_TEXTS = 32  # programs of each other task
BATCH = 16  # texts a forward pass, fewer where their logits would be more than LOGITS, a GiB in float32
LOGITS = 2**28
SAMPLED = ("validity", "mean", "distinct_behaviours", "equal_to_template", "mean_tokens")  # figures of samples


class ProbeConfig(TypedDict):
    """Section train.probe of params.yaml.

    n_times: measurements after the first one, the last at the end; 0 switches probes off. n_samples: completions each
    time. split: whose instances judge them, never the training's. on_warning: "note" it, "stop" the training, or
    "roll_back" to the model with the best mean quality among those without warnings. max_validity_drop,
    max_distinct_drop, max_template_rise: shares of the samples, the last of those that score as the template does.
    max_length_drift: share of the mean length at the start. max_chosen_drop: nats per held-out chosen program.
    max_forgetting: nats per token of other tasks' programs. remember: those tasks.
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
    """Measures a model, each time with the same prompts, seeds and texts.

    base: the base model's folder. held_out: pairs as stage pairs writes them; may be empty. reference:
    log-probabilities of both sides of these pairs, shape (2, n_pairs), under the first model that is measured; None
    before.
    """

    def __init__(
        self,
        referee: Referee,
        base: Path,
        held_out: list[dict[str, Any]],
        config: ProbeConfig,
        decoding: Decoding,
        seed: int,
    ) -> None:
        tokenizer = open_tokenizer(base)
        self.referee, self.tokenizer, self.decoding, self.run = referee, tokenizer, decoding, run_settings(base)
        self.base = base
        self.n_samples, self.split, self.seed = config["n_samples"], config["split"], seed
        self.task = Task(referee.task.name, self.run["prompt"])
        self.pairs = [
            {side: self._ids(row["prompt"], row[side]) for side in ("chosen", "rejected")} for row in held_out
        ]
        self.texts = [self._ids(*text) for text in probe_texts(tokenizer, config["remember"], self.task)]
        self.template = template_score(referee)
        self.template_ids = self._ids(
            render(tokenizer, self.task.prompt), render_completion(tokenizer, self.task.answer(self.task.template))
        )
        self.reference: np.ndarray | None = None

    def measure(self, model: Any, step: int = 0, measured: dict[str, Any] | None = None) -> dict[str, float]:
        """Return the figures of the model; its mode and the state of torch's generators stay as they were.

        measured: earlier figures of the same model, whose samples are not written again. Raises UserError where the
        model's probabilities are not finite; step: named in that error.
        """
        was_training = model.training
        model.eval()
        if not math.isfinite(log_probabilities(model, [self.template_ids])[0]):
            raise diverged("the model's probabilities are not finite", step)
        samples = {name: measured[name] for name in SAMPLED} if measured else self._sample_figures(model)
        figures = samples | self._pair_figures(model) | self._text_figures(model)
        model.train(was_training)
        return {name: round(float(value), 6) for name, value in figures.items()}

    def _sample_figures(self, model: Any) -> dict[str, float]:
        from dartune.models.transformers_backend import TransformersBackend

        backend = TransformersBackend.from_loaded(self._writer(model), self.tokenizer, self.run, self.task.function)
        prompts, seed = [self.task.prompt] * self.n_samples, start_seed("watch", self.task.name, self.seed)
        completions = backend.complete(prompts, seed=seed, decoding=self.decoding)
        verdicts = [one.verdict for one in judge(self.referee, [completion.text for completion in completions])]
        scores = [verdict.score for verdict in verdicts if verdict.score is not None]
        behaviours = {verdict.behaviour for verdict in verdicts} - {None}
        n_equal = sum(equals_template(score, self.template) for score in scores)
        return {
            "validity": len(scores) / self.n_samples,
            "mean": float(sum(self.task.quality(score, self.split) for score in scores)) / self.n_samples,
            "distinct_behaviours": len(behaviours) / self.n_samples,
            "equal_to_template": n_equal / self.n_samples,
            "mean_tokens": float(np.mean([completion.n_tokens for completion in completions])),
        }

    def _writer(self, model: Any) -> Any:
        """Return the model that writes. On a CPU, where adapters take half of a step, one with the adapter merged."""
        import torch

        if model.device.type != "cpu" or not hasattr(model, "peft_config"):
            return model
        with TemporaryDirectory() as folder, torch.random.fork_rng():  # PEFT draws weights before it reads them
            save_model(model, Path(folder))
            return open_model(self.base, Path(folder)).eval()

    def _pair_figures(self, model: Any) -> dict[str, float]:
        """Return mean log-probabilities of the held-out pairs, and how the margin changed; {} without pairs."""
        if not self.pairs:
            return {}
        values = np.array([log_probabilities(model, [pair[side] for pair in self.pairs]) for side in self.pairs[0]])
        self.reference = values if self.reference is None else self.reference
        margins = (values - self.reference)[0] - (values - self.reference)[1]
        chosen, rejected = values.mean(axis=1)
        return {"chosen": chosen, "rejected": rejected, "margin": margins.mean(), "accuracy": (margins > 0).mean()}

    def _text_figures(self, model: Any) -> dict[str, float]:
        if not self.texts:
            return {}
        n_tokens = sum(len(ids) - start for ids, start in self.texts)
        return {"loss_elsewhere": -sum(log_probabilities(model, self.texts)) / n_tokens}

    def _ids(self, prompt: Any, completion: Any) -> tuple[list[int], int]:
        """Return the token ids of a prompt with its answer, and where the answer starts."""
        if isinstance(prompt, str):
            start = list(self.tokenizer(prompt)["input_ids"])
            end = list(self.tokenizer(completion + self.tokenizer.eos_token, add_special_tokens=False)["input_ids"])
            return start + end, len(start)
        start = list(self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False))
        whole = list(self.tokenizer.apply_chat_template([*prompt, *completion], return_dict=False))
        return whole, len(start)


def probe_texts(tokenizer: Any, tasks: list[str], trained: Task) -> Iterator[tuple[Any, Any]]:
    """Yield (prompt, answer) of programs that the grammars of `tasks` draw, except for the `trained` task."""
    for name in tasks:
        task = Task(name, trained.form)
        rng = Random(f"{name}/elsewhere")
        for _ in range(N_PROBE_TEXTS if name != trained.name else 0):
            yield render(tokenizer, task.prompt), render_completion(tokenizer, task.answer(task.grammar.draw(rng)))


def log_probabilities(model: Any, texts: list[tuple[list[int], int]]) -> list[float]:
    """Return the natural logarithm of the probability of each text's answer. texts: (ids, where the answer starts)."""
    import torch

    results: list[float] = []
    n_logits = max((len(ids) for ids, _ in texts), default=1) * model.config.vocab_size
    size = min(BATCH, max(1, LOGITS // n_logits))
    for first in range(0, len(texts), size):
        batch = texts[first : first + size]
        longest = max(len(ids) for ids, _ in batch)
        padded = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids, _ in batch], device=model.device)
        positions = torch.arange(longest, device=model.device)
        starts = torch.tensor([start for _, start in batch], device=model.device)[:, None]
        ends = torch.tensor([len(ids) for ids, _ in batch], device=model.device)[:, None]
        with torch.inference_mode():
            logits = model(padded, attention_mask=(positions < ends).long()).logits[:, :-1].float()
        of_tokens = logits.log_softmax(-1).gather(-1, padded[:, 1:, None]).squeeze(-1)
        results += (of_tokens * ((positions[1:] >= starts) & (positions[1:] < ends))).sum(-1).tolist()
    return results


def warnings_of(before: dict[str, float], now: dict[str, float], config: ProbeConfig) -> list[str]:
    """Return one line for each figure that moved further from the start than its limit in `config`."""
    limits = {name: float(config[name]) for name in FIGURES}  # type: ignore[literal-required]
    return [
        f"{words}: {figure} {before[figure]:.4g} to {now[figure]:.4g} (probe.{name} {limits[name]:g})"
        for name in exceeded(before, now, limits)
        for figure, words in [FIGURES[name]]
    ]
