"""Drawings of the report, as SVG. The same numbers give the same bytes.

Inside the page, `inline` replaces the colours by the page's CSS variables, which follow its light or dark colours.
"""

import re
from collections.abc import Callable, Mapping
from io import StringIO
from typing import Any, NamedTuple

import numpy as np

from dartune.evaluation.statistics import best_of, best_weights, t_interval

INK, FAINT = "#101010", "#a0a0a0"
BASE, TUNED, CHOSEN, REJECTED = "#0072b2", "#d55e00", "#009e73", "#aa4499"  # distinct for colour-blind readers too
PAINT = {
    INK: "currentColor",
    FAINT: "var(--faint)",
    BASE: "var(--base)",
    TUNED: "var(--tuned)",
    CHOSEN: "var(--chosen)",
    REJECTED: "var(--rejected)",
}
MODEL_COLOURS = {"base": BASE, "tuned": TUNED}
SEARCH_COLOURS = {"independent": INK, "climb": CHOSEN, "eoh": BASE, "funsearch": TUNED, **MODEL_COLOURS}
STEP_COLOURS = {"chosen": CHOSEN, "rejected": REJECTED}  # by label; the other lines over steps are INK
REFERENCE = {"color": FAINT, "linewidth": 1, "linestyle": (0, (4, 3))}  # the line at the reference's quality, 1
N_BANDS = 500  # bootstrap samples of a band
Qualities = dict[str, np.ndarray]  # by model, (n,)
Curves = dict[str, list[tuple[float, float]]]  # (step, value) by name


class Panel(NamedTuple):
    """A plot of curves over steps. lines: label by curve. least: smallest span of the y axis."""

    title: str
    unit: str
    lines: dict[str, str]
    least: float = 0.0


TRAINING = (
    Panel("loss", "nats", {"loss": "loss"}),
    Panel("accuracy", "share of pairs", {"rewards/accuracies": "accuracy"}),
    Panel("margin of the rewards", "nats × beta", {"rewards/margins": "margin"}),
    Panel("log-probability", "nats per program", {"logps/chosen": "chosen", "logps/rejected": "rejected"}),
    Panel("reward", "quality, failures below 0", {"reward": "reward"}),
    Panel("divergence from the start", "nats per token", {"kl": "divergence"}),
)
SHARES = {
    "validity": "valid",
    "distinct_behaviours": "distinct behaviours",
    "equal_to_template": "equal to the template",
}
PROBE = (  # least: about the change that matters, so that noise does not look like a fall
    Panel("samples", "share", SHARES),
    Panel("mean quality", "quality", {"mean": "mean"}, least=0.1),
    Panel("held-out pairs", "log-probability, nats", {"chosen": "chosen", "rejected": "rejected"}, least=2),
    Panel("other tasks' programs", "loss, nats per token", {"loss_elsewhere": "loss"}, least=0.1),
)


WIDTH = 10.8  # inches, of the page


def drawing(
    label: str,
    draw: Callable[..., None],
    panels: Mapping[str, Any],
    *more: Any,
    ylabel: str = "",
    size: tuple[float, float] | None = None,
    margins: tuple[float, float] = (0.65, 0.5),
) -> str:
    """Return the SVG of a row of panels, each filled by draw(axis, content, *more).

    label: for screen readers; unique on the page, since ids derive from it. panels: contents by title. ylabel: of the
    first panel. size: width and height in inches, by default that of a line of the page. margins: left and bottom, in
    inches, for the names on the axes.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", style_settings(label)]):  # not the user's matplotlibrc
        width, height = size or (WIDTH if len(panels) > 1 else 6.0, 2.7)
        figure = Figure(figsize=(width, height))
        left, bottom = margins
        edges = {"left": left / width, "right": 1 - 0.1 / width, "bottom": bottom / height, "top": 1 - 0.25 / height}
        axes = figure.subplots(1, len(panels), squeeze=False, gridspec_kw=edges | {"wspace": 0.08 * len(panels)})[0]
        axes[0].set_ylabel(ylabel)
        for axis, (title, content) in zip(axes, panels.items(), strict=True):
            axis.set_title(title)
            draw(axis, content, *more)
        stream = StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=no_metadata)
    svg = stream.getvalue()
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg[svg.index("<svg") :])  # without prolog and unused ids
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}" style="background: white"', 1)


def style_settings(label: str) -> dict[str, Any]:
    """Return matplotlib's rcParams for a drawing."""
    inks = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor")
    return {
        **dict.fromkeys(inks, INK),
        **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), FAINT),
        "svg.hashsalt": label,
        "svg.fonttype": "none",  # text in the page's own font
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.linewidth": 0.4,
        "lines.linewidth": 1.6,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
    }


