"""Drawings of the report, as SVG inside a page of HTML. The same numbers give the same bytes.

Colours are CSS variables of the page, so that a drawing follows its light or dark colours.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np

from dartune.evaluation.statistics import best_of

INK, FAINT = "#101010", "#a0a0a0"
BASE, TUNED, CHOSEN, REJECTED = "#0072b2", "#d55e00", "#009e73", "#aa4499"  # distinct for colour-blind readers too
PAPER = "#ffffff"
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
MAX_POINTS = 400  # per line: more cannot be seen, and make a large page
Qualities = dict[str, np.ndarray]  # by model, (n,)
Curves = dict[str, list[tuple[float, float]]]  # (step, value) by name


@dataclass(frozen=True)
class Panel:
    """A plot of curves over steps. lines: label, colour and style by curve. least: smallest span of the y axis."""

    title: str
    unit: str
    lines: dict[str, tuple[str, str, str]]
    least: float = 0.0


TRAINING = (
    Panel("loss", "nats", {"loss": ("loss", INK, "-")}),
    Panel("accuracy", "share of pairs", {"rewards/accuracies": ("accuracy", INK, "-")}),
    Panel("margin of the rewards", "nats × beta", {"rewards/margins": ("margin", INK, "-")}),
    Panel(
        "log-probability",
        "nats per program",
        {"logps/chosen": ("chosen", CHOSEN, "-"), "logps/rejected": ("rejected", REJECTED, "-")},
    ),
    Panel("reward", "quality, failures below 0", {"reward": ("reward", INK, "-")}),
    Panel("divergence from the start", "nats per token", {"kl": ("divergence", INK, "-")}),
)
SPREADS = {"reward": "reward_std"}  # standard deviations, by the curve that they are drawn around
PROBE = (  # least: about the change that matters, so that noise does not look like a fall
    Panel(
        "samples",
        "share",
        {
            "validity": ("valid", INK, "-"),
            "distinct_behaviours": ("distinct behaviours", INK, "--"),
            "equal_to_template": ("equal to the template", INK, ":"),
        },
    ),
    Panel("mean quality", "quality", {"mean": ("mean", INK, "-")}, least=0.1),
    Panel(
        "held-out pairs",
        "log-probability, nats",
        {"chosen": ("chosen", CHOSEN, "-"), "rejected": ("rejected", REJECTED, "-")},
        least=2,
    ),
    Panel("other tasks' programs", "loss, nats per token", {"loss_elsewhere": ("loss", INK, "-")}, least=0.1),
)


def distributions(name: str, splits: dict[str, Qualities]) -> str:
    """Return the share of samples that reach a quality, one panel a split. Valid samples only: the rest failed."""
    return drawing(name, "Distribution of quality", len(splits), lambda axes: share_panels(axes, splits))


def best_of_curves(name: str, splits: dict[str, Qualities]) -> str:
    """Return the expected best quality of k samples for k = 1 .. n, one panel a split."""
    return drawing(name, "Best of k samples", len(splits), lambda axes: best_panels(axes, splits))


def training_curves(name: str, curves: Curves, held_out: dict[str, float]) -> str:
    """Return the curves that training logged. Open circles are held-out pairs; bands are one standard deviation."""
    panels = filled(TRAINING, curves)
    return drawing(name, "Training curves", len(panels), lambda axes: training_panels(axes, panels, curves, held_out))


def probe_curves(name: str, curves: Curves, kept_step: int | None) -> str:
    """Return the probes' measurements over the steps. A ring marks the step that training was rolled back to."""
    panels = filled(PROBE, curves)
    return drawing(name, "Probes", len(panels), lambda axes: probe_panels(axes, panels, curves, kept_step))


def search_curves(name: str, curves: dict[str, Qualities]) -> str:
    """Return the held-out quality of the best so far: mean over seeds, in a band from the worst seed to the best.

    curves: (seeds, evaluations) by panel, then by model or search method.
    """
    return drawing(name, "Searches", len(curves), lambda axes: search_panels(axes, curves))


