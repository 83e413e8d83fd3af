"""The report: what it says of numbers that are known, and that it holds whatever a model wrote."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from matplotlib.figure import Figure

from dartune.errors import UserError
from dartune.evaluation.evaluate import EVALUATION_SCHEMA, compare
from dartune.evaluation.search import SEARCH_SCHEMA
from dartune.files import atomic, parquet
from dartune.report.plots import PROBE, TRAINING, filled, probe_panels, training_panels
from dartune.report.report import write_report
from dartune.report.results import read_result
from dartune.report.training import LOGGED, METHODS, probe_series
from dartune.report.warnings import warnings_of
from dartune.training.trainers import TRAINERS

LIMITS = {"n_best": 2, "max_validity_drop": 0.05, "max_distinct_drop": 0.2, "max_template_rise": 0.1}
TEMPLATE = -8.0
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
    """One measurement of the watch."""
    shares = {"validity": 1.0, "mean": mean, "distinct_behaviours": 0.9, "mean_tokens": 50.0}
    return {"step": step, **shares, "chosen": -50.0, "rejected": -60.0, "loss_elsewhere": 0.2, "warnings": [*warnings]}


def trained(
    method: str = "dpo", looks: tuple[dict[str, Any], ...] = (), kept_step: int | None = None
) -> dict[str, Any]:
    """The metrics of stage train."""
    lora = {"r": 64, "target_modules": "all-linear"}
    watch = {"n_samples": 7, "split": "validation", "remember": ["walk", "route"]}
    settings = {"method": method, "seed": 11, "patience": None, "lora": lora, method: OPTIONS[method], "watch": watch}
    return {
        "n_pairs": 4,
        "too_long": [],
        "settings": settings,
        "steps": 10,
        "last": {"loss": 0.6},
        "held_out": {"loss": 0.69} if method in ("dpo", "sft") else {},
        "watch": [*looks],
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
    parquet.write(table, folder / "evaluation/tour.parquet")
    evaluated = {split: compare(table.filter(pc.field("split") == split), TEMPLATE, seed=0) for split in SPLITS}
    metrics = {
        "evaluate": evaluated,
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
    }
    tokens = {"n_prompt_tokens": 10, "n_tokens": 20}
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
        **{"found": 0.9, "found_by_evaluations": 0.9 - gain, "found_by_seconds": 0.9 + gain, "seconds": 151.4},
    }
    for seed, gain in (("0", 0.02), ("1", 0.04))
}


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
    write_inputs(folder, rows("base", FAIR), rows("tuned", BETTER))
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


def test_trainers_stand_beside_each_other_with_their_intervals_and_verdicts(of_improved: tuple[Any, ...]) -> None:
    section = of_improved[0].partition('id="trainers"')[2]
    words = " ".join(re.sub("<[^>]*>", " ", section).split())
    more, less = "+0.030 ○ −0.097 to +0.157", "−0.030 ○ −0.157 to +0.097"
    assert "base 72.0 % 0.720 0.720 72.0 % dpo" in words
    assert f"dpo 2 75.0 % 0.750 0.750 75.0 % {more} {more} 151 0.900 {more} {less} grpo" in words
    assert "grpo 1 75.0 % 0.750 0.750 75.0 % +0.020 +0.020 151 0.900 +0.020 −0.020" in words


def test_comparisons_of_trainers_that_are_missing_are_named(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    (tmp_path / "metrics/trainers.json").unlink()
    with pytest.raises(UserError, match=r"trainers\.json is missing; `make trainers` makes it"):
        report(tmp_path)


def test_drawings_are_also_files_that_need_no_page(improved: Path, of_improved: tuple[Any, ...]) -> None:
    import xml.etree.ElementTree as xml

    files = sorted(file.name for file in (improved / "report/plots").iterdir())
    assert files == ["tour-distributions.svg", "tour-searches.svg", "tour-training.svg"]
    for file in files:
        text = (improved / "report/plots" / file).read_text()
        assert "var(" not in text and "currentColor" not in text
        assert xml.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"


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


def test_models_without_a_valid_program_get_a_report_with_dashes(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", [None] * 3), rows("tuned", [None] * 3))
    html, *_ = report(tmp_path)
    assert "None of its programs is valid" in html and "<td>–</td>" in html


def test_the_terminal_table_fits_110_columns(of_improved: tuple[Any, ...]) -> None:
    assert max(map(len, of_improved[1].splitlines())) <= 110


def test_each_trainer_has_its_words_and_its_curves() -> None:
    assert METHODS.keys() == LOGGED.keys() == TRAINERS.keys()


PANELS = ("loss", "accuracy", "margin of the rewards", "log-probability", "reward", "divergence from the start")


@pytest.mark.parametrize(
    ("method", "words", "panels"),
    [
        ("dpo", "Direct preference optimisation", PANELS[:4]),
        ("sft", "Supervised fine-tuning", ("loss",)),
        ("grpo", "Group relative policy optimisation", ("reward",)),  # at beta 0 nothing is diverged from
        ("rloo", "REINFORCE leave-one-out", ("reward", "divergence from the start")),
    ],
)
def test_the_page_names_the_method_and_draws_what_it_logged(
    tmp_path: Path, method: str, words: str, panels: tuple[str, ...]
) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    shutil.rmtree(tmp_path / "plots")
    write_training(tmp_path, trained(method))
    html, *_ = report(tmp_path)
    assert f"<p>{words}: " in html and "It took 10 steps." in html
    assert [title for title in PANELS if f">{title}</text>" in html] == [*panels]


def test_a_curve_that_the_method_must_have_logged_is_missed(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    write_training(tmp_path, trained("rloo"))
    (tmp_path / "plots/tour/plots/metrics/kl.tsv").unlink()
    with pytest.raises(UserError, match=r"kl\.tsv is missing; stage train makes it"):
        report(tmp_path)


def panels_of(draw: Callable[..., None], kind: tuple[Any, ...], curves: dict[str, Any], extra: Any) -> list[Any]:
    """matplotlib's axes after draw."""
    panels = filled(kind, curves)
    axes = list(Figure().subplots(1, len(panels), squeeze=False)[0])
    draw(axes, panels, curves, extra)
    return axes


