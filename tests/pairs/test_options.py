"""What a mixture and the options of its strategies may not be. Each is refused in one line, before anything runs."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from dartune import params
from dartune.errors import UserError
from dartune.pairs.sample import write_sample
from dartune.pairs.strategies import check_options, check_strategy, strategies
from scored_pools import OPTIONS, changed, pool, published

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_shares_that_do_not_add_up_to_1_are_refused() -> None:
    with pytest.raises(UserError, match=r"the shares add up to 0\.9; expected 1"):
        check_strategy({"dar": 0.5, "uniform": 0.4}, OPTIONS)
    assert check_strategy({"dar": 0.7, "uniform": 0.2, "top_k": 0.1}, OPTIONS)  # 0.9999999999999999


@pytest.mark.parametrize("share", [0.0, -0.5])
def test_a_share_that_is_not_above_0_is_refused(share: float) -> None:
    section = params.everything(ROOT / "params.yaml")["sample"]
    with pytest.raises(UserError, match=r"sample\.strategy"):
        params.check("sample", section | {"strategy": {"dar": share, "uniform": 1 - share}}, write_sample)


def test_a_strategy_that_is_no_file_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="there is no strategy 'dar_behavior'; did you mean 'dar_behaviour'"):
        check_strategy("dar_behavior", OPTIONS)
    with pytest.raises(UserError, match=r"there is no strategy '\.\./dar'"):
        check_strategy({"dar": 0.5, "../dar": 0.5}, OPTIONS)
    with pytest.raises(UserError, match="there is no strategy 'topk'; did you mean 'top_k'"):
        check_strategy("dar", OPTIONS | {"topk": {"top": 1}})


@pytest.mark.parametrize(
    ("strategy", "options", "words"),
    [
        ("dar", OPTIONS["dar"] | {"temperature": 1.0}, "options.dar.temperature is not a parameter"),
        ("dar", OPTIONS["dar"] | {"n_subset": 5}, "options.dar.n_subset is not a parameter; did you mean 'n_subsets'?"),
        ("dar", OPTIONS["dar"] | {"seed": 5}, "options.dar.seed is not a parameter"),
        ("shuffled", {"share": 0.5}, "options.shuffled.share is not a parameter"),
        (
            "dar",
            {"one_per": "text", "n_subsets": 10, "gap": 2},
            "options.dar.tau is missing; src/dartune/pairs/sql/dar.sql",
        ),
        ("top_k", {}, "options.top_k.one_per is missing"),
        (
            "dar",
            OPTIONS["dar"] | {"n_subsets": 2, "gap": 1},
            "expected whole(n_subsets) and n_subsets >= 3",
        ),
        ("dar", OPTIONS["dar"] | {"gap": 10}, "expected whole(gap) and gap >= 1 and gap < n_subsets"),
        ("dar", OPTIONS["dar"] | {"gap": 0}, "expected whole(gap) and gap >= 1 and gap < n_subsets"),
        ("dar", OPTIONS["dar"] | {"tau": 0}, "expected number(tau) and tau > 0; found {'tau': 0}"),
        ("dar", OPTIONS["dar"] | {"one_per": "program"}, "expected one_per in ('text', 'tree', 'shape', 'behaviour'"),
        ("dar", OPTIONS["dar"] | {"one_per": None}, "found {'one_per': None}"),
        ("dar", OPTIONS["dar"] | {"n_subsets": [3]}, "found {'n_subsets': [3]}"),
        ("dar", OPTIONS["dar"] | {"tau": "hot"}, "expected number(tau) and tau > 0; found {'tau': 'hot'}"),
        ("dar_behaviour", OPTIONS["dar_behaviour"] | {"cap": 0}, "expected whole(cap) and cap >= 1"),
        ("dar_behaviour", OPTIONS["dar_behaviour"] | {"spread": 0}, "expected whole(spread) and spread >= 1"),
        ("dar_behaviour", OPTIONS["dar_behaviour"] | {"min_gap": -0.1}, "expected number(min_gap) and min_gap >= 0"),
        ("dar_behaviour", OPTIONS["dar_behaviour"] | {"min_t": None}, "expected number(min_t) and min_t >= 0"),
        ("dar_authors_code", {"n_subsets": 3, "tau": 3.0}, "expected whole(n_subsets) and n_subsets >= 4"),
        ("top_k", {"one_per": "text", "top": 0}, "expected number(top) and top > 0"),
        ("evotune", OPTIONS["evotune"] | {"n_outputs": 1}, "expected whole(n_outputs) and n_outputs >= 2"),
        (
            "evotune",
            OPTIONS["evotune"] | {"percentile": 1},
            "expected number(percentile) and percentile >= 0 and percentile < 1",
        ),
        ("valid_invalid", {"share": 0}, "expected number(share) and share > 0 and share <= 1"),
        ("valid_invalid", {"share": 1.1}, "expected number(share) and share > 0 and share <= 1"),
    ],
)
def test_an_unknown_missing_or_invalid_option_is_refused_in_one_line(
    strategy: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=re.escape(words)) as refused:
        check_strategy(strategy, OPTIONS | {strategy: options})
    assert str(refused.value).startswith(f"sample.options.{strategy}") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("strategy", "key", "value"),
    [
        ("dar", "n_subsets", 10.5),
        ("dar", "n_subsets", "10"),
        ("dar", "gap", 1.5),
        ("dar", "gap", "2"),
        ("dar", "tau", True),
        ("dar_authors_code", "n_subsets", 4.5),
        ("dar_behaviour", "cap", 1.5),
        ("dar_behaviour", "spread", 1.5),
        ("top_k", "top", "5"),
        ("valid_invalid", "share", True),
    ],
)
def test_an_option_of_another_type_is_refused_in_one_line(tmp_path: Path, strategy: str, key: str, value: Any) -> None:
    file = pool(tmp_path, [float(i) for i in range(60)] + [None])
    with pytest.raises(UserError, match=f"(options|strategy).*{strategy}") as refused:
        published(tmp_path, file, strategy, 5, **{strategy: {key: value}})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("strategy", "key"),
    [("dar", "tau"), ("dar_behaviour", "min_gap"), ("dar_behaviour", "min_t"), ("top_k", "top")],
)
def test_an_option_that_is_no_number_is_refused_by_its_name(strategy: str, key: str) -> None:
    with pytest.raises(UserError, match=key):
        check_strategy(strategy, changed({strategy: {key: math.nan}}))


def test_what_a_strategy_starts_from_is_checked_too() -> None:
    with pytest.raises(UserError, match=r"sample\.options\.dar: expected number\(tau\) and tau > 0"):
        check_strategy("shuffled", changed({"dar": {"tau": -1.0}}))
    with pytest.raises(UserError, match=r"sample\.options\.dar\.gap is missing"):
        check_strategy("random_matched", {})


def test_every_option_of_params_yaml_is_accepted_and_none_is_missing() -> None:
    options = params.everything(ROOT / "params.yaml")["sample"]["options"]
    for name, given_options in options.items():
        check_options(name, given_options)
    for name in strategies():
        check_strategy(name, options)
