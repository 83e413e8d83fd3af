"""Experiments with real weights: every cell of a plan as a DVC experiment, and their table.

`make real`, or a part: python benchmarks/real.py --students smollm2-135m --tasks admissible_set --seeds 1. --plan: a
file of experiments/, real.yaml by default. One cell at a time, since its model uses all cores. A killed cell goes on
where it was, and a cell takes its first training from the one before it, both by .work/cells, which a cell's command
alone does not use. The cells of a seed follow each other, imitation first, since the others are compared with it. What
each came to stands in metrics/<plan>.json, which is in git: what stands there is not run again. Prints the table, each
row with the command that makes it; --table runs nothing. A cell that fails, because its pool teaches nothing for
example, does not stop the others.

On the test split, all answers counted. Rows without a training are the untuned student, and the untuned writer of the
recorded pool, whose answers in data/recorded/<writer>-untuned are judged there. Training `more-sampling` is none: the
untuned student writes as many answers as fit in the seconds that a training and its evaluation take. `best` is the
row's best program. Intervals are of 2,000 bootstrap samples of the answers for one seed, and t intervals over several
seeds. --draw FILE: validity and mean of all rows of a task as dots, with their intervals but for two seeds.
"""

import argparse
import io
import json
import os
import shlex
import statistics
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import dvc.api
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from experiments import RESOURCES, SEEDED, existing, words
from judged import judged

from dartune import params, presets
from dartune.evaluation.statistics import MODELS, difference, interval_text, t_interval
from dartune.files import atomic, parquet
from dartune.pool.ask_tell import INDEPENDENT
from dartune.programs.features import text_fingerprint
from dartune.report.plots import WIDTH, drawing

SPLIT = "test"
RECORDED = Path("data/recorded")
CELLS = Path(".work/cells").absolute()  # unfinished work
MORE_SAMPLING, OWN = "more-sampling", "own"  # a training that is none, and its pool
MORE = "more_sampling"  # of a plan: answers by student
WRITER = "writer"  # beside "base" and "tuned": the untuned model that wrote the recorded pool
IMITATION = "sft"  # the training that the others are compared with, too, where its cell is there
MODEL_NAMES = {"base": "untuned", WRITER: WRITER, IMITATION: IMITATION}
SHOWN = (  # differences to a model
    ("base", "mean"),
    (IMITATION, "mean"),
    (WRITER, "validity"),
    (WRITER, "mean"),
    (WRITER, "best_of_100"),
)
DRAWN = {"validity": "share of valid answers", "mean": "mean quality, failures are 0"}
COLUMNS = (
    "validity",
    "mean",
    "top_10",
    "best_of_10",
    "best_of_100",
    "best",
    "better_than_template",
    "distinct_behaviours",
    "equal_to_template",
    OTHERS := "valid_others",  # valid answers but those with the template's score, which a model can copy
    "of_the_pool",
)


class Cell(NamedTuple):
    """One tuned model."""

    student: str
    task: str
    pool: str
    training: str
    seed: int


