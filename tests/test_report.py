"""The report: what it says of numbers that are known, and that it holds whatever a model wrote."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dartune import journal
from dartune.contest import ROW as SEARCHED
from dartune.evaluation import ROW, compare
from dartune.mistake import Mistake
from dartune.report import read_result, warnings_of, write_report

LIMITS = {"n_best": 2, "max_validity_drop": 0.05, "max_distinct_drop": 0.2, "max_template_rise": 0.1}
TEMPLATE = -8.0
CURVE = "step,loss,rewards/chosen,rewards/rejected,rewards/accuracies,rewards/margins,logps/chosen,logps/rejected"
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
            "behaviour": str(score) if score else None,
            "quality": 4 / -score if score else 0.0,
            "gap": -score / 4 - 1 if score else None,
            "n_prompt_tokens": 10,
            "n_tokens": n_tokens,
            "finish": "stop",
        }
        for split in SPLITS
        for number, score in enumerate(scores)
    ]


SIDE = {
    "failures": 0,
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


def write_inputs(folder: Path, base: list[dict[str, Any]], tuned: list[dict[str, Any]], curve: str = "") -> None:
    """What the stages leave of the task "tour"; the figures are those of the stage evaluate itself."""
    table = pa.Table.from_pylist(base + tuned, schema=ROW)
    journal.write(table, folder / "evaluation/tour.parquet")
    figures = {split: compare(table, split, TEMPLATE, seed=0) for split in SPLITS}
    metrics = {
        "evaluate": figures,
        "score": {
            "n_programs": 10,
            "validity": 0.9,
            "distinct_programs": 8,
            "distinct_trees": 8,
            "distinct_shapes": 6,
            "distinct_behaviours": 7,
            "distinct_score_signatures": 7,
            "novelty": None,
            "status": {"ok": 9, "syntax": 1},
        },
        "sample": SAMPLE,
        "train": {"n_pairs": 4, "too_long": [], "beta": 0.1, "steps": 5, "last": {}, "held_out": {"loss": 0.69}},
    }
    tokens = {"n_prompt_tokens": 10, "n_tokens": 20}
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
    journal.write(pa.Table.from_pylist(searched, schema=SEARCHED), folder / "search/tour.parquet")
    for stage, content in metrics.items():
        journal.write_json(folder / f"metrics/{stage}/tour.json", content)
    (folder / "plots").mkdir(exist_ok=True)
    (folder / "plots/tour.csv").write_text("\n".join([CURVE, *curve.split()]) + "\n")


def report(folder: Path, **limits: float) -> tuple[str, str, dict[str, Any]]:
    """index.html, summary.txt and summary.json of the inputs in folder."""
    inputs = [
        folder / name
        for name in ("metrics", "evaluation", "search", "plots", "report", "metrics/summary.json", "cost.html")
    ]
    write_report(["tour"], *inputs, **LIMITS | limits)
    html, table = ((folder / "report" / name).read_text("utf-8") for name in ("index.html", "summary.txt"))
    return html, table, json.loads((folder / "metrics/summary.json").read_text())


# 20 valid programs of qualities 0.5 .. 0.4, all of them different, none equal to the template's -8.
FAIR = [-8 - 0.1 * i for i in range(1, 21)]
# The same improved by 2: qualities 0.66 .. 0.5, an interval far from 0.
BETTER = [score + 2 for score in FAIR]


@pytest.fixture(scope="module")
def improved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("improved")
    write_inputs(folder, rows("base", FAIR), rows("tuned", BETTER), "5,.7,.1,0,.5,.1,-50,-60 10,.6,.2,0,.6,.2,-48,-60")
    return folder


@pytest.fixture(scope="module")
def of_improved(improved: Path) -> tuple[str, str, dict[str, Any]]:
    return report(improved)


def warnings(folder: Path, **limits: float) -> list[str]:
    """The warnings alone: they need no drawing."""
    shares = {"validity": 0.05, "distinct_behaviours": 0.2, "equal_to_template": 0.1} | limits
    inputs = [folder / name for name in ("metrics", "evaluation", "search", "plots")]
    return warnings_of(read_result("tour", *inputs), shares)


def test_a_clear_improvement_is_marked_better_and_raises_no_warning(of_improved: tuple[Any, ...]) -> None:
    html, table, summary = of_improved
    assert html.count("▲ better") > 10 and " better\n" in table
    assert 'title="▼ worse"' not in html
    assert "No warnings" in html and table.endswith("no warnings\n")
    assert summary["tour"]["n_warnings"] == 0


def test_the_page_needs_nothing_from_outside(of_improved: tuple[Any, ...]) -> None:
    html, *_ = of_improved
    assert not re.search(r"<(script|link|iframe|img|object)\b|@import|url\((?!#)", html)
    assert all(target.startswith("#") for target in re.findall(r"\b(?:src|href)=\"([^\"]*)\"", html))


def test_ids_are_unique_on_the_page(of_improved: tuple[Any, ...]) -> None:
    ids = re.findall(r'\bid="([^"]*)"', of_improved[0])
    assert len(ids) == len(set(ids))


def test_the_same_inputs_give_the_same_bytes(improved: Path, of_improved: tuple[Any, ...]) -> None:
    assert report(improved) == of_improved


def test_what_a_model_wrote_is_escaped(tmp_path: Path) -> None:
    tuned = rows("tuned", [*BETTER, None])
    for row in tuned:
        row["program"] += "# <script>alert(1)</script> \u202e"
        row["reason"] = row["reason"] and "<script>alert(2)</script>"
    write_inputs(tmp_path, rows("base", FAIR), tuned)
    html, *_ = report(tmp_path)
    assert "<script" not in html and "\u202e" not in html
    assert "&lt;script&gt;alert(1)" in html and "&lt;script&gt;alert(2)" in html and "\\u202e" in html


def test_the_summary_holds_the_numbers_of_evaluate(improved: Path, of_improved: tuple[Any, ...]) -> None:
    measured = json.loads((improved / "metrics/evaluate/tour.json").read_text())
    found = of_improved[2]["tour"]
    for name in ("mean", "validity", "top_10"):
        assert found[name] == {model: measured["test"][model][name] for model in ("base", "tuned")}
    assert found["mean_difference"] == {split: measured[split]["difference"]["mean"] for split in SPLITS}


def test_the_page_shows_the_numbers_of_evaluate(improved: Path, of_improved: tuple[Any, ...]) -> None:
    mean = json.loads((improved / "metrics/evaluate/tour.json").read_text())["test"]["difference"]["mean"]
    html, table, _ = of_improved
    assert f"{mean['low']:+.3f} to {mean['high']:+.3f}" in html
    assert f"{mean['estimate']:+.3f} [{mean['low']:+.3f}, {mean['high']:+.3f}] better" in table


def test_an_interval_not_clear_of_0_is_marked_and_warned_of(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", FAIR[::-1]))
    html, table, summary = report(tmp_path)
    assert 'title="○ not clear of 0"' in html and "unclear" in table and summary["tour"]["n_warnings"] == 1
    assert "warning: tour: change of mean quality is not clear of 0 on test, shifted_20: " in table


def test_a_clear_fall_is_marked_worse(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", BETTER), rows("tuned", FAIR))
    html, table, _ = report(tmp_path)
    assert 'title="▼ worse"' in html and " worse\n" in table
    assert "warning: tour: mean quality clearly fell on test, shifted_20: " in table


# Of 20 programs: 18 valid is a fall of validity by 0.1; 14 different scores a fall of distinct behaviours by 0.3;
# 4 that equal the template's score a rise by 0.2 (they also cost 3 behaviours, which is less than its limit 0.2).
FEWER_VALID = [*BETTER[:18], None, None]
ALIKE = [*BETTER[:14], *[BETTER[0]] * 6]
COPIES = [*BETTER[:16], *[TEMPLATE] * 4]


@pytest.mark.parametrize(
    ("scores", "limit", "words"),
    [
        (FEWER_VALID, "validity", "validity fell: 100.0 % -> 90.0 % on test, shifted_20 (limit 9.9 points)"),
        (ALIKE, "distinct_behaviours", "distinct behaviours 100.0 % -> 70.0 % on test, shifted_20 (limit 29.9 points)"),
        (COPIES, "equal_to_template", "equal to the template 0.0 % -> 20.0 % on test, shifted_20 (limit 19.9 points)"),
    ],
)
def test_a_warning_appears_exactly_when_its_limit_is_crossed(
    tmp_path: Path, scores: list[float | None], limit: str, words: str
) -> None:
    change = {"validity": 0.1, "distinct_behaviours": 0.3, "equal_to_template": 0.2}[limit]
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", scores))
    crossed = warnings(tmp_path, **{limit: change - 0.001})
    assert any(words in warning for warning in crossed)
    assert len(warnings(tmp_path, **{limit: change})) == len(crossed) - 1


@pytest.mark.parametrize(("n_tokens", "n_warnings"), [(62, 0), (63, 1), (38, 0), (37, 1)])
def test_a_length_more_than_a_quarter_off_is_warned_of(tmp_path: Path, n_tokens: int, n_warnings: int) -> None:
    # a quarter of 50 tokens is 12.5
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER, n_tokens))
    assert len(warnings(tmp_path)) == n_warnings


@pytest.mark.parametrize(
    ("curve", "n_warnings"),
    [
        ("5,.7,-.3,-.5,.5,.2,-50,-60", 1),  # at beta 0.1 a reward of -0.3 is -3 nats; the limit is 2
        ("5,.7,-.1,-.3,.5,.2,-50,-60", 0),
        ("5,.7,.1,-.1,.5,.2,-50,-60", 0),  # the chosen programs became more probable
        ("5,.7,-.3,-.1,.5,-.2,-50,-60", 0),  # the margin fell: nothing was learnt, but nothing was traded
        ("", 0),
    ],
)
def test_chosen_programs_that_become_less_probable_while_the_margin_rises_are_warned_of(
    tmp_path: Path, curve: str, n_warnings: int
) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER), curve)
    assert len(warnings(tmp_path)) == n_warnings


def test_models_without_a_valid_program_get_a_report_with_dashes(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", [None] * 3), rows("tuned", [None] * 3))
    html, *_ = report(tmp_path)
    assert "None of its programs is valid" in html and "<td>–</td>" in html


def test_the_terminal_table_fits_110_columns(of_improved: tuple[Any, ...]) -> None:
    assert max(map(len, of_improved[1].splitlines())) <= 110


def test_a_training_too_short_to_log_a_step_gets_a_report(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    (tmp_path / "plots/tour.csv").write_text("step\n")
    assert "too short to log a step" in report(tmp_path)[0]


def test_best_programs_act_differently(tmp_path: Path) -> None:
    # the best score thrice, then the second best: two programs are shown, and the first stands for three
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", [-5.0, -5.0, -5.0, -6.0, -7.0]))
    html, *_ = report(tmp_path)
    cards = html.split('<div class="card">')[1:]
    # side by side: base 1, tuned 1, base 2, tuned 2; qualities 4 / 5 and 4 / 6
    assert len(cards) == 4 and "0 of base, 3 of tuned" in cards[1] and "0.800" in cards[1] and "0.667" in cards[3]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


@pytest.mark.parametrize("damage", [Path.unlink, cut])
@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("metrics/score/tour.json", "score"),
        ("metrics/evaluate/tour.json", "evaluate"),
        ("evaluation/tour.parquet", "evaluate"),
        ("plots/tour.csv", "train"),
    ],
)
def test_a_missing_or_cut_file_gives_one_line(
    tmp_path: Path, file: str, stage: str, damage: Callable[[Path], None]
) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    damage(tmp_path / file)
    with pytest.raises(Mistake) as mistake:
        report(tmp_path)
    assert file in str(mistake.value) and stage in str(mistake.value) and "\n" not in str(mistake.value)
    assert not (tmp_path / "report").exists()
