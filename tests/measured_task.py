"""What the stages leave of a task called "tour", out of scores by hand, and the report of it."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dartune.evaluation.evaluate import EVALUATION_SCHEMA, compare
from dartune.evaluation.search import SEARCH_SCHEMA
from dartune.evaluation.statistics import TEMPLATE as TEMPLATE_KEY
from dartune.files import atomic, parquet
from dartune.referee.referee import INTERPRETER
from dartune.report.report import write_report
from dartune.report.training import LOGGED

LIMITS = {"max_validity_drop": 0.05, "max_distinct_drop": 0.2, "max_template_rise": 0.1, "max_length_drift": 0.25}
TEMPLATE = -8.0
ABOUT: dict[str, str | None] = {"model": "embedded", "revision": None, "preset": "embedded"}
SPLITS = ("test", "shifted_20")


def program(number: int) -> str:
    return f"def select(here, left):\n    return left[{number}]\n"


def rows(model: str, scores: list[float | None], n_tokens: int = 50) -> list[dict[str, Any]]:
    """One row per score and split; None is a failure. Quality is 4 / -score, as for a reference of 4."""
    return [
        {
            "model": model,
            "sample": number,
            "split": split,
            "completion": program(number),
            "program": program(number),
            "status": "ok" if score else "runtime",
            "reason": "" if score else "ZeroDivisionError: division by zero",
            "score": score,
            "costs": [-score, -score - 1] if score else None,
            "behaviour": str(score) if score else None,
            "quality": 4 / -score if score else 0.0,
            "gap": -score / 4 - 1 if score else None,
            "n_prompt_tokens": 10,
            "n_tokens": n_tokens,
            "finish": "stop",
            "interpreter": INTERPRETER,
        }
        for split in SPLITS
        for number, score in enumerate(scores)
    ]


SIDE = {
    "failures": {"runtime": 1},
    "by_tenth": {"0-10 %": 3, "90-100 %": 1},
    "entropy": 0.4,
    "n_behaviours": 4,
    "distinct_programs": 1.0,
    "distinct_trees": 1.0,
    "distinct_shapes": 0.75,
    "distinct_behaviours": 1.0,
    "distance": 0.5,
    "n_families": 2,
    "mean_characters": 120.0,
}
SAMPLE = {
    "n_asked": 5,
    "n_pairs": 4,
    "parts": {"dar": 4},
    "gap_score": {"least": 1.0, "median": 1.25, "greatest": 2.0},
    "gap_rank": 0.4,
    "ties": {"pool": 0.1, "pairs": 0.0},
    "below_noise": None,
    "length_bias": 0.0,
    "chosen": SIDE,
    "rejected": SIDE,
    "warnings": [],
}


TOPS = {"base": 0.6, "tuned": 0.7}


OPTIONS: dict[str, dict[str, Any]] = {
    "dpo": {"learning_rate": 5e-06, "beta": 0.1, "loss_type": ["sigmoid", "sft"]},
    "sft": {"learning_rate": 5e-06},
    "grpo": {"learning_rate": 5e-06, "beta": 0.0},
    "rloo": {"learning_rate": 5e-06, "beta": 0.05},
}
CURVES = {
    "loss": [(5, 0.7), (10, 0.6)],
    "rewards/accuracies": [(5, 0.5), (10, 0.6)],
    "rewards/margins": [(5, 0.1), (10, 0.2)],
    "logps/chosen": [(5, -50.0), (10, -48.0)],
    "logps/rejected": [(5, -60.0), (10, -61.0)],
    "reward": [(5, 0.4), (10, 0.6)],
    "reward_std": [(5, 0.1), (10, 0.2)],
    "kl": [(5, 0.01), (10, 0.03)],
}


def look(step: int, *warnings: str, mean: float = 0.5) -> dict[str, Any]:
    """One measurement of the probe."""
    shares = {"validity": 1.0, "mean": mean, "distinct_behaviours": 0.9, "mean_tokens": 50.0}
    return {"step": step, **shares, "chosen": -50.0, "rejected": -60.0, "loss_elsewhere": 0.2, "warnings": [*warnings]}


def trained(
    method: str = "dpo", looks: tuple[dict[str, Any], ...] = (), kept_step: int | None = None
) -> dict[str, Any]:
    """The metrics of stage train."""
    lora = {"r": 64, "target_modules": "all-linear"}
    probe = {"n_samples": 7, "split": "validation", "remember": ["walk", "route"], **LIMITS}
    settings = {"method": method, "seed": 11, "patience": None, "lora": lora, method: OPTIONS[method], "probe": probe}
    return {
        "weights": "as they are",
        "earlier": [],
        "n_pairs": 4,
        "too_long": [],
        "settings": settings,
        "steps": 10,
        "last": {"loss": 0.6},
        "held_out": {"loss": 0.69} if method in ("dpo", "sft") else {},
        "probe": [*looks],
        "kept_step": kept_step,
    }


def write_training(folder: Path, train: dict[str, Any]) -> None:
    """The metrics, and the files that DVCLive leaves of what the method logs."""
    atomic.write_json(folder / "metrics/train/tour.json", train)
    settings, method = train["settings"], train["settings"]["method"]
    for name in LOGGED[method]:
        if name != "kl" or settings[method]["beta"]:
            file = folder / f"plots/tour/plots/metrics/{name}.tsv"
            file.parent.mkdir(parents=True, exist_ok=True)
            rows = [("step", name.split("/")[-1]), *CURVES[name]]
            file.write_text("".join(f"{step}\t{value}\n" for step, value in rows))


def write_inputs(folder: Path, base: list[dict[str, Any]], tuned: list[dict[str, Any]]) -> None:
    """What the stages leave of the task "tour"; the figures are those of the stage evaluate itself."""
    table = pa.Table.from_pylist(base + tuned, schema=EVALUATION_SCHEMA)
    table = table.replace_schema_metadata({TEMPLATE_KEY: program(9)})
    parquet.write(table, folder / "evaluation/tour.parquet")
    evaluated = {split: compare(table.filter(pc.field("split") == split), TEMPLATE, seed=0) for split in SPLITS}
    metrics = {
        "evaluate": evaluated,
        "score": {
            "n_programs": 10,
            "validity": 0.9,
            "interpreter": INTERPRETER,
            "distinct_programs": 8,
            "distinct_trees": 8,
            "distinct_shapes": 6,
            "distinct_behaviours": 7,
            "distinct_score_signatures": 7,
            "novelty": None,
            "status": {"ok": 9, "syntax": 1},
        },
        "sample": SAMPLE,
    }
    tokens = {"n_prompt_tokens": 10, "n_tokens": 20}
    metrics["transfer"] = {}
    metrics["rounds"] = {"n_rounds": 1, "kept_round": 1, "gates": []}
    metrics["pool"] = {"n_programs": 10, "n_prompt_tokens": 400, "n_tokens": 1000, "money": 0.0, "finish": {"stop": 10}}
    metrics["search"] = {
        "eoh": {
            "n_evaluations": 2,
            "n_seeds": 2,
            **{model: {"top_1": top, "top_10": top, **tokens} for model, top in TOPS.items()},
            "difference": {key: {"estimate": 0.1, "low": -0.2, "high": 0.4} for key in ("top_1", "top_10")},
        }
    }
    searched = [
        {"method": "eoh", "model": model, "seed": seed, "evaluation": i, "best_quality": top * i / 2}
        for model, top in TOPS.items()
        for seed in (0, 1)
        for i in (1, 2)
    ]
    parquet.write(pa.Table.from_pylist(searched, schema=SEARCH_SCHEMA), folder / "search/tour.parquet")
    for stage, content in metrics.items():
        atomic.write_json(folder / f"metrics/{stage}/tour.json", content)
    write_training(folder, trained())
    atomic.write_json(folder / "metrics/trainers.json", {"route": {"dpo": SEEDS, "grpo": {"0": SEEDS["0"]}}})


SHOWN = ("validity", "mean", "top_10", "distinct_behaviours")
# Gains of .02 and .04: mean .03, and its 95 % t interval of one degree of freedom is 12.706 * .01 wide to both sides.
SEEDS = {
    seed: {
        **dict.fromkeys(SHOWN, 0.75),
        **{f"{name}_base": 0.75 - gain for name in SHOWN},
        **{"best": 0.9, "best_at_equal_evaluations": 0.9 - gain, "best_at_equal_seconds": 0.9 + gain, "seconds": 151.4},
    }
    for seed, gain in (("0", 0.02), ("1", 0.04))
}


def report(folder: Path) -> tuple[str, str, dict[str, Any]]:
    """index.html, summary.txt and summary.json of the inputs in folder."""
    inputs = ("metrics", "evaluation", "search", "plots", "report", "metrics/summary.json", "cost.html", "tables")
    write_report(["tour"], ABOUT, *(folder / name for name in inputs), n_best=2)
    html, table = ((folder / "report" / name).read_text("utf-8") for name in ("index.html", "summary.txt"))
    return html, table, json.loads((folder / "metrics/summary.json").read_text())


# 20 valid programs of qualities 0.5 .. 0.4, all of them different, none equal to the template's -8.
FAIR = [-8 - 0.1 * i for i in range(1, 21)]
# The same improved by 2: qualities 0.66 .. 0.5, an interval far from 0.
BETTER = [score + 2 for score in FAIR]
LOOKS = (look(0), look(25, mean=0.7), look(50, "validity fell: 1 to 0.5", mean=0.6))