class Plan:
    """A file of experiments/: {students, tasks, pools, trainings, seeds, writer, n_samples, more_sampling, uses}.

    STUDENT in the name of a parameter stands for the student.
    """

    def __init__(self, file: Path) -> None:
        self.name, self.content = file.stem, params.read(file)
        self.untuned = RECORDED / f"{self.content['writer']}-untuned"
        self.output = Path("metrics") / f"{file.stem}.json"

    def cells(self, asked: dict[str, list[Any]]) -> Iterator[Cell]:
        """Yield the cells, those of a seed one after the other, imitation first. asked: the values of each field."""
        trainings = sorted(asked["trainings"], key=lambda training: training != IMITATION)
        places = product(asked["students"], asked["tasks"], asked["pools"], asked["seeds"])
        for (student, task, pool, seed), training in product(places, trainings):
            cell = Cell(student, task, pool, training, seed)
            is_meant = cell.training != MORE_SAMPLING or (cell.pool == OWN and cell.student in self.content[MORE])
            if is_meant and self.has_pool(pool, task):
                yield cell

    def has_pool(self, pool: str, task: str) -> bool:
        """Return whether a task has that pool: not every recording is of every task."""
        source = Path(self.content["pools"][pool]["pool.source"])
        return not source.is_relative_to(RECORDED) or (source / f"{task}.parquet").exists()

    def name_of(self, cell: Cell, use: str = "") -> str:
        """Return the name of a cell's experiment. use: of its tuned model, one of `uses`; "" for the cell alone."""
        return "-".join([self.name, *map(str, cell), *filter(None, [use])]).replace("_", "-")

    def settings(self, cell: Cell, use: str = "") -> dict[str, object]:
        """Return a cell's parameters by dotted name."""
        return {
            "preset": cell.student,
            **presets.settings(cell.student),
            "tasks": [cell.task],
            f"presets/{cell.student}.yaml:evaluate.n_samples": self.content["n_samples"],
            **self.content["pools"][cell.pool],
            **self.of_training(cell),
            **{f"{stage}.seed": cell.seed for stage in SEEDED},
            **(self.content["uses"][use]["settings"] if use else {}),
        }

    def of_training(self, cell: Cell) -> dict[str, object]:
        """Return the parameters that a cell's training sets."""
        if cell.training != MORE_SAMPLING:
            trainings = self.content["trainings"][cell.training].items()
            return {name.replace("STUDENT", cell.student): value for name, value in trainings}
        return {f"presets/{cell.student}.yaml:pool.n_programs": self.content[MORE][cell.student]}

    def command(self, cell: Cell, use: str = "") -> str:
        """Return the command that makes a cell, and no other, in a copy of the working tree."""
        options = ["--temp", "-n", self.name_of(cell, use), *words(self.settings(cell, use))]
        stage = "pool" if cell.training == MORE_SAMPLING else "evaluate"
        stage = self.content["uses"][use]["stage"] if use else stage
        return shlex.join(["dvc", "exp", "run", *options, f"{stage}@{cell.task}"])


def main() -> None:
    """Run the cells that are asked for and not there, and print the table of all."""
    plan, parser = command_line(__doc__)
    parser.add_argument("--draw", type=Path, metavar="FILE", help="an SVG of the first task that is asked for")
    asked = parser.parse_args()
    results = json.loads(plan.output.read_text()) if plan.output.exists() else {}
    cells = asked_cells(plan, parser, asked)
    failed = [cell for cell in cells if not is_there(plan, cell, results)]
    print(*lines(plan, results), sep="\n")
    if asked.draw:
        rows = dict(dots(plan, asked.tasks[0], results))
        panels = {title: {label: of[metric] for label, of in rows.items()} for metric, title in DRAWN.items()}
        size = (WIDTH, 0.75 + 0.28 * len(rows))  # inches: room for a label above each dot
        asked.draw.write_text(drawing(f"{plan.name}: {asked.tasks[0]}", dot_panel, panels, size=size), encoding="utf-8")
    if failed:
        raise SystemExit(f"failed, see above: {', '.join(map(plan.name_of, failed))}")


def command_line(description: str | None) -> tuple[Plan, argparse.ArgumentParser]:
    """Return the plan that the command line names, and a parser of what it may ask of that plan."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--plan", type=Path, default=Path("experiments/real.yaml"))
    plan = Plan(first.parse_known_args()[0].plan)
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=formatter, parents=[first])
    for name in Cell._fields:
        options = [*plan.content[f"{name}s"]]
        if name == "training" and MORE in plan.content:
            options.append(MORE_SAMPLING)
        parser.add_argument(f"--{name}s", nargs="+", type=type(options[0]), choices=options, default=options)
    parser.add_argument("--table", action="store_true", help="run nothing")
    return plan, parser


def asked_cells(plan: Plan, parser: argparse.ArgumentParser, asked: argparse.Namespace) -> list[Cell]:
    """Return the cells to run: none where the table alone is asked for. An error where the plan has none of them."""
    cells = [] if asked.table else list(plan.cells(vars(asked)))
    if not (cells or asked.table):
        parser.error("the plan has no such cell: a recorded pool of another task, or more-sampling of a recorded pool")
    return cells


def environment() -> dict[str, str]:
    """Return the variables by which unfinished work, and what stages took, outlive the tree of an experiment."""
    return os.environ | {"DARTUNE_RESOURCES": str(RESOURCES), "DARTUNE_WORK": str(CELLS)}


def is_there(plan: Plan, cell: Cell, results: dict[str, Any]) -> bool:
    """Add to the results what they lack of a cell and of its task's writer; return whether the cell is there."""
    name = plan.name_of(cell)
    if name not in results:
        if not is_made(name, plan.command(cell)):
            return False
        figures, qualities = measured(cell, name)
        imitation = cell._replace(training=IMITATION)
        if cell != imitation and plan.name_of(imitation) in existing():
            qualities[IMITATION] = measured(imitation, plan.name_of(imitation))[1]["tuned"]
        if (answers := plan.untuned / f"{cell.task}.parquet").exists():
            of_writer, qualities[WRITER] = of_answers(cell.task, parquet.read(answers))
            results[f"writer-{cell.task}"] = {"task": cell.task, "base": of_writer}
        results[name] = {**cell._asdict(), **figures, "differences": dict(differences(qualities, cell.seed))}
        atomic.write_json(plan.output, results)
    return True


