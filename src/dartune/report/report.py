"""The report: a page of HTML, a table for the terminal, and the few numbers that `dvc metrics diff` compares."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import PositiveInt

from dartune.errors import UserError
from dartune.files import atomic, parquet
from dartune.programs.escape import plain
from dartune.report.ablation import GAINS, summary
from dartune.report.plots import (
    Curves,
    best_of_curves,
    distributions,
    search_curves,
    standalone,
    training_curves,
    watch_curves,
)
from dartune.report.searches import Searches, comparison, cost_page, read_searches

MODELS = ("base", "tuned")
MAX_LENGTH_DRIFT = 0.25  # of the base model's mean length
MAX_PROGRAM = 6000  # characters shown of a program
METHODS = {  # of training, in words
    "dpo": "Direct preference optimisation: the model learns to prefer the chosen program of each pair to the rejected"
    " one, without going far from where it started.",
    "sft": "Supervised fine-tuning: the model learns to write the chosen programs; the rejected ones train nothing.",
    "grpo": "Group relative policy optimisation: the model writes programs, the referee rewards them, and those above"
    " their group's mean become likelier. The pairs train nothing.",
    "rloo": "REINFORCE leave-one-out: the model writes programs, the referee rewards them, and those above the mean of"
    " the others become likelier. The pairs train nothing.",
}
REWARDED = ("reward", "reward_std", "kl")
LOGGED = {  # what is drawn of each method's log
    "dpo": ("loss", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"),
    "sft": ("loss",),
    "grpo": REWARDED,
    "rloo": REWARDED,
}
TRAIN = ("n_pairs", "too_long", "settings", "steps", "last", "held_out", "watch", "kept_step")
ROW = ["model", "sample", "split", "program", "status", "reason", "behaviour", "quality", "gap"]
FIGURES = {  # key: (label, unit, the direction that is better; 0 where there is none)
    "validity": ("valid", "share", 1),
    "mean": ("mean quality", "quality", 1),
    "median": ("median quality", "quality", 1),
    "top_10": ("mean of the top 10", "quality", 1),
    "best_of_10": ("expected best of 10", "quality", 1),
    "best_of_100": ("expected best of 100", "quality", 1),
    "better_than_template": ("better than the template", "share", 1),
    "equal_to_template": ("equal to the template", "share", 0),
    "distinct_behaviours": ("distinct behaviours", "share", 0),
    "gap_percent_best": ("gap of the best", "gap", -1),
    "gap_percent_top_10": ("mean gap of the top 10", "gap", -1),
    "gap_percent_median": ("median gap", "gap", -1),
    "mean_tokens": ("mean length, tokens", "tokens", 0),
}
LEGEND = "quality: score as a fraction of the reference (1 = as good), failures 0; > template: scores better than it"
UNITS = {"share": (100, ".1f", " %"), "quality": (1, ".3f", ""), "gap": (1, ".2f", " %"), "tokens": (1, ".1f", "")}


@dataclass(frozen=True)
class Result:
    """What the stages left of one task.

    splits: evaluate's figures by split, the held-out split first. rows: evaluate's rows by split and model. curves:
    what training logged, nothing when it was very short. searches: see convergence.py.
    """

    score: dict[str, Any]
    sample: dict[str, Any]
    train: dict[str, Any]
    splits: dict[str, Any]
    rows: dict[str, dict[str, list[dict[str, Any]]]]
    curves: Curves
    searches: Searches
    pool: dict[str, Any]
    rounds: dict[str, Any]

    @property
    def held_out(self) -> str:
        return next(iter(self.splits))

    def qualities(self, split: str) -> dict[str, np.ndarray]:
        return {model: np.array([row["quality"] for row in self.rows[split][model]]) for model in MODELS}


def write_report(
    tasks: list[str],
    metrics: Path,
    evaluation: Path,
    search: Path,
    plots: Path,
    output: Path,
    summary: Path,
    costs: Path,
    *,
    n_best: PositiveInt,
    max_validity_drop: float,
    max_distinct_drop: float,
    max_template_rise: float,
) -> None:
    """Write index.html and summary.txt into output, and summary: all from what the earlier stages measured.

    costs: a page of what was measured on a clock, beside the report.

    n_best: programs of each model shown side by side. max_validity_drop, max_distinct_drop, max_template_rise: shares
    of all samples by which the tuned model may be off the base model without a warning.
    """
    limits = {
        "validity": max_validity_drop,
        "distinct_behaviours": max_distinct_drop,
        "equal_to_template": max_template_rise,
    }
    results = {task: read_result(task, metrics, evaluation, search, plots) for task in tasks}
    warnings = {task: warnings_of(result, limits) for task, result in results.items()}
    trainers = read_json(metrics / "trainers.json", "`make trainers`")
    html = page(results, warnings, n_best, trainers)
    output.mkdir(parents=True, exist_ok=True)
    write_figures(results, output / "figures")
    (output / "summary.txt").write_text(terminal_table(results, warnings), encoding="utf-8")
    atomic.write_json(summary, {task: headline(result, len(warnings[task])) for task, result in results.items()})
    (output / "index.html").write_text(html, encoding="utf-8")
    costs.write_text(cost_page({task: result.searches for task, result in results.items()}, metrics), encoding="utf-8")


def write_figures(results: dict[str, Result], folder: Path) -> None:
    """The drawings that tell most, as files of their own: what Prefect's pages show of a run."""
    folder.mkdir(exist_ok=True)
    for task, result in results.items():
        qualities = {split: result.qualities(split) for split in result.splits}
        drawings = {
            "distributions": distributions(f"{task} distributions", qualities),
            "convergence": search_curves(f"{task} convergence", result.searches.curves),
        }
        if result.curves:
            drawings["training"] = training_curves(f"{task} training", result.curves, result.train["held_out"])
        for name, svg in drawings.items():
            (folder / f"{task}-{name}.svg").write_text(standalone(svg), encoding="utf-8")


