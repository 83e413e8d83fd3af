"""When the report warns of a tuning, and in which words."""

from pathlib import Path

import pytest

from dartune.referee.referee import INTERPRETER
from dartune.report.results import read_result
from dartune.report.warnings import warnings_of
from measured_task import BETTER, FAIR, TEMPLATE, look, rows, trained, write_inputs, write_training


def warnings(folder: Path, name: str = "tour", **limits: float) -> list[str]:
    """The warnings alone: they need no drawing. name: of the task. limits: of train.probe."""
    inputs = [folder / name for name in ("metrics", "evaluation", "search", "plots")]
    result = read_result("tour", *inputs)
    result.metrics["train"]["settings"]["probe"] |= limits
    return warnings_of(name, result)


def test_scores_that_can_be_forged_are_a_warning(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    more = set(warnings(tmp_path, "forgeable_tour")) - set(warnings(tmp_path))
    assert [warning.startswith("programs can forge their scores") for warning in more] == [True]


# Of 20 programs: 18 valid is a fall of validity by 0.1; 14 different scores a fall of distinct behaviours by 0.3;
# 4 that equal the template's score a rise by 0.2 (they also cost 3 behaviours, which is less than its limit 0.2).
FEWER_VALID = [*BETTER[:18], None, None]
ALIKE = [*BETTER[:14], *[BETTER[0]] * 6]
COPIES = [*BETTER[:16], *[TEMPLATE] * 4]


@pytest.mark.parametrize(
    ("scores", "limit", "words"),
    [
        (
            FEWER_VALID,
            "max_validity_drop",
            "validity fell: 100.0% -> 90.0% on test, shifted_20 (train.probe.max_validity_drop 0.099)",
        ),
        (ALIKE, "max_distinct_drop", "distinct behaviours fell: 100.0% -> 70.0% on test, shifted_20 ("),
        (COPIES, "max_template_rise", "copies of the template rose: 0.0% -> 20.0% on test, shifted_20 ("),
    ],
)
def test_a_warning_appears_exactly_when_its_limit_is_crossed(
    tmp_path: Path, scores: list[float | None], limit: str, words: str
) -> None:
    change = {"max_validity_drop": 0.1, "max_distinct_drop": 0.3, "max_template_rise": 0.2}[limit]
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", scores))
    crossed = warnings(tmp_path, **{limit: change - 0.001})
    assert any(words in warning for warning in crossed)
    assert len(warnings(tmp_path, **{limit: change})) == len(crossed) - 1


@pytest.mark.parametrize(("n_tokens", "n_warnings"), [(62, 0), (63, 1), (38, 0), (37, 1)])
def test_a_mean_length_more_than_a_quarter_off_raises_a_warning(tmp_path: Path, n_tokens: int, n_warnings: int) -> None:
    # a quarter of 50 tokens is 12.5
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER, n_tokens))
    assert len(warnings(tmp_path)) == n_warnings


def test_a_warning_of_the_probes_appears_once_with_its_last_step(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    second = look(5, "validity fell: 1 to 0.9", "distinct behaviours fell: 0.9 to 0.6")
    write_training(tmp_path, trained(looks=(look(0), second, look(10, "validity fell: 1 to 0.8"))))
    assert warnings(tmp_path) == [
        "train: validity fell: 1 to 0.8 at step 10",
        "train: distinct behaviours fell: 0.9 to 0.6 at step 5",
    ]


def test_scores_of_different_interpreters_raise_a_warning(tmp_path: Path) -> None:
    other = [row | {"interpreter": "Python 3.12.1, NumPy 2.0.0"} for row in rows("tuned", BETTER)]
    write_inputs(tmp_path, rows("base", FAIR), other)
    both = " and by ".join(sorted([INTERPRETER, "Python 3.12.1, NumPy 2.0.0"]))
    assert warnings(tmp_path) == [f"scores: judged by {both}, which differ in sums"]