def is_made(name: str, command: str) -> bool:
    """Run the command of an experiment that does not exist; return whether it exists now."""
    print(command, flush=True)
    return name in existing() or not subprocess.run(shlex.split(command), env=environment()).returncode


def measured(cell: Cell, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the figures of the student, untuned and tuned, by model, and their qualities. name: of the experiment."""
    if cell.training == MORE_SAMPLING:
        figures, of_student = of_answers(cell.task, read_table(f"data/pool/{cell.task}.parquet", name))
        return {"tuned": figures}, {"tuned": of_student}
    metrics = json.loads(dvc.api.read(f"metrics/evaluate/{cell.task}.json", rev=name))[SPLIT]
    table = read_table(f"data/evaluation/{cell.task}.parquet", name)
    table = table.filter(pc.equal(table["split"], SPLIT))
    pool = set(read_table(f"data/scored/{cell.task}.parquet", name)["text"].to_pylist())
    tables = {model: table.filter(pc.equal(table["model"], model)) for model in MODELS}
    qualities = {model: of_model["quality"].to_numpy() for model, of_model in tables.items()}
    more = {model: further(of_model) for model, of_model in qualities.items()}
    return {model: metrics[model] | more[model] | of_pool(tables[model], pool) for model in MODELS}, qualities


def further(qualities: np.ndarray) -> dict[str, Any]:
    """Return the best quality, and the bootstrap intervals of what is drawn."""
    intervals = difference(np.zeros_like(qualities), qualities, 0)  # to a model whose answers all fail
    return {"best": float(qualities.max()), "intervals": {metric: intervals[metric] for metric in DRAWN}}


def differences(qualities: dict[str, np.ndarray], seed: int) -> Iterator[tuple[str, Any]]:
    """Yield (model, tuned minus that model: an interval for each metric). qualities: by model."""
    for model, values in qualities.items():
        if model != "tuned":
            yield model, difference(values, qualities["tuned"], seed)


def read_table(path: str, revision: str) -> pa.Table:
    """Return a Parquet file of an experiment."""
    with dvc.api.open(path, rev=revision, mode="rb") as stream:
        return pq.read_table(io.BytesIO(stream.read()))


def of_pool(answers: pa.Table, pool: set[int]) -> dict[str, float]:
    """Return the share of answers whose program is one of the pool's, given by fingerprints."""
    programs = answers["program"].to_pylist()
    n_known = sum(text_fingerprint(program) in pool for program in programs if program)
    return {"of_the_pool": round(n_known / len(programs), 6)}


def of_answers(task: str, pool: pa.Table) -> tuple[dict[str, Any], np.ndarray]:
    """Return the figures and the qualities (n,) of a pool's answers to the task's prompt, all counted, on SPLIT."""
    rows, figures = judged(task, SPLIT, pool.filter(pc.equal(pool["method"], INDEPENDENT)))
    qualities = np.array([row["quality"] for row in rows])
    return figures | further(qualities), qualities


def lines(plan: Plan, results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the table: untuned and tuned models, the mean over seeds, and the command of the first seed."""
    titles = [*Cell._fields[:-1], "seeds", *COLUMNS, *(f"{metric} - {MODEL_NAMES[model]}" for model, metric in SHOWN)]
    yield "| " + " | ".join([*titles, "command"]) + " |"
    yield "|" + "---|" * (len(titles) + 1)
    for task in plan.content["tasks"]:
        if f"writer-{task}" in results:
            yield row_of([plan.content["writer"], task, "", "untuned", ""], [results[f"writer-{task}"]["base"]])
        for student in plan.content["students"]:
            yield from rows_of(plan, task, student, [row for row in results.values() if is_of(row, task, student)])


def is_of(row: dict[str, Any], task: str, student: str) -> bool:
    """Return whether a result is a cell of the task and the student."""
    return row["task"] == task and row.get("student") == student


def rows_of(plan: Plan, task: str, student: str, cells: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the rows of a student. cells: its results, one a tuned model."""
    if untuned := {row["seed"]: row["base"] for row in cells if "base" in row}:
        yield row_of([student, task, "", "untuned", str(len(untuned))], list(untuned.values()))
    for pool, training in product(plan.content["pools"], [MORE_SAMPLING, *plan.content["trainings"]]):
        if runs := [row for row in cells if (row["pool"], row["training"]) == (pool, training)]:
            words = [student, task, pool, training, str(len(runs))]
            command = plan.command(Cell(*(runs[0][name] for name in Cell._fields)))
            yield row_of(words, [row["tuned"] for row in runs], [row["differences"] for row in runs], command)


def row_of(
    words: list[str], figures: list[dict[str, Any]], differences: list[dict[str, Any]] | None = None, command: str = ""
) -> str:
    """Return a row of the table. figures, differences: of each seed; the latter and the command of a tuned model."""
    figures = [row | {OTHERS: row["validity"] - row["equal_to_template"]} for row in figures]
    of_column = {name: [row[name] for row in figures if name in row] for name in COLUMNS}
    means = [f"{statistics.mean(values):.3f}" if values else "" for values in of_column.values()]
    shown = [over_seeds([row[model][metric] for row in differences or [] if model in row]) for model, metric in SHOWN]
    return "| " + " | ".join([*words, *means, *shown, f"`{command}`" if command else ""]) + " |"


def dots(plan: Plan, task: str, results: dict[str, Any]) -> Iterator[tuple[str, dict[str, list[dict[str, float]]]]]:
    """Yield the rows of a drawing: label, and the intervals of each seed by metric.

    The plan's first pool is not named.
    """
    first = next(iter(plan.content["pools"]))
    for student in plan.content["students"]:
        cells = [row for row in results.values() if is_of(row, task, student)]
        untuned = {row["seed"]: row["base"] for row in cells if "base" in row}
        named = [(f"{student}, untuned", list(untuned.values()))]
        named += [
            (f"{student}, {training}{f', pool: {pool}' * (pool != first)}", of_cells(cells, pool, training))
            for pool, training in product(plan.content["pools"], [MORE_SAMPLING, *plan.content["trainings"]])
        ]
        for label, figures in named:
            if figures:
                yield label, {metric: [of["intervals"][metric] for of in figures] for metric in DRAWN}
    if writer := results.get(f"writer-{task}"):
        yield f"{plan.content['writer']}, untuned", {metric: [writer["base"]["intervals"][metric]] for metric in DRAWN}


def of_cells(cells: list[dict[str, Any]], pool: str, training: str) -> list[dict[str, Any]]:
    """Return the figures of the tuned models of a pool and a training, one for each seed."""
    return [row["tuned"] for row in cells if (row["pool"], row["training"]) == (pool, training)]


def dot_panel(axis: Any, rows: dict[str, list[dict[str, float]]]) -> None:
    """Draw a dot with its interval for each row: of the answers for one seed, else over seeds, which are faint dots.

    Two seeds have no interval: theirs would be wider than the drawing.
    """
    for place, (label, intervals) in enumerate(rows.items()):
        values = [interval["estimate"] for interval in intervals]
        shown = intervals[0] if len(intervals) == 1 else t_interval(values)
        axis.plot(values, [place] * len(values), "o", color="0.7", markersize=3)
        if len(values) != 2:
            axis.plot([shown["low"], shown["high"]], [place, place], color="0.2")
        axis.plot(shown["estimate"], place, "o", color="0.2")
        axis.text(0, place - 0.25, label, transform=axis.get_yaxis_transform(), fontsize=7.5)
    axis.set(yticks=[], ylim=(len(rows) - 0.5, -0.9), xlim=(0, None))
    axis.grid(axis="x")


def over_seeds(intervals: list[dict[str, Any]]) -> str:
    """Return the bootstrap interval of one seed, or the t interval over several."""
    if len(intervals) < 2:
        return "".join(map(interval_text, intervals))
    return interval_text(t_interval([interval["estimate"] for interval in intervals]))


if __name__ == "__main__":
    main()