def read_result(task: str, metrics: Path, evaluation: Path, search: Path, plots: Path) -> Result:
    score, sample, pool = (
        read_json(metrics / stage / f"{task}.json", f"stage {stage}") for stage in ("score", "sample", "pool")
    )
    train = read_train(metrics / "train" / f"{task}.json")
    file = metrics / "evaluate" / f"{task}.json"
    splits = read_json(file, "stage evaluate")
    if not all(isinstance(split, dict) and {*MODELS, "difference"} <= set(split) for split in splits.values()):
        raise UserError(f"report: {file} lacks the figures of a model; run stage evaluate again")
    rows = read_rows(evaluation / f"{task}.parquet", list(splits))
    found = read_json(metrics / "search" / f"{task}.json", "stage search")
    searches = read_searches(task, found, search / f"{task}.parquet", metrics / "resources" / "search" / f"{task}.json")
    rounds = read_json(metrics / "rounds" / f"{task}.json", "stage rounds")
    return Result(score, sample, train, splits, rows, read_curves(plots / task, train), searches, pool, rounds)


def read_json(file: Path, stage: str) -> dict[str, Any]:
    """The content. stage: what makes the file, in a message to whoever lacks it."""
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise UserError(f"report: {file} is missing; {stage} makes it") from error
    except ValueError as error:
        raise UserError(f"report: {file} is not whole ({error}); run {stage} again") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"report: {file} holds no figures; run {stage} again")
    return content


def read_rows(file: Path, splits: list[str]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    if not file.exists():
        raise UserError(f"report: {file} is missing; stage evaluate makes it")
    try:
        table = parquet.read(file)
    except UserError as mistake:
        raise UserError(f"report: {mistake}: stage evaluate") from mistake
    if missing := [name for name in ROW if name not in table.column_names]:
        raise UserError(f"report: {file} has no column {missing[0]!r}; run stage evaluate again")
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {split: {model: [] for model in MODELS} for split in splits}
    for row in table.select(ROW).to_pylist():
        if row["split"] in rows:
            rows[row["split"]][row["model"]].append(row)
    for split, models in rows.items():
        if not all(models.values()):
            raise UserError(f"report: {file} has not both models' programs on {split}; run stage evaluate again")
    return rows


def read_train(file: Path) -> dict[str, Any]:
    train = read_json(file, "stage train")
    if missing := [key for key in TRAIN if key not in train]:
        raise UserError(f"report: {file} has no {missing[0]!r}; run stage train again")
    return train


def read_curves(folder: Path, train: dict[str, Any]) -> Curves:
    """What is drawn of the method's log, by name; nothing where training was too short to log a step."""
    settings, method = train["settings"], train["settings"]["method"]
    names = [name for name in LOGGED[method] if name != "kl" or settings[method]["beta"]]  # TRL's rule
    return {name: read_curve(folder / "plots/metrics" / f"{name}.tsv") for name in names if train["last"]}


def read_curve(file: Path) -> list[tuple[float, float]]:
    """Steps and values of one file of DVCLive."""
    broken = f"report: {file} is not whole; run stage train again"
    try:
        text = file.read_text()
        header, *rows = (line.split("\t") for line in text.splitlines())
        points = [(float(step), float(value)) for step, value in rows]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"report: {file} is missing; stage train makes it") from error
    except ValueError as error:
        raise UserError(broken) from error
    if header != ["step", file.stem] or not points or not text.endswith("\n"):
        raise UserError(broken)
    return points


