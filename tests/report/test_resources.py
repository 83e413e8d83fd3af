"""What the stages took, as the resources page shows it."""

import json
from pathlib import Path
from typing import Any

from dartune.report.resources import resources_page, stage_rows, stage_uses


def put(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def test_there_is_a_row_for_each_stage_that_ran_in_their_order(tmp_path: Path) -> None:
    taken = {"seconds": 1.5, "cpu_seconds": 2.5, "peak_mib": 100}
    for stage in ("score", "train", "pool"):
        put(tmp_path / f"resources/{stage}/t.json", taken)
    put(tmp_path / "pool/t.json", {"n_programs": 60, "n_prompt_tokens": 7, "n_tokens": 8, "money": 0.5})
    put(tmp_path / "score/t.json", {"n_programs": 60, "validity": 0.9})
    put(tmp_path / "resources/sample/other.json", taken)
    nothing = dict.fromkeys(("evaluations", "n_prompt_tokens", "n_tokens", "money"))
    assert stage_rows("t", tmp_path) == [
        {"stage": "pool", **nothing, **taken, "n_prompt_tokens": 7, "n_tokens": 8, "money": 0.5},
        {"stage": "score", **nothing, **taken, "evaluations": 60},
        {"stage": "train", **nothing, **taken},
    ]
    assert stage_rows("nobody", tmp_path) == []


def test_searches_at_equal_seconds_are_shown_only_if_run_here(tmp_path: Path) -> None:
    taken = {"seconds": 1.5, "cpu_seconds": 2.5, "peak_mib": 100}
    put(tmp_path / "resources/score/t.json", taken)
    assert "at equal seconds" not in resources_page(["t"], tmp_path)
    best = {"evaluations": 7.0, "top_1": 0.625}
    race = {"seconds": 9.5, "base": best, "tuned": best, "difference": {"estimate": 0.25, "low": None, "high": None}}
    put(tmp_path / "resources/search/t.json", taken | {"at_equal_seconds": {"eoh": race}})
    page = resources_page(["t"], tmp_path)
    assert "at equal seconds" in page and "<td>eoh</td><td>9.5</td><td>7</td>" in page and "+0.250" in page


def test_evaluations_count_on_every_split_and_tokens_once() -> None:
    # each completion is written once and judged on every split
    split = {
        model: {"n_samples": 20, "n_prompt_tokens": 100, "n_tokens": n} for model, n in (("base", 30), ("tuned", 40))
    }
    both = {"test": split, "shifted_20": split}
    assert stage_uses("evaluate", both) == {"evaluations": 80, "n_prompt_tokens": 100, "n_tokens": 40}
    assert stage_uses("baseline", both) == {"n_prompt_tokens": 100, "n_tokens": 30}


def test_a_search_uses_what_both_models_and_all_seeds_use() -> None:
    # eoh: 2 models, 3 seeds, 10 evaluations; sample: 2, 1, 5. Tokens are means over seeds
    def of(n: float) -> dict[str, float]:
        return {"n_prompt_tokens": 10 * n, "n_tokens": n}

    eoh = {"n_seeds": 3, "n_evaluations": 10, "base": of(100.333333), "tuned": of(50.0)}
    sample = {"n_seeds": 1, "n_evaluations": 5, "base": of(7.0), "tuned": of(8.0)}
    uses = stage_uses("search", {"eoh": eoh, "independent": sample})
    assert uses == {"evaluations": 70, "n_prompt_tokens": 4660, "n_tokens": 466}  # 301 + 150 + 7 + 8 = 466


def test_a_stage_that_asks_no_model_uses_nothing() -> None:
    assert stage_uses("sample", {"n_pairs": 3}) == stage_uses("train", {}) == {}