def inline(svg: str) -> str:
    """Return a drawing in the page's colours."""
    for colour, variable in PAINT.items():
        svg = svg.replace(colour, variable)
    return svg


def share_panel(axis: Any, qualities: Qualities) -> None:
    """Draw the share of samples that reach a quality. Its left end is the share of valid samples; the rest failed."""
    for model, colour in MODEL_COLOURS.items():
        label = f"{model}: {100 * (qualities[model] > 0).mean():.1f} % valid"
        axis.ecdf(qualities[model], complementary=True, color=colour, label=label)
    valid = np.concatenate([q[q > 0] for q in qualities.values()])
    low, high = (valid.min(), valid.max()) if len(valid) else (0.0, 1.0)
    margin = max(0.04 * (high - low), 0.01)
    axis.set(xlabel="quality x (1 = reference)", xlim=(low - margin, high + margin), ylim=(0, 1.03))
    axis.yaxis.set_major_formatter("{x:.0%}")
    axis.axvline(1, **REFERENCE)
    axis.legend(loc="best")


def best_panel(axis: Any, qualities: Qualities) -> None:
    """Draw the expected best quality of k samples for k = 1 .. n, in 95 % bootstrap bands."""
    generator = np.random.default_rng(0)
    for model, colour in MODEL_COLOURS.items():
        sample = qualities[model]
        ks = sorted({int(k) for k in np.geomspace(1, len(sample), 25).round()})
        resampled = np.sort(sample[generator.integers(0, len(sample), (N_BANDS, len(sample)))], axis=-1)
        bests = resampled @ np.stack([best_weights(k, len(sample)) for k in ks], axis=-1)
        low, high = np.quantile(bests, (0.025, 0.975), axis=0)
        axis.fill_between(ks, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.plot(ks, [float(best_of(k, sample)) for k in ks], color=colour, label=model)
    axis.set(xlabel="k, samples drawn", xscale="log", ylim=axis.get_ylim())
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.minorticks_off()
    axis.axhline(1, **REFERENCE)
    axis.legend(loc="lower right")


def instance_panel(axis: Any, objectives: Qualities) -> None:
    """Draw a point for each instance: the objective of the base model's ten best programs (x) and of the tuned one's.

    objectives: means over the ten programs, (instances,) by model. On the dashed line both are equal.
    """
    base, tuned = objectives["base"], objectives["tuned"]
    axis.plot(base, tuned, "o", color=INK, markersize=4, alpha=0.6)
    ends = [min(base.min(), tuned.min()), max(base.max(), tuned.max())]
    axis.plot(ends, ends, **REFERENCE)
    axis.set(xlabel="base")


def gain_panel(axis: Any, gains: dict[str, list[float]]) -> None:
    """Draw the mean gain of each arm with its 95 % t interval, and a faint dot for each seed. gains: by arm."""
    for place, (arm, values) in enumerate(gains.items()):
        interval = t_interval(values)
        axis.plot(values, [place] * len(values), "o", color=FAINT, markersize=3)
        if interval["low"] is not None:
            axis.plot([interval["low"], interval["high"]], [place, place], color=INK)
        axis.plot(interval["estimate"], place, "o", color=TUNED)
        axis.text(0, place - 0.2, arm, transform=axis.get_yaxis_transform(), fontsize=7.5)
    axis.set(yticks=[], ylim=(len(gains) - 0.5, -0.9))
    axis.axvline(0, **REFERENCE)
    axis.grid(axis="x")
    axis.locator_params(axis="x", nbins=4)


def search_panel(axis: Any, qualities: Qualities, curves: dict[str, Qualities]) -> None:
    """Draw the held-out quality of the best so far: mean over seeds, in a band from the worst seed to the best.

    qualities: (seeds, evaluations) by model or search method. curves: those of all panels, which share one scale.
    """
    for label, seeds in qualities.items():
        evaluations, colour = np.arange(seeds.shape[1]) + 1, SEARCH_COLOURS[label]
        axis.fill_between(evaluations, seeds.min(axis=0), seeds.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axis.plot(evaluations, seeds.mean(axis=0), color=colour, label=label)
    everything = [seeds for of_panel in curves.values() for seeds in of_panel.values()]
    low, high = min(seeds[:, -1].min() for seeds in everything), max(seeds.max() for seeds in everything)
    margin = max(0.6 * (high - low), 0.02)  # the first programs, far below, are not what the eye should compare
    axis.set(xlabel="evaluations", ylim=(low - margin, high + 0.1 * margin))
    axis.axhline(1, **REFERENCE)
    axis.legend(loc="lower right")


def filled(panels: tuple[Panel, ...], curves: Curves) -> dict[str, Panel]:
    """Return the panels that have a line to show, by title."""
    return {panel.title: panel for panel in panels if panel.lines.keys() & curves.keys()}


def training_panel(axis: Any, panel: Panel, curves: Curves, held_out: dict[str, float]) -> None:
    """Draw what training logged. Open circles are held-out pairs; the band is one standard deviation of the reward."""
    for key, label in panel.lines.items():
        if key in curves and key in held_out:
            colour = STEP_COLOURS.get(label, INK)
            axis.plot(curves[key][-1][0], held_out[key], "o", color=colour, fillstyle="none", clip_on=False)
    if "reward" in panel.lines:
        (steps, values), (_, widths) = np.transpose(curves["reward"]), np.transpose(curves["reward_std"])
        axis.fill_between(steps, values - widths, values + widths, color=INK, alpha=0.15, linewidth=0)
    step_panel(axis, panel, curves)


def probe_panel(axis: Any, panel: Panel, curves: Curves, kept_step: int | None) -> None:
    """Draw what the probes measured. A ring marks the step that training was rolled back to."""
    step_panel(axis, panel, curves)
    for step, value in [point for key in panel.lines for point in curves.get(key, []) if point[0] == kept_step]:
        axis.plot(step, value, "o", color=TUNED, fillstyle="none", markersize=10, clip_on=False)
    if panel.unit == "share":
        axis.set_ylim(0, 1.03)


def step_panel(axis: Any, panel: Panel, curves: Curves) -> None:
    """Draw the panel's lines over the steps, with a legend where there are several."""
    lines = {key: label for key, label in panel.lines.items() if key in curves}
    for (key, label), linestyle in zip(lines.items(), ("-", "--", ":"), strict=False):
        points, colour = np.array(curves[key]), STEP_COLOURS.get(label, INK)
        axis.plot(*points.T, color=colour, linestyle=linestyle, label=label, marker="." if len(points) < 30 else "")
    axis.set(xlabel="step", ylabel=panel.unit)
    axis.locator_params(axis="x", integer=True)
    axis.ticklabel_format(axis="y", style="plain", useOffset=False)  # an offset would cover the title
    axis.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10])
    low, high = axis.get_ylim()
    margin = max(panel.least - (high - low), 0) / 2
    axis.set_ylim(low - margin, high + margin)
    if len(lines) > 1:
        axis.legend(loc="best")
