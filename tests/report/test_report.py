"""The report: what it says of numbers that are known, and that it holds whatever a model wrote."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from dartune.errors import UserError
from dartune.files import atomic
from dartune.report.summary import PLOTS
from dartune.report.training import LOGGED, METHODS
from dartune.training.trainers import TRAINERS
from measured_task import BETTER, FAIR, LOOKS, SPLITS, report, rows, trained, write_inputs, write_training


@pytest.fixture(scope="module")
def improved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("improved")
    write_inputs(folder, rows("base", FAIR), rows("tuned", BETTER))
    return folder


@pytest.fixture(scope="module")
def of_improved(improved: Path) -> tuple[str, str, dict[str, Any]]:
    return report(improved)


def test_a_clear_improvement_is_marked_better_and_raises_no_warning(of_improved: tuple[Any, ...]) -> None:
    html, table, summary = of_improved
    assert html.count("▲ better") > 10 and " better\n" in table
    assert 'title="▼ worse"' not in html
    assert "No warnings" in html and table.endswith("no warnings\n")
    assert summary["tour"]["n_warnings"] == 0


def test_the_page_needs_nothing_from_outside(of_improved: tuple[Any, ...]) -> None:
    html = of_improved[0].replace('<link rel="stylesheet" href="run.css">', "")  # beside it, and it does without
    assert not re.search(r"<(script|link|iframe|img|object)\b|@import|url\((?!#)", html)
    assert all(target.startswith("#") for target in re.findall(r"\b(?:src|href)=\"([^\"]*)\"", html))


def test_the_page_compares_trainers_with_intervals_and_significance(of_improved: tuple[Any, ...]) -> None:
    section = of_improved[0].partition('id="trainers"')[2]
    words = " ".join(re.sub("<[^>]*>", " ", section).split())
    more, less = "+0.030 ○ −0.097 to +0.157", "−0.030 ○ −0.157 to +0.097"
    assert "base 72.0 % 0.720 0.720 72.0 % dpo" in words
    assert f"dpo 2 75.0 % 0.750 0.750 75.0 % {more} {more} 151 0.900 {more} {less} grpo" in words
    assert "grpo 1 75.0 % 0.750 0.750 75.0 % +0.020 +0.020 151 0.900 +0.020 −0.020" in words


def test_a_missing_comparison_of_trainers_is_named(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    (tmp_path / "metrics/trainers.json").unlink()
    with pytest.raises(UserError, match=r"trainers\.json is missing; `make trainers` makes it"):
        report(tmp_path)


def test_drawings_are_also_files_that_need_no_page(improved: Path, of_improved: tuple[Any, ...]) -> None:
    import xml.etree.ElementTree as xml

    files = sorted(file.name for file in (improved / "report/plots").glob("*.svg"))
    assert files == ["tour-distributions.svg", "tour-searches.svg", "tour-training.svg"]
    for file in files:
        text = (improved / "report/plots" / file).read_text()
        assert "var(" not in text and "currentColor" not in text and "background: white" in text
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
    summary = of_improved[2]["tour"]
    for split in SPLITS:
        for name in ("validity", "mean", "top_10"):
            for model in ("base", "tuned"):
                assert summary[split][name][model] == round(measured[split][model][name], 3)
        interval = measured[split]["difference"]["mean"]
        assert summary[split]["mean_difference"] == {name: round(value, 3) for name, value in interval.items()}
    assert list(summary) == [*SPLITS, "search_difference", "n_warnings"]


def test_the_tables_of_dvcs_plots_hold_both_models(improved: Path, of_improved: tuple[Any, ...]) -> None:
    tables = {}
    for name in PLOTS:
        with (improved / f"tables/{name}.csv").open() as stream:
            tables[name] = list(csv.DictReader(stream))
    assert {row["line"] for row in tables["best_of_k"]} == {"base", "tuned"}
    assert {row["line"] for row in tables["training"]} == {"chosen", "rejected"}
    last = {row["line"]: float(row["y"]) for row in tables["best_of_k"]}
    judged = pq.read_table(improved / "evaluation/tour.parquet", filters=[("split", "=", "test")]).to_pylist()
    best = {model: max(row["quality"] for row in judged if row["model"] == model) for model in ("base", "tuned")}
    assert last == pytest.approx(best, abs=1e-3)


def test_the_page_shows_the_numbers_of_evaluate(improved: Path, of_improved: tuple[Any, ...]) -> None:
    mean = json.loads((improved / "metrics/evaluate/tour.json").read_text())["test"]["difference"]["mean"]
    html, table, _ = of_improved
    assert f"{mean['low']:+.3f} to {mean['high']:+.3f}" in html
    assert f"{mean['estimate']:+.3f} [{mean['low']:+.3f}, {mean['high']:+.3f}] better" in table


def test_an_unclear_interval_is_marked_and_raises_a_warning(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", FAIR[::-1]))
    html, table, summary = report(tmp_path)
    assert 'title="○ unclear"' in html and "unclear" in table and summary["tour"]["n_warnings"] == 1
    assert "warning: tour: change of mean quality is not clear of 0 on test, shifted_20: " in table


def test_a_clear_fall_is_marked_worse(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", BETTER), rows("tuned", FAIR))
    html, table, _ = report(tmp_path)
    assert 'title="▼ worse"' in html and " worse\n" in table
    assert "warning: tour: mean quality clearly fell on test, shifted_20: " in table


def test_models_without_a_valid_program_get_a_report_with_dashes(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", [None] * 3), rows("tuned", [None] * 3))
    html, *_ = report(tmp_path)
    assert "None of its programs is valid" in html and "<td>–</td>" in html


def test_the_terminal_table_fits_110_columns(of_improved: tuple[Any, ...]) -> None:
    assert max(map(len, of_improved[1].splitlines())) <= 110


def test_every_trainer_has_a_description_and_curves() -> None:
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


@pytest.mark.parametrize("kept_step", [0, 25])
def test_a_rollback_is_on_the_page_and_among_the_warnings(tmp_path: Path, kept_step: int) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    write_training(tmp_path, trained(looks=LOOKS, kept_step=kept_step))
    html, table, summary = report(tmp_path)
    assert f"warning: tour: train: rolled back to step {kept_step}\n" in table
    assert f"It took 10 steps, and was rolled back to step {kept_step}." in html
    assert f"Ringed: step {kept_step}, whose model was kept." in html and "7 programs, judged on validation" in html
    assert summary["tour"]["n_warnings"] == 2  # and the probe's own


def test_the_page_holds_every_setting_of_the_training(of_improved: tuple[Any, ...]) -> None:
    shown = re.search(r"<details>.*?<pre>(.*?)</pre>", of_improved[0], re.DOTALL)
    assert shown is not None
    assert YAML(typ="safe").load(unescape(shown[1])) == trained()["settings"]


def test_a_training_without_curves_and_probes_gets_a_report(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    shutil.rmtree(tmp_path / "plots")
    atomic.write_json(tmp_path / "metrics/train/tour.json", trained() | {"last": {}})
    html, *_ = report(tmp_path)
    assert "too short to log a step" in html and "The model was not probed during training" in html


@pytest.mark.parametrize("text", ["step\tloss\n5\n", "step\tloss\n5\t0.7\n10\t"])
def test_a_curve_that_is_cut_is_refused(tmp_path: Path, text: str) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    (tmp_path / "plots/tour/plots/metrics/loss.tsv").write_text(text)
    with pytest.raises(UserError, match=r"loss\.tsv is cut .*; run stage train again"):
        report(tmp_path)


def test_best_programs_act_differently(tmp_path: Path) -> None:
    # the best score thrice, then the second best: two programs are shown
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", [-5.0, -5.0, -5.0, -6.0, -7.0]))
    html, *_ = report(tmp_path)
    cards = html.split('<div class="card">')[1:]
    # side by side: base 1, tuned 1, base 2, tuned 2; qualities 4 / 5 and 4 / 6
    assert len(cards) == 4 and "0.800" in cards[1] and "0.667" in cards[3]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


@pytest.mark.parametrize("damage", [Path.unlink, cut])
@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("metrics/score/tour.json", "score"),
        ("metrics/evaluate/tour.json", "evaluate"),
        ("evaluation/tour.parquet", "run the stage again"),
        ("search/tour.parquet", "run the stage again"),
        ("metrics/train/tour.json", "train"),
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


def test_the_page_has_the_rounds_and_a_refusal_is_a_warning(tmp_path: Path) -> None:
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


def test_the_curves_of_an_earlier_training_are_drawn_too(tmp_path: Path) -> None:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    write_training(tmp_path, trained("sft"))
    (tmp_path / "plots/tour").rename(tmp_path / "sft")
    write_training(tmp_path, trained("dpo") | {"earlier": [trained("sft")]})
    (tmp_path / "sft").rename(tmp_path / "plots/tour/sft")
    html, *_ = report(tmp_path)
    assert "trained by sft, then dpo" in html and "The training before, per batch." in html
    assert METHODS["sft"] in unescape(html) and METHODS["dpo"] in unescape(html)
