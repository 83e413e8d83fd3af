"""What the report says first: verdicts, the sentence on all of them, and who measured."""

from pathlib import Path
from typing import Any

import pytest

from dartune.files import atomic
from dartune.report.verdicts import sentence
from measured_task import BETTER, FAIR, report, rows, write_inputs

BETTER_SIGN, UNCLEAR, WORSE = ({"significance": name} for name in ("better", "unclear", "worse"))


def test_the_sentence_counts_what_is_better_and_what_is_worse() -> None:
    two_tasks = {
        "a": {"validity": WORSE, "mean": BETTER_SIGN, "top 10": UNCLEAR, "search: eoh": UNCLEAR, "same seconds": WORSE},
        "b": {"validity": BETTER_SIGN, "mean": BETTER_SIGN, "top 10": UNCLEAR, "search: eoh": UNCLEAR},
    }
    assert sentence(two_tasks) == (
        "Tuning raised, by more than chance explains, the validity in 1 of 2, the mean in 2 of 2, the top 10 in 0 of 2,"
        " the best program of a search in 0 of 2. It lowered the validity in 1. In the runs of `make trainers`, at"
        " equal cost, the best was better in 0 of 1 and worse in 1. So the average program is better; nothing shows"
        " that the best ones are."
    )


@pytest.mark.parametrize(
    ("mean", "best", "conclusion"),
    [
        (BETTER_SIGN, BETTER_SIGN, "The average program is better, and some of the best are."),
        (UNCLEAR, BETTER_SIGN, "Some of the best programs are better; the average one is not."),
        (UNCLEAR, UNCLEAR, "Nothing here shows that it helped."),
        (WORSE, WORSE, "Nothing here shows that it helped."),
    ],
)
def test_what_follows_depends_on_the_mean_and_on_the_best(mean: Any, best: Any, conclusion: str) -> None:
    assert sentence({"a": {"mean": mean, "top 10": best}}).endswith(conclusion)


def first_screen(html: str) -> str:
    return html[html.index("<h1>") : html.index("In one table")]


def test_the_first_screen_has_the_equal_cost_control_of_the_same_trainer(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    trainers = {"tour": {"dpo": {str(i): run(0.01 * i) for i in range(3)}, "grpo": {"0": run(9.0)}}}
    atomic.write_json(tmp_path / "metrics/trainers.json", trainers)
    html, table, _ = report(tmp_path)
    assert "same evaluations" in first_screen(html) and "−0.010" in first_screen(html)
    assert "+9" not in first_screen(html)
    assert "make trainers" in table and "Tuning raised" in table


def run(worse: float) -> dict[str, float]:
    names = ("validity", "mean", "top_10", "distinct_behaviours", "best")
    figures = dict.fromkeys(names, 0.5) | {f"{name}_base": 0.5 for name in names}
    return figures | {"seconds": 1.0, "best_at_equal_evaluations": 0.5 + worse, "best_at_equal_seconds": 0.5 + worse}


def test_models_that_write_no_valid_program_are_an_alarm_with_the_reason(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", [None] * 8), rows("tuned", [None] * 8))
    html, table, summary = report(tmp_path)
    assert "no program to compare: 0 of 8 of the base model are valid, 8 are runtime" in first_screen(html)
    assert "ZeroDivisionError" in first_screen(html) and 'class="alarm dead"' in first_screen(html)
    assert "warning: tour: no program to compare: 0 of 8 of the tuned model" in table
    assert summary["tour"]["n_warnings"] >= 2


def test_date_commit_and_machine_stand_in_a_file_beside_the_page(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    measured = {"date": "2026-01-02 03:04 UTC", "commit": "abc1234", "machine": 'A "fast" one, 2 cores'}
    resources = {"seconds": 1, "cpu_seconds": 1, "peak_mib": 1}
    atomic.write_json(tmp_path / "metrics/resources/evaluate/tour.json", resources | measured)
    html, *_ = report(tmp_path)
    style = (tmp_path / "report/run.css").read_text()
    assert "2026-01-02 03:04 UTC, commit abc1234, A 'fast' one, 2 cores" in style
    assert "abc1234" not in html and 'href="run.css"' in html
