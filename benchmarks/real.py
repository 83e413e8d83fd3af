"""Experiments with real weights: every cell of a plan as a DVC experiment, and their table.

`make real`, or a part: python benchmarks/real.py --students smollm2-135m --tasks admissible_set --seeds 1. --plan: a
file of experiments/, real.yaml by default. One cell at a time, since its model uses all cores. What each came to stands
in metrics/<plan>.json, which is in git: what stands there is not run again. Prints the table, each row with the command
that makes it; --table runs nothing. A cell that fails, because its pool teaches nothing for example, does not stop the
others.

On the test split, all answers counted. Rows without a training are the untuned student, and the untuned writer of the
recorded pool, whose recorded answers are judged there.
"""

import argparse
import io
import json
import shlex
import statistics
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import dvc.api
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from experiments import SEEDED, words
from judged import judged

from dartune import params, presets
from dartune.evaluation.statistics import interval_text, t_interval
from dartune.files import atomic, parquet
from dartune.pool.ask_tell import INDEPENDENT
from dartune.programs.features import text_fingerprint

SPLIT = "test"
COLUMNS = (
    "validity",
    "mean",
    "top_10",
    "best_of_10",
    "best_of_100",
    "better_than_template",
    "distinct_behaviours",
    "equal_to_template",
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
    """A file of experiments/: {students, tasks, pools, trainings, seeds, writer}."""

    def __init__(self, file: Path) -> None:
        self.name, self.content = file.stem, params.read(file)
        self.recorded = Path("data/recorded") / str(self.content["writer"])
        self.output = Path("metrics") / f"{file.stem}.json"

    def name_of(self, cell: Cell) -> str:
        """Return the name of a cell's experiment."""
        return "-".join([self.name, *map(str, cell)]).replace("_", "-")

    def settings(self, cell: Cell) -> dict[str, object]:
        """Return a cell's parameters by dotted name."""
        return {
            "preset": cell.student,
            **presets.settings(cell.student),
            "tasks": [cell.task],
            **self.content["pools"][cell.pool],
            **self.content["trainings"][cell.training],
            **{f"{stage}.seed": cell.seed for stage in SEEDED},
        }

    def command(self, cell: Cell) -> str:
        """Return the command that makes a cell, and no other, in a copy of the working tree."""
        options = ["--temp", "-n", self.name_of(cell), *words(self.settings(cell))]
        return shlex.join(["dvc", "exp", "run", *options, f"evaluate@{cell.task}"])


def main() -> None:
    """Run the cells that are asked for and not there, and print the table of all."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--plan", type=Path, default=Path("experiments/real.yaml"))
    plan = Plan(first.parse_known_args()[0].plan)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[first]
    )
    for name in Cell._fields:
        options = list(plan.content[f"{name}s"])
        parser.add_argument(f"--{name}s", nargs="+", type=type(options[0]), choices=options, default=options)
    parser.add_argument("--table", action="store_true", help="run nothing")
    asked = parser.parse_args()
    results = json.loads(plan.output.read_text()) if plan.output.exists() else {}
    cells = map(Cell._make, product(*(getattr(asked, f"{name}s") for name in Cell._fields)))
    failed = [cell for cell in cells if not asked.table and not is_there(plan, cell, results)]
    print(*lines(plan, results), sep="\n")
    if failed:
        raise SystemExit(f"failed, see above: {', '.join(map(plan.name_of, failed))}")


def is_there(plan: Plan, cell: Cell, results: dict[str, Any]) -> bool:
    """Add to the results what they lack of a cell and of its task's writer; return whether the cell is there."""
    name, writer = plan.name_of(cell), f"writer-{cell.task}"
    if writer not in results and (plan.recorded / f"{cell.task}.parquet").exists():
        results[writer] = {"task": cell.task, "base": of_writer(plan, cell.task)}
        atomic.write_json(plan.output, results)
    if name not in results:
        print(plan.command(cell), flush=True)
        if subprocess.run(shlex.split(plan.command(cell))).returncode:
            return False
        results[name] = {**cell._asdict(), **measured(cell, name)}
        atomic.write_json(plan.output, results)
    return True


def measured(cell: Cell, name: str) -> dict[str, Any]:
    """Return {"base", "tuned"}: the figures of the student before and after. name: of the experiment."""
    figures = json.loads(dvc.api.read(f"metrics/evaluate/{cell.task}.json", rev=name))[SPLIT]
    table = read_table(f"data/evaluation/{cell.task}.parquet", name, ["model", "split", "program"])
    pool = set(read_table(f"data/scored/{cell.task}.parquet", name, ["text"])["text"].to_pylist())
    return {model: figures[model] | {"of_the_pool": share_of(pool, table, model)} for model in ("base", "tuned")}


def read_table(path: str, revision: str, columns: list[str]) -> pa.Table:
    """Return columns of a Parquet file of an experiment."""
    with dvc.api.open(path, rev=revision, mode="rb") as stream:
        return pq.read_table(io.BytesIO(stream.read()), columns=columns)


def share_of(pool: set[int], table: pa.Table, model: str) -> float:
    """Return the share of a model's answers whose program is one of the pool's."""
    is_it = pc.and_(pc.equal(table["model"], model), pc.equal(table["split"], SPLIT))
    programs = table.filter(is_it)["program"].to_pylist()
    return round(sum(text_fingerprint(program) in pool for program in programs if program) / len(programs), 6)


def of_writer(plan: Plan, task: str) -> dict[str, Any]:
    """Return the figures of the writer's recorded answers to the task's prompt, all counted, on the test split."""
    pool = parquet.read(plan.recorded / f"{task}.parquet")
    return judged(task, SPLIT, pool.filter(pc.equal(pool["method"], INDEPENDENT)))[1]


def lines(plan: Plan, results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the table: untuned and tuned models, the mean over seeds, and the command of the first seed."""
    yield "| task | model | pool | training | seeds | " + " | ".join(COLUMNS) + " | mean - untuned | command |"
    yield "|" + "---|" * (len(COLUMNS) + 7)
    for task in plan.content["tasks"]:
        if f"writer-{task}" in results:
            yield row_of([task, plan.content["writer"], "", "untuned", ""], [results[f"writer-{task}"]["base"]])
        for student in plan.content["students"]:
            yield from rows_of(plan, task, student, [row for row in results.values() if is_of(row, task, student)])


def is_of(row: dict[str, Any], task: str, student: str) -> bool:
    """Return whether a result is a cell of the task and the student."""
    return row["task"] == task and row.get("student") == student


def rows_of(plan: Plan, task: str, student: str, cells: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the rows of a student. cells: its results, one a tuned model."""
    if untuned := {row["seed"]: row["base"] for row in cells}:
        yield row_of([task, student, "", "untuned", str(len(untuned))], list(untuned.values()))
    for pool, training in product(plan.content["pools"], plan.content["trainings"]):
        if runs := [row for row in cells if (row["pool"], row["training"]) == (pool, training)]:
            gain = interval_text(t_interval([row["tuned"]["mean"] - row["base"]["mean"] for row in runs]))
            command = plan.command(Cell(*(runs[0][name] for name in Cell._fields)))
            yield row_of([task, student, pool, training, str(len(runs))], [row["tuned"] for row in runs], gain, command)


def row_of(words: list[str], figures: list[dict[str, Any]], gain: str = "", command: str = "") -> str:
    """Return a row of the table. figures: of each seed. gain, command: of a tuned model."""
    of_column = {name: [row[name] for row in figures if name in row] for name in COLUMNS}
    means = [f"{statistics.mean(values):.3f}" if values else "" for values in of_column.values()]
    return "| " + " | ".join([*words, *means, gain, f"`{command}`" if command else ""]) + " |"


if __name__ == "__main__":
    main()