def test_the_band_of_the_reward_is_one_standard_deviation_wide() -> None:
    (axis,) = panels_of(training_panels, TRAINING, {key: CURVES[key] for key in ("reward", "reward_std")}, {})
    low, high = axis.collections[0].get_datalim(axis.transData).intervaly
    assert (low, high) == pytest.approx((0.3, 0.8))  # 0.4 - 0.1 at step 5 and 0.6 + 0.2 at step 10
    assert axis.lines[0].get_xydata().tolist() == [[5, 0.4], [10, 0.6]]


def test_held_out_values_stand_at_the_last_step_of_their_own_panel() -> None:
    curves = {key: CURVES[key] for key in LOGGED["dpo"]}
    loss, accuracy, *_ = panels_of(training_panels, TRAINING, curves, {"loss": 0.69})
    drawn = [line.get_xydata().tolist() for line in loss.lines]
    assert [[10, 0.69]] in drawn and len(drawn) == 2 and len(accuracy.lines) == 1


LOOKS = (look(0), look(25, mean=0.7), look(50, "validity fell: 1 to 0.5", mean=0.6))


def test_the_watch_is_drawn_from_step_0_and_its_kept_step_is_ringed() -> None:
    samples, quality, pairs, elsewhere = panels_of(probe_panels, PROBE, probe_series([*LOOKS]), 25)
    assert [line.get_xydata().tolist() for line in quality.lines] == [[[0, 0.5], [25, 0.7], [50, 0.6]], [[25, 0.7]]]
    for axis, n_lines in ((samples, 2), (pairs, 2), (elsewhere, 1)):
        *lines, ring = axis.lines
        assert len(lines) == n_lines and [line.get_xdata().tolist() for line in lines] == [[0, 25, 50]] * n_lines
        assert ring.get_xdata().tolist() == [25] * n_lines


def test_nothing_is_ringed_where_the_last_model_was_kept() -> None:
    for axis in panels_of(probe_panels, PROBE, probe_series([*LOOKS]), None):
        assert len(axis.lines[-1].get_xdata()) == 0


def test_a_panel_of_what_the_watch_did_not_measure_is_left_out() -> None:
    without_pairs = [{key: value for key, value in each.items() if key != "chosen"} for each in LOOKS]
    assert len(filled(PROBE, probe_series(without_pairs))) == 4  # rejected is left
    only = [{key: each[key] for key in ("step", "validity", "mean", "warnings")} for each in LOOKS]
    assert [panel.title for panel in filled(PROBE, probe_series(only))] == ["samples", "mean quality"]


def test_a_small_change_looks_small() -> None:
    # 0.2000 to 0.2005 nats a token: the axis spans 0.1 all the same
    curves = {"validity": [(0, 1.0), (5, 1.0)], "loss_elsewhere": [(0, 0.2), (5, 0.2005)]}
    low, high = panels_of(probe_panels, PROBE, curves, None)[1].get_ylim()
    assert high - low == pytest.approx(0.1) and low < 0.2 < high