def headline(result: Result, n_warnings: int) -> dict[str, Any]:
    """The numbers of a task that two commits are compared by, most of them of the held-out split."""
    held_out = result.splits[result.held_out]
    models = {name: {model: held_out[model][name] for model in MODELS} for name in ("mean", "validity", "top_10")}
    differences = {split: measured["difference"]["mean"] for split, measured in result.splits.items()}
    searches = {method: found["difference"]["top_1"] for method, found in result.searches.figures.items()}
    return {**models, "mean_difference": differences, "search_difference": searches, "n_warnings": n_warnings}


def warnings_of(result: Result, limits: dict[str, float]) -> list[str]:
    """Signs in words that the tuning went wrong (METHOD's failure signatures), or that its gain is not proven."""
    found = [
        moved(result, "validity", -1, limits, "validity fell:"),
        moved(result, "distinct_behaviours", -1, limits, "mode collapse: distinct behaviours"),
        moved(result, "equal_to_template", 1, limits, "mode collapse: equal to the template"),
        length_drift(result.splits[result.held_out]),
        *unproven(result.splits),
        *of_watch(result.train),
        *of_gates(result.rounds),
        *(f"pairs: {warning}" for warning in result.sample["warnings"]),
    ]
    return [warning for warning in found if warning]


def moved(result: Result, name: str, sign: int, limits: dict[str, float], words: str) -> str | None:
    """A share of the samples that moved the wrong way by more than its limit; numbers of the first such split."""
    changes = {split: sign * (f["tuned"][name] - f["base"][name]) for split, f in result.splits.items()}
    over = [split for split, change in changes.items() if round(change, 9) > limits[name]]
    if not over:
        return None
    base, tuned = (f"{100 * result.splits[over[0]][model][name]:.1f} %" for model in MODELS)
    return f"{words} {base} -> {tuned} on {', '.join(over)} (limit {100 * limits[name]:g} points)"


def length_drift(split: dict[str, Any]) -> str | None:
    base, tuned = (split[model]["mean_tokens"] for model in MODELS)
    if abs(tuned - base) <= MAX_LENGTH_DRIFT * base:
        return None
    return f"mean length drifted: {base:.1f} -> {tuned:.1f} tokens (limit {100 * MAX_LENGTH_DRIFT:g} % of base)"


def of_watch(train: dict[str, Any]) -> list[str]:
    """What the watch warned of while training, the last of each kind, and whether an earlier model was taken."""
    last = {}
    for look in train["watch"]:
        for warning in look["warnings"]:
            last[warning.split(":")[0]] = f"train: {warning} at step {look['step']}"
    kept = train["kept_step"]
    return [*last.values(), *([f"train: rolled back to step {kept}"] if kept is not None else [])]


def of_gates(rounds: dict[str, Any]) -> list[str]:
    """Which round's model the gate refused, and why."""
    refused = [gate for gate in rounds["gates"] if not gate["is_accepted"]]
    return [f"rounds: round {gate['round']} refused: {'; '.join(gate['warnings'])}" for gate in refused]


def unproven(splits: dict[str, Any]) -> list[str]:
    """Means that did not clearly rise, with the numbers of the first such split."""
    words = {"unclear": "change of mean quality is not clear of 0", "worse": "mean quality clearly fell"}
    verdicts = {split: verdict(measured["difference"]["mean"]) for split, measured in splits.items()}
    found = []
    for kind, says in words.items():
        if over := [split for split, is_kind in verdicts.items() if is_kind == kind]:
            change = interval_text(splits[over[0]]["difference"]["mean"])
            found.append(f"{says} on {', '.join(over)}: {change}")
    return found


def verdict(difference: dict[str, Any]) -> str:
    """Whether the interval is clear of 0, and on which side; every figure with an interval is better when higher."""
    if difference["low"] is None:
        return "unclear"
    return "better" if difference["low"] > 0 else "worse" if difference["high"] < 0 else "unclear"


def interval_text(difference: dict[str, Any]) -> str:
    if difference["low"] is None:
        return f"{difference['estimate']:+z.3f} [one seed]"
    return f"{difference['estimate']:+z.3f} [{difference['low']:+z.3f}, {difference['high']:+z.3f}]"


