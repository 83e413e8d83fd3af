"""Stage report: a page of HTML, a table for the terminal, and the few numbers that `dvc metrics diff` compares."""

from pathlib import Path

from pydantic import PositiveInt

from dartune.files import atomic
from dartune.report.page import page, task_section
from dartune.report.resources import resources_page, run_style
from dartune.report.results import read_json, read_result
from dartune.report.summary import task_summary, write_plots
from dartune.report.terminal import terminal_table
from dartune.report.transfer import matrix
from dartune.report.verdicts import verdicts
from dartune.report.warnings import warnings_of


def write_report(
    tasks: list[str],
    about: dict[str, str | None],
    metrics: Path,
    evaluation: Path,
    search: Path,
    plots: Path,
    output: Path,
    summary: Path,
    resources: Path,
    tables: Path,
    *,
    n_best: PositiveInt,
) -> None:
    """Write index.html, summary.txt and plots/ into `output`, the numbers of each task as JSON, resources and tables.

    about: "model", "revision" and "preset" of the run. metrics, evaluation, search, plots: folders that the earlier
    stages wrote. summary: the JSON. resources: an HTML page of seconds and memory. tables: folder of the CSV files that
    `dvc plots` draws. n_best: programs of each model shown side by side. Raises UserError where a file is missing or
    cut; nothing is written then.
    """
    results = {task: read_result(task, metrics, evaluation, search, plots) for task in tasks}
    warnings = {task: warnings_of(task, result) for task, result in results.items()}
    sections = [task_section(task, result, warnings[task], n_best) for task, result in results.items()]
    trainings = read_json(metrics / "trainers.json", "`make trainers`")
    is_embedded = about["model"] == "embedded"
    judged = {task: verdicts(result, trainings.get(task, {}), is_embedded) for task, result in results.items()}
    html = page(sections, trainings, judged, matrix(results), about)
    (output / "plots").mkdir(parents=True, exist_ok=True)
    for section in sections:
        for name in ("distributions", "searches", "training"):  # as files, which Prefect's pages show
            if svg := section["plots"][name]:
                (output / "plots" / f"{section['name']}-{name}.svg").write_text(svg, encoding="utf-8")
    (output / "summary.txt").write_text(terminal_table(results, judged, warnings), encoding="utf-8")
    write_plots(results, tables)
    atomic.write_json(summary, {task: task_summary(result, len(warnings[task])) for task, result in results.items()})
    (output / "index.html").write_text(html, encoding="utf-8")
    (output / "run.css").write_text(run_style(tasks, metrics), encoding="utf-8")
    resources.write_text(resources_page(tasks, metrics), encoding="utf-8")