def test_warnings_of_the_watch_are_said_once_a_kind_with_their_last_step(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    second = look(5, "validity fell: 1 to 0.9", "distinct behaviours fell: 0.9 to 0.6")
    write_training(tmp_path, trained(looks=(look(0), second, look(10, "validity fell: 1 to 0.8"))))
    assert warnings(tmp_path) == [
        "train: validity fell: 1 to 0.8 at step 10",
        "train: distinct behaviours fell: 0.9 to 0.6 at step 5",
    ]


@pytest.mark.parametrize("kept_step", [0, 25])
def test_a_roll_back_is_said(tmp_path: Path, kept_step: int) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    write_training(tmp_path, trained(looks=LOOKS, kept_step=kept_step))
    html, table, summary = report(tmp_path)
    assert f"warning: tour: train: rolled back to step {kept_step}\n" in table
    assert f"It took 10 steps, and was rolled back to step {kept_step}." in html
    assert f"Ringed: step {kept_step}, whose model was kept." in html and "7 programs, judged on validation" in html
    assert summary["tour"]["n_warnings"] == 2  # and the watch's own


def test_the_page_holds_every_setting_of_the_training(of_improved: tuple[Any, ...]) -> None:
    folded = re.search(r"<details>.*?</details>", of_improved[0], re.DOTALL)
    assert folded is not None
    assert re.findall(r"<code>(.*?)</code>", folded[0]) == ["train", "trainers.dpo", "train.watch"]
    assert re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", folded[0]) == [
        ("method", "dpo"),
        ("seed", "11"),
        ("patience", "null"),
        ("lora", "r: 64, target_modules: all-linear"),
        ("learning_rate", "5e-06"),
        ("beta", "0.1"),
        ("loss_type", "sigmoid, sft"),
        ("n_samples", "7"),
        ("split", "validation"),
        ("remember", "walk, route"),
    ]


def test_a_training_too_short_to_log_a_step_and_not_watched_gets_a_report(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    shutil.rmtree(tmp_path / "plots")
    atomic.write_json(tmp_path / "metrics/train/tour.json", trained() | {"last": {}})
    html, *_ = report(tmp_path)
    assert "too short to log a step" in html and "The model was not probed during training" in html


def test_metrics_of_an_older_training_are_refused(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    atomic.write_json(tmp_path / "metrics/train/tour.json", {"n_pairs": 4, "too_long": [], "beta": 0.1, "steps": 5})
    with pytest.raises(UserError, match=r"train/tour\.json has no 'settings'; run stage train again"):
        report(tmp_path)


@pytest.mark.parametrize("text", ["", "step\tloss\n", "step\tother\n5\t0.7\n", "step\tloss\n5\n", "step\tloss\n5\t0."])
def test_a_curve_that_is_not_whole_is_refused(tmp_path: Path, text: str) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    (tmp_path / "plots/tour/plots/metrics/loss.tsv").write_text(text)
    with pytest.raises(UserError, match=r"loss\.tsv is not whole; run stage train again"):
        report(tmp_path)


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
        ("metrics/train/tour.json", "train"),
        ("plots/tour/plots/metrics/loss.tsv", "train"),
        ("plots/tour/plots/metrics/rewards/margins.tsv", "train"),
    ],
)
def test_a_missing_or_cut_file_gives_one_line(
    tmp_path: Path, file: str, stage: str, damage: Callable[[Path], None]
) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    damage(tmp_path / file)
    with pytest.raises(UserError) as mistake:
        report(tmp_path)
    assert file in str(mistake.value) and stage in str(mistake.value) and "\n" not in str(mistake.value)
    assert not (tmp_path / "report").exists()


def test_rounds_stand_in_the_page_and_a_refusal_is_a_warning(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    before, new = ({"mean": m, "validity": v, "distinct_behaviours": 0.9} for m, v in ((0.512, 1.0), (0.25, 0.43)))
    gate = {"base": before, "before": before, "tuned": new}
    passed = gate | {"round": 1, "is_accepted": True, "warnings": [], "tuned": before}
    refused = gate | {"round": 2, "is_accepted": False, "warnings": ["validity fell: validity 1 to 0.43"]}
    content = {"n_rounds": 4, "kept_round": 1, "gates": [passed, refused]}
    (tmp_path / "metrics/rounds/tour.json").write_text(json.dumps(content))
    html, table, _ = report(tmp_path)
    assert "warning: tour: rounds: round 2 refused: validity fell: validity 1 to 0.43\n" in table
    assert "4 rounds were asked for; the model of round 1" in html and "0.512" in html and "43.0 %" in html