def terminal_table(results: dict[str, Result], warnings: dict[str, list[str]]) -> str:
    """Base against tuned in at most 110 columns, then the warnings."""
    head = f"{'':<24}{'valid %':>9}{'mean':>8}{'median':>8}{'top 10':>8}{'> template %':>14}   mean difference"
    lines = ["base against tuned", head + " [95 % interval]"]
    for task, result in results.items():
        n = result.splits[result.held_out]["tuned"]["n_samples"]
        lines += ["", f"{task} ({n} programs of each model)"]
        lines += [line for split in result.splits.items() for line in terminal_rows(*split)]
    lines += ["", *search_lines(results), "", LEGEND]
    found = [f"warning: {task}: {warning}" for task in results for warning in warnings[task]]
    return "\n".join([*lines, "", *(found or ["no warnings"])]) + "\n"


def terminal_rows(split: str, measured: dict[str, Any]) -> list[str]:
    rows = []
    for name, model in zip((split, ""), MODELS, strict=True):
        values = measured[model]
        shares = (100 * values[key] for key in ("validity", "better_than_template"))
        valid, better = (f"{share:.1f}" for share in shares)
        qualities = "".join(f"{values[key]:>8.3f}" for key in ("mean", "median", "top_10"))
        rows.append(f"  {name:<17}{model:<5}{valid:>9}{qualities}{better:>14}")
    difference = measured["difference"]["mean"]
    rows[1] += f"   {interval_text(difference)} {verdict(difference)}"
    return rows


def search_lines(results: dict[str, Result]) -> list[str]:
    """The best program of searches with either model, one line a task and method."""
    lines = [f"{'best of a search, held-out':<48}{'base':>8}{'tuned':>8}   mean difference [95 % t interval]"]
    for task, result in results.items():
        for method, found in result.searches.figures.items():
            label = f"  {task:<16}{method:<10}{found['n_evaluations']} x {found['n_seeds']} seeds"
            values = "".join(f"{found[model]['top_1']:>8.3f}" for model in MODELS)
            change = found["difference"]["top_1"]
            lines.append(f"{label:<48}{values}   {interval_text(change)} {verdict(change)}")
    return lines


def page(
    results: dict[str, Result], warnings: dict[str, list[str]], n_best: int, trainers: dict[str, dict[str, Any]]
) -> str:
    """One file of HTML that needs no other. Programs and reasons were written by a model: everything is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from pygments.formatters import HtmlFormatter

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"shown": shown, "plain": plain, "setting": setting}
    styles = [HtmlFormatter(style=name).get_style_defs(".program") for name in ("default", "github-dark")]
    tasks = [chapter(task, result, warnings[task], n_best) for task, result in results.items()]
    trainings = {task: training_rows(arms) for task, arms in trainers.items()}
    return environment.get_template("report.html.jinja").render(tasks=tasks, trainings=trainings, styles=styles)


def training_rows(arms: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The trainers against each other on one task, with the verdict on each gain. arms: runs by seed, see arms.py."""
    rows = [{"arm": arm, **summary([*runs.values()])} for arm, runs in arms.items()]
    return [{**row, **{gain: row[gain] | {"verdict": verdict(row[gain])} for gain in GAINS}} for row in rows]


def chapter(task: str, result: Result, warnings: list[str], n_best: int) -> dict[str, Any]:
    """What the page shows of a task."""
    qualities = {split: result.qualities(split) for split in result.splits}
    return {
        "name": task,
        "result": result,
        "warnings": warnings,
        "n_samples": result.splits[result.held_out]["tuned"]["n_samples"],
        "tables": {split: table(measured) for split, measured in result.splits.items()},
        "distributions": distributions(f"{task} distributions", qualities),
        "best_of": best_of_curves(f"{task} best of k", qualities),
        **training(task, result),
        "searches": [row | {"verdict": verdict(row)} for row in comparison(result.searches)],
        "convergence": search_curves(f"{task} convergence", result.searches.curves),
        "best": {model: best_programs(result, model, n_best) for model in MODELS},
        "failures": failures(result),
    }