def drawing(name: str, label: str, n_columns: int, draw: Callable[[Any], None]) -> str:
    """Return the SVG of a row of panels, which `draw` fills. name: unique on the page, since ids derive from it."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", style_settings(name)]):  # not the user's matplotlibrc
        width, height = 10.8 if n_columns > 1 else 6.0, 2.7  # inches; as wide as the page
        figure = Figure(figsize=(width, height))
        edges = {"left": 0.65 / width, "right": 1 - 0.1 / width, "bottom": 0.5 / height, "top": 1 - 0.25 / height}
        axes = figure.subplots(1, n_columns, squeeze=False, gridspec_kw=edges | {"wspace": 0.08 * n_columns})
        draw(axes[0])
        stream = StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=no_metadata)
    return inline(stream.getvalue(), label)


def style_settings(name: str) -> dict[str, Any]:
    """Return matplotlib's rcParams for a drawing."""
    inks = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor")
    return {
        **dict.fromkeys(inks, INK),
        **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), FAINT),
        "svg.hashsalt": name,
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


def inline(svg: str, label: str) -> str:
    """Return the <svg> element without prolog and unused ids, in the page's colours. label: for screen readers."""
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg[svg.index("<svg") :])
    for colour, variable in PAINT.items():
        svg = svg.replace(colour, variable)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def standalone(svg: str) -> str:
    """Return an inline drawing as the content of a file: on white paper, in the page's light colours."""
    for colour, variable in PAINT.items():
        svg = svg.replace(variable, colour)
    return svg.replace("<svg", f'<svg style="background: {PAPER}; font-family: sans-serif"', 1)


def share_panels(axes: Any, splits: dict[str, Qualities]) -> None:
    """Draw `distributions`."""
    for axis, (split, qualities) in zip(axes, splits.items(), strict=True):
        low, high = limits(qualities)
        for model, colour in MODEL_COLOURS.items():
            x, y = share_at_least(qualities[model], low)
            label = f"{model}: {100 * (qualities[model] > 0).mean():.1f} % valid"
            axis.step(x, 100 * y, where="pre", color=colour, label=label)
        axis.set(title=split, xlabel="quality x (1 = reference)", xlim=(low, high), ylim=(0, 103))
        reference_line(axis.axvline, high)
        axis.legend(loc="best")
    axes[0].set_ylabel("samples with quality ≥ x, %")


def limits(qualities: Qualities) -> tuple[float, float]:
    """Return the span of both models' valid qualities, with a margin; (0, 1) where nothing is valid."""
    valid = np.concatenate([q[q > 0] for q in qualities.values()])
    if not len(valid):
        return 0.0, 1.0
    margin = max(0.04 * float(np.ptp(valid)), 0.01)
    return float(valid.min()) - margin, float(valid.max()) + margin


def share_at_least(qualities: np.ndarray, left: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (x, share of all samples with quality >= x) at the valid qualities, from `left`; the share ends at 0."""
    valid = np.sort(qualities[qualities > 0])
    x = thin(np.unique(valid))
    share = (len(valid) - np.searchsorted(valid, x, side="left")) / len(qualities)
    last = x[-1] if len(x) else 1.0
    return np.array([left, *x, last]), np.array([len(valid) / len(qualities), *share, 0.0])


def thin(values: np.ndarray) -> np.ndarray:
    """Return at most MAX_POINTS of the values (or rows), the first and the last among them."""
    places = np.unique(np.linspace(0, len(values) - 1, min(len(values), MAX_POINTS)).round().astype(int))
    return values[places] if len(values) else values


def reference_line(line: Callable[..., Any], high: float) -> None:
    """Draw the reference's quality, 1, unless the axis ends far below it. line: axhline or axvline."""
    if high >= 0.97:
        line(1, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))


def best_panels(axes: Any, splits: dict[str, Qualities]) -> None:
    """Draw `best_of_curves`."""
    for axis, (split, qualities) in zip(axes, splits.items(), strict=True):
        for model, colour in MODEL_COLOURS.items():
            n = len(qualities[model])
            ks = sorted({int(k) for k in np.geomspace(1, n, 25).round()})
            axis.plot(ks, [float(best_of(k, qualities[model])) for k in ks], color=colour, label=model)
        axis.set(title=split, xlabel="k, samples drawn", xscale="log")
        axis.xaxis.set_major_formatter("{x:.0f}")
        axis.minorticks_off()
        reference_line(axis.axhline, axis.get_ylim()[1])
        axis.legend(loc="lower right")
    axes[0].set_ylabel("expected best quality of k")


