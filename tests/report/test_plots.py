"""The panels of the report's drawings."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from dartune.report.plots import PROBE, TRAINING, filled, probe_panel, share_panel, training_panel
from dartune.report.training import LOGGED, probe_series
from measured_task import CURVES, LOOKS


def panels_of(draw: Callable[..., None], kind: tuple[Any, ...], curves: dict[str, Any], extra: Any) -> list[Any]:
    """matplotlib's axes after draw."""
    panels = filled(kind, curves)
    axes = list(Figure().subplots(1, len(panels), squeeze=False)[0])
    for axis, panel in zip(axes, panels.values(), strict=True):
        draw(axis, panel, curves, extra)
    return axes


def test_a_distribution_begins_with_the_valid_and_ends_with_the_best() -> None:
    # of four samples one failed and two are as good as 0.5: 3/4 reach 0.5, 1/4 more than that, up to 0.75
    axis = Figure().subplots()
    share_panel(axis, {"base": np.array([0.5, 0.0, 0.75, 0.5]), "tuned": np.array([0.0, 0.0])})
    base, tuned, _ = axis.lines
    assert base.get_xydata().tolist() == [[0, 1], [0.5, 0.75], [0.5, 0.5], [0.75, 0.25], [0.75, 0]]
    assert base.get_drawstyle() == "steps-pre" and axis.get_xlim() == pytest.approx((0.49, 0.76))
    assert [line.get_label() for line in (base, tuned)] == ["base: 75.0 % valid", "tuned: 0.0 % valid"]


def test_the_band_of_the_reward_is_one_standard_deviation_wide() -> None:
    (axis,) = panels_of(training_panel, TRAINING, {key: CURVES[key] for key in ("reward", "reward_std")}, {})
    low, high = axis.collections[0].get_datalim(axis.transData).intervaly
    assert (low, high) == pytest.approx((0.3, 0.8))  # 0.4 - 0.1 at step 5 and 0.6 + 0.2 at step 10
    assert axis.lines[0].get_xydata().tolist() == [[5, 0.4], [10, 0.6]]


def test_held_out_values_are_drawn_at_the_last_step_of_their_panel() -> None:
    curves = {key: CURVES[key] for key in LOGGED["dpo"]}
    loss, accuracy, *_ = panels_of(training_panel, TRAINING, curves, {"loss": 0.69})
    drawn = [line.get_xydata().tolist() for line in loss.lines]
    assert [[10, 0.69]] in drawn and len(drawn) == 2 and len(accuracy.lines) == 1


def test_probes_are_drawn_from_step_0_and_the_kept_step_is_ringed() -> None:
    samples, quality, pairs, elsewhere = panels_of(probe_panel, PROBE, probe_series([*LOOKS]), 25)
    assert [line.get_xydata().tolist() for line in quality.lines] == [[[0, 0.5], [25, 0.7], [50, 0.6]], [[25, 0.7]]]
    for axis, n_lines in ((samples, 2), (pairs, 2), (elsewhere, 1)):
        steps = [line.get_xdata().tolist() for line in axis.lines]
        assert steps == [[0, 25, 50]] * n_lines + [[25]] * n_lines


def test_nothing_is_ringed_where_the_last_model_was_kept() -> None:
    for axis in panels_of(probe_panel, PROBE, probe_series([*LOOKS]), None):
        assert all(len(line.get_xdata()) > 1 for line in axis.lines)


def test_a_panel_of_what_the_probes_did_not_measure_is_left_out() -> None:
    without_pairs = [{key: value for key, value in look.items() if key != "chosen"} for look in LOOKS]
    assert len(filled(PROBE, probe_series(without_pairs))) == 4  # rejected is left
    only = [{key: look[key] for key in ("step", "validity", "mean", "warnings")} for look in LOOKS]
    assert list(filled(PROBE, probe_series(only))) == ["samples", "mean quality"]


def test_a_small_change_looks_small() -> None:
    # 0.2000 to 0.2005 nats a token: the axis spans 0.1 all the same
    curves = {"validity": [(0, 1.0), (5, 1.0)], "loss_elsewhere": [(0, 0.2), (5, 0.2005)]}
    low, high = panels_of(probe_panel, PROBE, curves, None)[1].get_ylim()
    assert high - low == pytest.approx(0.1) and low < 0.2 < high