def training(task: str, result: Result) -> dict[str, Any]:
    """How the task's model was trained: the method in words, its settings by section, and the drawings there are."""
    train, curves = result.train, result.curves
    settings, method = train["settings"], train["settings"]["method"]
    inner = {f"trainers.{method}": settings[method], "train.watch": settings["watch"]}
    watched = (
        watch_curves(f"{task} watch", watch_series(train["watch"]), train["kept_step"]) if train["watch"] else None
    )
    return {
        "how": METHODS[method],
        "settings": {"train": {k: v for k, v in settings.items() if k not in (method, "watch")}} | inner,
        "training": training_curves(f"{task} training", curves, train["held_out"]) if curves else None,
        "watch": watched,
    }


def watch_series(looks: list[dict[str, Any]]) -> Curves:
    """The figures of the watch by name, over the steps."""
    names = looks[0].keys() - {"step", "warnings"}
    return {name: [(look["step"], look[name]) for look in looks if name in look] for name in sorted(names)}


def setting(value: Any) -> str:
    """A value of params.yaml as one would write it there, but for brackets."""
    if isinstance(value, list):
        return ", ".join(map(setting, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}: {setting(each)}" for name, each in value.items())
    return "null" if value is None else str(value)


def table(measured: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows, by figure, of base against tuned on one split; the bars of the intervals share one scale."""
    differences = measured["difference"]
    scale = max(abs(bound) for d in differences.values() for bound in d.values()) or 1.0
    rows = {}
    for key, (label, unit, better) in FIGURES.items():
        if not all(key in measured[model] for model in MODELS):
            continue  # best of more programs than were sampled
        base, tuned = (measured[model][key] for model in MODELS)
        change = None if None in (base, tuned) else tuned - base
        row = {"label": label, "unit": unit, "better": better, "base": base, "tuned": tuned, "change": change}
        if interval := differences.get(key):
            row |= interval | {"verdict": verdict(interval), "bar": {k: v / scale for k, v in interval.items()}}
        rows[key] = row
    return rows


def shown(value: float | None, unit: str, signed: bool = False) -> str:
    """A number in its unit, a dash where there is none. Signed: a difference, where shares and gaps are in points."""
    if value is None:
        return "–"
    factor, form, suffix = UNITS[unit]
    if signed:
        return f"{factor * value:+z{form}}".replace("-", "−")
    return f"{factor * value:z{form}}{suffix}"


def best_programs(result: Result, model: str, n: int) -> list[dict[str, Any]]:
    """The n best of a model's programs that act differently on the held-out split; of those alike, the shortest."""
    rows = {name: [row for row in group if row["behaviour"]] for name, group in result.rows[result.held_out].items()}
    alike = {name: Counter(row["behaviour"] for row in group) for name, group in rows.items()}
    best: dict[str, dict[str, Any]] = {}
    for row in sorted(rows[model], key=lambda row: (-row["quality"], len(row["program"]), row["sample"])):
        best.setdefault(row["behaviour"], row)
    return [
        {
            "html": highlighted(row["program"]),
            "splits": {split: split_row(result, split, row) for split in result.splits},
            "alike": {name: count[row["behaviour"]] for name, count in alike.items()},
        }
        for row in list(best.values())[:n]
    ]


def split_row(result: Result, split: str, row: dict[str, Any]) -> dict[str, Any]:
    """The same program's row on another split."""
    return next(other for other in result.rows[split][row["model"]] if other["sample"] == row["sample"])


def highlighted(program: str) -> str:
    """HTML of a program; pygments escapes what the model wrote."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    text = plain(program[:MAX_PROGRAM]) + ("\n# ... cut here" if len(program) > MAX_PROGRAM else "")
    return str(highlight(text, PythonLexer(), HtmlFormatter(nowrap=True)))


def failures(result: Result) -> list[dict[str, Any]]:
    """Shares of each status in the pool and of both models on the held-out split, with the commonest reason."""
    models = result.rows[result.held_out]
    pool = {status: count / result.score["n_programs"] for status, count in result.score["status"].items()}
    shares = {"pool": pool} | {model: status_shares(rows) for model, rows in models.items()}
    names = {status for share in shares.values() for status in share}
    order = sorted(names, key=lambda status: (status != "ok", -sum(s.get(status, 0) for s in shares.values()), status))
    return [
        {"status": status, "reason": commonest_reason(status, models)}
        | {where: share.get(status, 0.0) for where, share in shares.items()}
        for status in order
    ]


def status_shares(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {status: count / len(rows) for status, count in Counter(row["status"] for row in rows).items()}


def commonest_reason(status: str, models: dict[str, list[dict[str, Any]]]) -> str:
    reasons = Counter(row["reason"] for rows in models.values() for row in rows if row["status"] == status)
    return min(reasons, key=lambda reason: (-reasons[reason], reason), default="")
