"""Figures of the study: functions from data to a matplotlib Figure; nothing is written.

A stage has one colour, line and marker everywhere (the palette of Okabe and Ito, for colour-blind readers; lines and
markers tell stages apart in greyscale). Rates are fractions in the data and per cent in the figures.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from zlib import crc32

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.metrics import NOT_MEASURABLE, ErrorCurve, Metric
from maskinv_lib.faces import SIZE, Faces

DPI = 110

MANY = 12
"""Stages beyond which a figure draws smaller."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a stage looks in every figure."""

    color: str
    line: str | tuple
    marker: str


STYLES = {
    "elasticface-arc": Style(color="#000000", line="-", marker="o"),
    "elasticface-arc-aug": Style(color="#E69F00", line="--", marker="s"),
    "kd-only": Style(color="#56B4E9", line=":", marker="^"),
    "maskinv-lg": Style(color="#009E73", line="-.", marker="D"),
    "maskinv-lambda3000": Style(color="#CC79A7", line=(0, (5, 1, 1, 1, 1, 1)), marker="v"),
    "maskinv-hg": Style(color="#0072B2", line=(0, (9, 2)), marker="P"),
    "teacher": Style(color="#D55E00", line=(0, (1, 3)), marker="*"),
    "finetune-clean": Style(color="#7F6F00", line=(0, (4, 1, 4, 3)), marker="X"),
}
"""The rungs of both ladders; any other stage gets a style that its name decides."""

GENUINE, IMPOSTOR = "#0072B2", "#D55E00"