def search_panels(axes: Any, curves: dict[str, Qualities]) -> None:
    """Draw `search_curves`."""
    low = min(float(q[:, -1].min()) for qualities in curves.values() for q in qualities.values())
    high = max(float(q.max()) for qualities in curves.values() for q in qualities.values())
    for axis, (title, qualities) in zip(axes, curves.items(), strict=True):
        for label, values in qualities.items():
            points, colour = thin(np.arange(values.shape[1])), SEARCH_COLOURS[label]
            seeds = values[:, points]
            axis.fill_between(points + 1, seeds.min(axis=0), seeds.max(axis=0), color=colour, alpha=0.15, linewidth=0)
            axis.plot(points + 1, seeds.mean(axis=0), color=colour, label=label)
        margin = max(0.6 * (high - low), 0.02)  # the first programs, far below, are not what the eye should compare
        axis.set(title=title, xlabel="evaluations", ylim=(low - margin, high + 0.1 * margin))
        reference_line(axis.axhline, high)
    axes[0].legend(loc="lower right")
    axes[0].set_ylabel("quality of the best so far")


def filled(panels: tuple[Panel, ...], curves: Curves) -> list[Panel]:
    """Return the panels that have a line to show."""
    return [panel for panel in panels if panel.lines.keys() & curves.keys()]


def training_panels(axes: Any, panels: list[Panel], curves: Curves, held_out: dict[str, float]) -> None:
    """Draw `training_curves`."""
    for axis, panel in zip(axes, panels, strict=True):
        for key, (_, colour, _) in panel.lines.items():
            if SPREADS.get(key) in curves:
                band(axis, curves[key], curves[SPREADS[key]], colour)
            if key in curves and key in held_out:
                axis.plot(curves[key][-1][0], held_out[key], "o", color=colour, fillstyle="none", clip_on=False)
        step_panel(axis, panel, curves)


def probe_panels(axes: Any, panels: list[Panel], curves: Curves, kept_step: int | None) -> None:
    """Draw `probe_curves`."""
    for axis, panel in zip(axes, panels, strict=True):
        step_panel(axis, panel, curves)
        rings = [point for key in panel.lines for point in curves.get(key, []) if point[0] == kept_step]
        axis.plot(*np.reshape(rings, (-1, 2)).T, "o", color=TUNED, fillstyle="none", markersize=10, clip_on=False)
    axes[0].set_ylim(0, 1.03)  # shares; validity is always measured


def step_panel(axis: Any, panel: Panel, curves: Curves) -> None:
    """Draw the panel's lines over the steps, with a legend where there are several."""
    lines = {key: line for key, line in panel.lines.items() if key in curves}
    for key, (label, colour, line) in lines.items():
        points = thin(np.array(curves[key]))
        axis.plot(*points.T, color=colour, linestyle=line, label=label, marker="." if len(points) < 30 else "")
    axis.set(title=panel.title, xlabel="step", ylabel=panel.unit)
    axis.locator_params(axis="x", integer=True)
    axis.ticklabel_format(axis="y", style="plain", useOffset=False)  # an offset would cover the title
    axis.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10])
    low, high = axis.get_ylim()
    margin = max(panel.least - (high - low), 0) / 2
    axis.set_ylim(low - margin, high + margin)
    if len(lines) > 1:
        axis.legend(loc="best")


def band(axis: Any, curve: list[tuple[float, float]], spread: list[tuple[float, float]], colour: str) -> None:
    """Shade one standard deviation on both sides of a curve, at the steps where it was logged."""
    deviations = dict(spread)
    points = np.array([(step, value, deviations[step]) for step, value in curve if step in deviations])
    steps, values, widths = thin(points).T
    axis.fill_between(steps, values - widths, values + widths, color=colour, alpha=0.15, linewidth=0)
