"""What the tuned models of a plan do elsewhere: inside searches, on other tasks, at a lower temperature.

python benchmarks/uses.py search --students smollm2-135m --tasks cvrp_construct --trainings sft-dpo --seeds 1, or
another of the plan's uses: `transfer`, or `cooler`, at temperature 0.6. Each is a DVC experiment that takes the tuned
model from that of its cell, which benchmarks/real.py makes, and trains it where there is none. What each came to stands
in metrics/<plan>_uses.json, which is in git: what stands there is not run again. Prints a table, each row with the
command that makes it; --table runs nothing.

Base is the untuned student. `search`: guided by validation instances, judged on test instances; means over the searches
of a model, and their paired differences with t intervals; at equal numbers of evaluations and at equal seconds, the
seconds of the faster model. The others: test instances, all answers counted, intervals of 2,000 bootstrap samples.
"""

import json
from collections.abc import Iterator
from typing import Any

import dvc.api
from experiments import RESOURCES
from real import MORE_SAMPLING, SPLIT, Cell, Plan, asked_cells, command_line, is_made

from dartune.evaluation.statistics import MODELS, interval_text
from dartune.files import atomic

KEY = "at_equal_seconds"
PAIR = "base | tuned | tuned - base"  # the columns of a metric
SEARCHED = (
    f"method | searches | valid: base | tuned | top 1: {PAIR} | top 10: {PAIR} "
    f"| evaluations at equal seconds: base | tuned | top 1 by then: {PAIR}"
)
SAMPLED = f"judged on | valid: {PAIR} | mean: {PAIR} | best of 100: {PAIR}"


def main() -> None:
    """Run what is asked for and not there, and print the table of its use."""
    plan, parser = command_line(__doc__)
    parser.add_argument("use", choices=[*plan.content.get("uses", {})])
    asked = parser.parse_args()
    output = plan.output.with_name(f"{plan.name}_uses.json")
    results = json.loads(output.read_text()) if output.exists() else {}
    cells = [cell for cell in asked_cells(plan, parser, asked) if cell.training != MORE_SAMPLING]
    failed = []
    for cell in cells:
        name, command = plan.name_of(cell, asked.use), plan.command(cell, asked.use)
        if name not in results and not is_made(name, command):
            failed.append(name)
        elif name not in results:
            results[name] = {**cell._asdict(), "use": asked.use, "metrics": measured(plan, asked.use, cell.task, name)}
            atomic.write_json(output, results)
    print(*lines(plan, asked.use, results), sep="\n")
    if failed:
        raise SystemExit(f"failed, see above: {', '.join(failed)}")


def measured(plan: Plan, use: str, task: str, name: str) -> dict[str, Any]:
    """Return the metrics of an experiment, by method or by the task that was written for."""
    folder = plan.content["uses"][use]["metrics"]
    metrics: dict[str, Any] = json.loads(dvc.api.read(f"metrics/{folder}/{task}.json", rev=name))
    if folder == "search":
        return {method: figures | equal_seconds(name, task, method) for method, figures in metrics.items()}
    by_task = {task: metrics} if folder == "evaluate" else metrics
    return {other: of_splits[SPLIT] for other, of_splits in by_task.items()}


def equal_seconds(name: str, task: str, method: str) -> dict[str, Any]:
    """Return {"at_equal_seconds": of a method}; or {} where DVC took the search from its cache: it was not timed."""
    timed = RESOURCES / name / f"metrics/resources/search/{task}.json"
    return {KEY: json.loads(timed.read_text())[KEY][method]} if timed.exists() else {}


def lines(plan: Plan, use: str, results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the table of a use, a line for each tuned model and each of its methods or tasks."""
    columns, of_row = (
        (SEARCHED, of_search) if plan.content["uses"][use]["metrics"] == "search" else (SAMPLED, of_sample)
    )
    titles = " | ".join(["", *Cell._fields, columns, "command", ""]).strip()
    yield titles
    yield "|" + "---|" * (titles.count("|") - 1)
    for row in results.values():
        if row["use"] == use:
            cell = Cell(*(row[name] for name in Cell._fields))
            for name, figures in row["metrics"].items():
                words = [*map(str, cell), name, *of_row(figures), f"`{plan.command(cell, use)}`"]
                yield "| " + " | ".join(words) + " |"


def of_search(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the columns of a method."""
    yield str(figures["n_seeds"])
    yield from both(figures, "validity", with_difference=False)
    for metric in ("top_1", "top_10"):
        yield from both(figures, metric)
    if (timed := figures.get(KEY)) is None:
        yield from [""] * 5
        return
    yield from (f"{timed[model]['evaluations']:.0f}" for model in MODELS)
    yield from both(timed | {"difference": {"top_1": timed["difference"]}}, "top_1")


def of_sample(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the columns of answers to a task's prompt."""
    for metric in ("validity", "mean", "best_of_100"):
        yield from both(figures, metric)


def both(figures: dict[str, Any], metric: str, with_difference: bool = True) -> Iterator[str]:
    """Yield a metric of base and tuned model, and their difference."""
    yield from (f"{figures[model][metric]:.3f}" for model in MODELS)
    if with_difference:
        yield interval_text(figures["difference"][metric])


if __name__ == "__main__":
    main()