def style_of(stage: str) -> Style:
    """Return a stage's style, the same in every figure; one that is no rung gets one that its name decides."""
    if stage in STYLES:
        return STYLES[stage]
    number = crc32(stage.encode())
    color = ("#6A3D9A", "#A65628", "#5A5A5A", "#8C2D62")[number % 4]
    return Style(color=color, line=("--", "-.", (0, (3, 2, 1, 2)))[number // 4 % 3], marker="XhdpH*"[number // 12 % 6])


def _apart(names: Iterable[str]) -> dict[str, Style]:
    """Return name -> style; a name that is no rung gives way to those before it, so that few lines look alike."""
    found: dict[str, Style] = {}
    for name in names:
        tries = [style_of(name)] if name in STYLES else [style_of(name + " " * turn) for turn in range(72)]
        alike = [sum((2 * (one.color == s.color) + (one.line == s.line)) ** 3 for s in found.values()) for one in tries]
        found[name] = tries[alike.index(min(alike))]
    return found


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the study's look, and let a notebook show the figure once: as the value of its cell."""

    @wraps(draw)
    def styled(*arguments: object, **settings: object) -> Figure:
        look = {**sns.axes_style("whitegrid"), **sns.plotting_context("notebook", font_scale=0.85)}
        with plt.rc_context({**look, "figure.dpi": DPI, "savefig.dpi": DPI, "axes.titlesize": 9.5}):
            figure = draw(*arguments, **settings)
        plt.close(figure)
        return figure

    return styled


def _panels(count: int, height: float, columns: int = 3, **settings: object) -> tuple[Figure, list[Axes]]:
    """Return a figure 9 inches wide and its panels; there must be at least one."""
    if count == 0:
        raise ValueError("There is nothing to draw: no panel was given.")
    columns = 2 if count == 4 else min(columns, count)
    rows = math.ceil(count / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(9 if count > 1 else 6.5, height * rows), layout="constrained", squeeze=False, **settings
    )
    for spare in axes.flat[count:]:
        spare.set_visible(False)
    return figure, list(axes.flat[:count])


def _legend(figure: Figure, *axes: Axes, note: str = "") -> None:
    """Put one legend for all panels below them, where it covers nothing, with a note above it."""
    found = {label: line for panel in axes for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    look = {"loc": "outside lower center", "ncols": min(3, len(found)), "frameon": False, "handlelength": 4}
    figure.legend(found.values(), found.keys(), title=note or None, title_fontsize=8.5, **look)


def _percent(value: float, _: object = None) -> str:
    return f"{100 * value:g}"


Stages = Mapping[str, ErrorCurve | Sequence[ErrorCurve]]
Curves = Mapping[str, Stages]
"""Panel title -> stage -> its error curve, or one per seed."""


def _fnmr(curve: ErrorCurve, fmr: np.ndarray) -> np.ndarray:
    """Return the FNMR at ``fmr`` [K] ascending, on straight lines over log FMR."""
    inside = curve.fmr > 0
    return np.interp(np.log(fmr), np.log(curve.fmr[inside][::-1]), curve.fnmr[inside][::-1])


def _draw_curves(axes: Axes, stages: Stages, low: float) -> None:
    for stage, found in stages.items():
        curves = [found] if isinstance(found, ErrorCurve) else list(found)
        style = style_of(stage)
        fmr = np.geomspace(max(low, 1 / curves[0].impostor), 1, 200)
        rates = np.array([_fnmr(curve, fmr) for curve in curves])  # [seeds, 200]
        look = {"color": style.color, "linestyle": style.line, "marker": style.marker}
        axes.plot(fmr, rates.mean(axis=0), label=stage, markevery=25, markersize=5, linewidth=1.7, **look)
        if len(curves) > 1 and len(stages) <= 2:
            axes.fill_between(fmr, rates.min(axis=0), rates.max(axis=0), color=style.color, alpha=0.15, linewidth=0)


def _unmeasurable(axes: Axes, x: float, height: float) -> None:
    """Write upright that nothing can be measured at ``x``; height: a share of the panel."""
    look = {"rotation": 90, "color": "0.35", "fontsize": 8, "ha": "center", "va": "center"}
    axes.text(x, height, NOT_MEASURABLE, transform=axes.get_xaxis_transform(), **look)


@_styled
def det_curves(panels: Curves, *, log_fnmr: bool = True) -> Figure:
    """Draw DET curves, FNMR against log FMR, a panel per condition.

    Of several seeds the mean is drawn, and with one or two stages the seeds' range is shaded. Grey area: FMR *
    impostors below 1, not measurable. log_fnmr: whether FNMR has a logarithmic axis too.
    """
    figure, axes = _panels(len(panels), 3.6, sharey=True)
    for panel, (title, stages) in zip(axes, panels.items(), strict=True):
        first = next(iter(stages.values()))
        first = first if isinstance(first, ErrorCurve) else first[0]
        genuine, impostor, low = first.genuine, first.impostor, 0.2 / first.impostor
        _draw_curves(panel, stages, low)
        panel.axvspan(low, 1 / impostor, color="0.85", zorder=0)
        _unmeasurable(panel, math.sqrt(low / impostor), 0.5)
        counts = f"{genuine:,} genuine, {impostor:,} impostor"
        panel.set(xscale="log", xlim=(low, 1), xlabel=f"FMR in % (log)\n{counts}", title=title)
        if log_fnmr:
            panel.set(yscale="log", ylim=(0.5 / genuine, 1.2))
            panel.yaxis.set_minor_formatter(NullFormatter())
        panel.xaxis.set_major_formatter(FuncFormatter(_percent))
        panel.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes[0].set_ylabel(f"FNMR in %{' (log)' if log_fnmr else ''}")
    _legend(figure, axes[0])
    return figure


@_styled
def score_distributions(panels: Mapping[str, Comparisons], thresholds: Mapping[str, float]) -> Figure:
    """Draw genuine and impostor scores, a panel per condition, with thresholds.

    thresholds: label -> score; the label says which data and condition the threshold comes from. One that is None
    (not measurable) is left out.
    """
    figure, axes = _panels(len(panels), 2.1, columns=1, sharex=True)
    scores = [comparisons.scores for comparisons in panels.values()]
    edges = np.linspace(min(s.min() for s in scores), max(s.max() for s in scores), 81)
    for panel, (title, comparisons) in zip(axes, panels.items(), strict=True):
        genuine = comparisons.genuine
        for name, chosen, color in (("impostor", ~genuine, IMPOSTOR), ("genuine", genuine, GENUINE)):
            look = {"color": color, "edgecolor": color, "alpha": 0.45, "hatch": "///" if name == "impostor" else None}
            panel.hist(comparisons.scores[chosen], edges, density=True, histtype="stepfilled", label=name, **look)
        for index, (label, threshold) in enumerate(thresholds.items()):
            if threshold is not None:
                line = ("-", "--", ":", "-.")[index % 4]
                panel.axvline(threshold, color="black", linestyle=line, label=f"{label}: {threshold:.3f}")
        counts = f"{genuine.sum():,} genuine, {(~genuine).sum():,} impostor"
        panel.set(ylabel="density", title=f"{title} ({counts})")
    axes[-1].set_xlabel("score (cosine similarity)")
    _legend(figure, axes[0])
    return figure


@_styled
def stage_rates(
    panels: Mapping[str, Mapping[str, Metric]],
    *,
    seeds: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    label: str = "EER in %",
    one_scale: bool = False,
) -> Figure:
    """Draw one rate per rung with its interval, a panel per condition; rungs in the order given, the first on top.

    panels: title -> stage -> the mean over seeds, a fraction, or a difference of two, beside a line at zero. seeds:
    title -> stage -> each seed's value, as dots. one_scale: whether places in two panels can be compared. More than
    MANY rungs stand closer, with smaller marks, and every second row is shaded.
    """
    stages = list(dict.fromkeys(stage for values in panels.values() for stage in values))
    many = len(stages) > MANY
    figure, axes = _panels(len(panels), (0.21 if many else 0.5) * len(stages) + 1.4, sharey=True)
    for panel, (title, values) in zip(axes, panels.items(), strict=True):
        for row, stage in enumerate(stages):
            if stage in values:
                _draw_rung(panel, row, stage, values[stage], (seeds or {}).get(title, {}).get(stage, ()), many)
            if many and row % 2:
                panel.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0)
        panel.set(title=title.replace(", ", "\n"), xlabel=label, ylim=(len(stages) - 0.4, -0.6))
        panel.set_xlim(left=min(0.0, panel.get_xlim()[0]), right=max(0.0, panel.get_xlim()[1]))
        panel.axvline(0, color="0.4", linewidth=1, zorder=1)
        panel.set_yticks(range(len(stages)), stages, fontsize=8 if many else None)
    if one_scale:
        left, right = zip(*(panel.get_xlim() for panel in axes), strict=True)
        plt.setp(axes, xlim=(min(left), max(right)))
    dots = "; small dots: seeds" if seeds else ""
    figure.supxlabel(f"mean over seeds with its unadjusted 95 % interval{dots}", fontsize=8.5, color="0.3")
    return figure


def _size(style: Style, size: float) -> float:
    """Return the size of a stage's marker: one with thin arms is larger, else its white edge leaves nothing of it."""
    return size * {"*": 1.7, "P": 1.3, "X": 1.3}.get(style.marker, 1)


def _draw_rung(axes: Axes, row: int, stage: str, metric: Metric, seeds: Sequence[float], many: bool) -> None:
    style, size, edge = (style_of(stage), 6, 0.5) if many else (style_of(stage), 8, 1)
    if metric.value is None:
        look = {"color": "0.35", "va": "center", "fontsize": 7 if many else 8.5}
        axes.text(0.02, row, NOT_MEASURABLE, transform=axes.get_yaxis_transform(), **look)
        return
    if metric.low is not None:
        axes.plot([100 * metric.low, 100 * metric.high], [row, row], color=style.color, linewidth=1.5 if many else 2)
    look = {"color": style.color, "markeredgecolor": "white", "markeredgewidth": edge}
    axes.plot(100 * metric.value, row, style.marker, markersize=_size(style, size), **look)
    look = {"color": style.color, "markersize": 3 if many else 5, "alpha": 0.7}
    axes.plot([100 * value for value in seeds], [row + (0.34 if many else 0.28)] * len(seeds), ".", **look)


Lines = Mapping[str, Sequence[tuple[float, Metric, Sequence[float]]]]
"""Name of a line -> its points, in any order: the setting, the metric (mean over seeds), each seed's value."""


@_styled
def sweep(panels: Mapping[str, Lines], *, x_label: str, log_x: bool = False, label: str = "EER in %") -> Figure:
    """Draw a rate against a setting, a panel per condition: a line with its interval as a band, and seeds as dots.

    panels: title -> line -> points, rates as fractions. log_x: a logarithmic axis, on which 0 has a tick of its own
    left of the smallest positive setting; ValueError for a negative one.
    """
    settings = sorted({x for lines in panels.values() for points in lines.values() for x, _, _ in points})
    styles = _apart(dict.fromkeys(name for lines in panels.values() for name in lines))
    figure, axes = _panels(len(panels), 3.4)
    for panel, (title, lines) in zip(axes, panels.items(), strict=True):
        for name, points in lines.items():
            _draw_line(panel, name, styles[name], sorted(points, key=lambda point: point[0]))
        panel.set(title=title, xlabel=x_label)
        if log_x:
            _log_with_zero(panel, settings)
    axes[0].set_ylabel(label)
    note = "line: mean over seeds; band: its unadjusted 95 % interval; dots: seeds; hollow: one seed"
    _legend(figure, *axes, note=note)
    return figure


def _draw_line(axes: Axes, name: str, style: Style, points: Sequence[tuple]) -> None:
    x = [x for x, _, _ in points]
    rates = [[np.nan if r is None else 100 * r for r in (m.value, m.low, m.high)] for _, m, _ in points]
    mean, low, high = np.reshape(rates, (-1, 3)).T  # a gap where there is none
    for place in np.compress(np.isnan(mean), x):
        _unmeasurable(axes, place, 0.2)
    axes.fill_between(x, low, high, color=style.color, alpha=0.15, linewidth=0)
    look = {"linewidth": 1.7, "marker": style.marker, "markersize": _size(style, 7), "markeredgecolor": "white"}
    axes.plot(x, mean, label=name, color=style.color, linestyle=style.line, **look)
    single = [(x, rate) for (x, _, seeds), rate in zip(points, mean, strict=True) if len(seeds) == 1]
    look = {"markersize": _size(style, 7), "markerfacecolor": "white", "markeredgecolor": style.color}
    axes.plot(*np.reshape(single, (-1, 2)).T, style.marker, **look)
    dots = [(x, 100 * value) for x, _, seeds in points for value in seeds if len(seeds) > 1]
    axes.plot(*np.reshape(dots, (-1, 2)).T, ".", color=style.color, markersize=4, alpha=0.6)


def _log_with_zero(axes: Axes, settings: Sequence[float]) -> None:
    """Scale the settings by their logarithms, with a tick at each; 0 stands half a decade left of the others."""
    positive = [x for x in settings if x > 0]
    if settings[0] < 0 or not positive:
        raise ValueError(f"A logarithmic axis needs settings from 0 up, one of them above, not {settings}.")
    zero = {"linthresh": positive[0], "linscale": 0.5} if settings[0] == 0 else {}
    axes.set_xscale("symlog" if zero else "log", **zero)
    axes.set_xticks(settings, [f"{x / 1000:g}k" if x >= 1000 else f"{x:g}" for x in settings])
    axes.minorticks_off()


def _few_ticks(value: float, _: object = None) -> str:
    """Label 1, 2 and 5 of each decade of a logarithmic axis."""
    return f"{value:g}" if f"{value:e}"[0] in "125" else ""


NO_LOSS = ("step", "steps", "faces", "learning_rate", "faces_per_second", "seconds")


@_styled
def training_curves(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw loss, learning rate and speed against faces seen, from stage -> records of its training log.

    One stage alone shows each of its loss terms; several show their total losses.
    """
    if not logs or not all(logs.values()):
        raise ValueError("There is no training log to draw, or one without a record.")
    figure, axes = _panels(3, 3.2)
    for stage, records in logs.items():
        style = style_of(stage)
        faces = [record["faces"] for record in records]
        names = [name for name in records[0] if name not in NO_LOSS]
        names = names if len(logs) == 1 and len(names) > 2 else ["loss"]
        for index, name in enumerate(names):
            line = style.line if len(names) == 1 else ("-", "--", ":", "-.")[index % 4]
            label = stage if name == "loss" else f"  {name}"
            axes[0].plot(faces, [record[name] for record in records], color=style.color, linestyle=line, label=label)
        for panel, name in ((axes[1], "learning_rate"), (axes[2], "faces_per_second")):
            panel.plot(faces, [record[name] for record in records], color=style.color, linestyle=style.line)
    for panel, title in zip(axes, ("training loss (log)", "learning rate", "speed, faces/s"), strict=True):
        panel.set(title=title, xlabel="faces seen")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value else "0"))
    axes[0].set_yscale("log")
    for axis in (axes[0].yaxis.set_major_formatter, axes[0].yaxis.set_minor_formatter):
        axis(FuncFormatter(_few_ticks))
    axes[2].set_ylim(0, 1.1 * axes[2].get_ylim()[1])
    _legend(figure, axes[0])
    return figure


@_styled
def gallery(faces: Faces, *, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Draw rows x columns faces, row by row, with titles. Pictures that may not be published become a sentence."""
    if len(faces) != len(rows) * len(columns):
        raise ValueError(f"{len(faces)} faces do not fill {len(rows)} rows of {len(columns)}.")
    if not faces.publishable:
        figure, axes = plt.subplots(figsize=(9, 1))
        text = f"{faces.source}: pictures of real people are not shown ({len(faces)} faces)."
        axes.text(0.5, 0.5, text, ha="center", va="center")
        axes.set_axis_off()
        return figure
    side = min(SIZE / DPI, 9 / len(columns))  # at most its own pixels: enlarged, a face only looks blurred
    size = (side * len(columns) + 1.1, side * len(rows) + 0.3)
    figure, axes = plt.subplots(len(rows), len(columns), figsize=size, layout="constrained", squeeze=False)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    for index, image in enumerate(faces.images.permute(0, 2, 3, 1).cpu().numpy()):
        row, column = divmod(index, len(columns))
        panel = axes[row, column]
        panel.imshow(image, interpolation="nearest")
        panel.set(xticks=[], yticks=[], title=columns[column] if row == 0 else "")
        panel.grid(False)
        panel.spines[:].set_visible(False)
        if column == 0:
            panel.set_ylabel(rows[row], rotation=0, ha="right", va="center")
    return figure


@_styled
def heat_maps(panels: Mapping[str, np.ndarray]) -> Figure:
    """Draw maps over the aligned face, float [112, 112] each, side by side with their scales."""
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.5), layout="constrained", squeeze=False)
    for panel, (title, values) in zip(axes.flat, panels.items(), strict=True):
        figure.colorbar(panel.imshow(values, cmap="cividis"), ax=panel)
        panel.set(title=title, xticks=[], yticks=[])
        panel.grid(False)
    return figure


@_styled
def coverage(frame: pd.DataFrame) -> Figure:
    """Draw the covered share of the picture per kind of mask, from a frame with columns kinds, kind, coverage."""
    figure, axes = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    look = {"palette": "colorblind", "inner": "quart", "cut": 0, "linewidth": 1}
    sns.violinplot(frame, x="coverage", y="kind", hue="kinds", ax=axes, **look)
    axes.set(xlabel="share of the picture that the mask covers", ylabel="", xlim=(0, None))
    return figure
