"""Figures of the study: functions from data to a matplotlib Figure; nothing is written.

A stage has the same colour, line and marker in every figure. The colours are the palette of Okabe and Ito, for
colour-blind readers; lines and markers distinguish the stages in greyscale. Rates are fractions in the data and per
cent in the figures.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import NamedTuple
from zlib import crc32

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.metrics import NOT_MEASURABLE, ErrorCurve, Metric
from maskinv_lib.faces import SIZE, Faces
from maskinv_lib.reports.look import LOOK
from maskinv_lib.study.profiles import STAGES

DPI = 110

MANY = 12
"""With more stages than this, a figure draws smaller."""


class Style(NamedTuple):
    """The colour, line and marker of a stage in every figure."""

    color: str
    linestyle: str | tuple
    marker: str


STYLES = {
    "elasticface-arc": Style("#000000", "-", "o"),
    "elasticface-arc-aug": Style("#E69F00", "--", "s"),
    "kd-only": Style("#56B4E9", ":", "^"),
    "maskinv-lg": Style("#009E73", "-.", "D"),
    "maskinv-lambda3000": Style("#CC79A7", (0, (5, 1, 1, 1, 1, 1)), "v"),
    "maskinv-hg": Style("#0072B2", (0, (9, 2)), "P"),
    "teacher": Style("#D55E00", (0, (1, 3)), "*"),
    "finetune-clean": Style("#7F6F00", (0, (4, 1, 4, 3)), "X"),
    "maskinv-lambda100-continued": Style("#882255", (0, (2, 1)), "<"),
    "maskinv-lambda0-continued": Style("#8A8A8A", (0, (6, 2, 1, 2)), ">"),
    "released-masked-teacher": Style("#6A3D9A", (0, (3, 1, 1, 3)), "p"),
    "upper-face": Style("#A65628", (0, (8, 1, 2, 1)), "d"),
}
"""The rungs of both ablations and the other stages of claims; the style of any other stage is one of ``FURTHER``."""

FURTHER = tuple(
    Style(color, ("--", "-.", ":", (0, (3, 2, 1, 2)))[index % 4], marker)
    for index, (color, marker) in enumerate(
        {
            **{"#E7298A": "^", "#66A61E": "8", "#00798C": "*", "#5A5A5A": "h", "#D1495B": "H", "#2E4057": "X"},
            **{"#B8B800": "o", "#9C9EDE": "v", "#17BECF": "<", "#8B0000": ">", "#1A1AFF": "D", "#3D7A00": "P"},
        }.items()
    )
)
"""The styles of other stages, in the order of their question's methods: in its figure none repeats another one."""

LINES = ("-", "--", ":", "-.")
GENUINE, IMPOSTOR = "#0072B2", "#D55E00"


def style_of(stage: str) -> Style:
    """Return a stage's style, the same in every figure; that of an unknown name, such as a run's, follows from it."""
    if stage in STYLES:
        return STYLES[stage]
    question = STAGES[stage].question if stage in STAGES else None
    methods = [name for name, other in STAGES.items() if other.question == question and name not in STYLES]
    return FURTHER[(methods.index(stage) if question else crc32(stage.encode())) % len(FURTHER)]


def _distinct_styles(names: Iterable[str]) -> dict[str, Style]:
    """Return name -> style: its own for a stage, for another name the next of ``FURTHER``."""
    names = list(names)
    others = [name for name in names if name not in STYLES]
    return {name: STYLES[name] if name in STYLES else FURTHER[others.index(name) % len(FURTHER)] for name in names}


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the style of the study, and close the figure: a notebook then shows it once, as the value of its cell."""

    @wraps(draw)
    def styled(*arguments: object, **options: object) -> Figure:
        with plt.rc_context({**LOOK, "figure.dpi": DPI, "savefig.dpi": DPI}):
            figure = draw(*arguments, **options)
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
    """Draw one legend for all panels below them, outside the axes, with a note above it."""
    handles = {label: line for panel in axes for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    layout = {"loc": "outside lower center", "ncols": min(3, len(handles)), "frameon": False, "handlelength": 4}
    figure.legend(handles.values(), handles.keys(), title=note or None, title_fontsize=8.5, **layout)


def _percent(value: float, _: object) -> str:
    return f"{100 * value:g}"


Curves = Mapping[str, Mapping[str, ErrorCurve | Sequence[ErrorCurve]]]
"""Panel title -> stage -> its error curve, or one per seed."""


def fnmr_at(curve: ErrorCurve, fmr: np.ndarray) -> np.ndarray:
    """Return the FNMR at ``fmr`` [K] ascending, interpolated linearly over log FMR."""
    positive = curve.fmr > 0
    return np.interp(np.log(fmr), np.log(curve.fmr[positive][::-1]), curve.fnmr[positive][::-1])


def _draw_curves(axes: Axes, stages: Mapping[str, Sequence[ErrorCurve]], low: float) -> None:
    for stage, curves in stages.items():
        style = style_of(stage)
        fmr = np.geomspace(max(low, 1 / curves[0].impostor), 1, 200)
        rates = np.array([fnmr_at(curve, fmr) for curve in curves])  # [seeds, 200]
        line = {"linewidth": 1.7, "markersize": 5, "markevery": 25, **style._asdict()}
        axes.plot(fmr, rates.mean(axis=0), label=stage, **line)
        if len(curves) > 1 and len(stages) <= 2:
            axes.fill_between(fmr, rates.min(axis=0), rates.max(axis=0), color=style.color, alpha=0.15, linewidth=0)


def _write_unmeasurable(axes: Axes, x: float, height: float) -> None:
    """Write vertically at ``x`` that nothing can be measured there; height: a share of the panel."""
    font = {"rotation": 90, "color": "0.35", "fontsize": 8, "ha": "center", "va": "center"}
    axes.text(x, height, NOT_MEASURABLE, transform=axes.get_xaxis_transform(), **font)


@_styled
def det_curves(panels: Curves, *, log_fnmr: bool = True) -> Figure:
    """Draw DET curves, FNMR against log FMR, a panel per condition.

    With several seeds, the curve is their mean; with one or two stages, the range of the seeds is shaded. Grey area:
    FMR * impostors below 1, not measurable. log_fnmr: whether the FNMR has a logarithmic axis too.
    """
    figure, axes = _panels(len(panels), 3.6, sharey=True)
    for panel, (title, stages) in zip(axes, panels.items(), strict=True):
        curves = {stage: [part] if isinstance(part, ErrorCurve) else list(part) for stage, part in stages.items()}
        first = next(iter(curves.values()))[0]
        low = 0.2 / first.impostor
        _draw_curves(panel, curves, low)
        panel.axvspan(low, 1 / first.impostor, color="0.85", zorder=0)
        _write_unmeasurable(panel, math.sqrt(low / first.impostor), 0.5)
        counts = f"{first.genuine:,} genuine, {first.impostor:,} impostor"
        panel.set(xscale="log", xlim=(low, 1), xlabel=f"FMR in % (log)\n{counts}", title=title)
        if log_fnmr:
            panel.set(yscale="log", ylim=(0.5 / first.genuine, 1.2))
            panel.yaxis.set_minor_formatter(NullFormatter())
        panel.xaxis.set_major_formatter(_percent)
        panel.yaxis.set_major_formatter(_percent)
    axes[0].set_ylabel(f"FNMR in %{' (log)' if log_fnmr else ''}")
    _legend(figure, axes[0])
    return figure


@_styled
def score_distributions(panels: Mapping[str, Comparisons], thresholds: Mapping[str, float]) -> Figure:
    """Draw genuine and impostor scores, a panel per condition, with thresholds.

    thresholds: label -> score; the label names the data and the condition of the threshold. A threshold that is None
    (not measurable) is left out.
    """
    figure, axes = _panels(len(panels), 2.1, columns=1, sharex=True)
    edges = np.histogram_bin_edges(np.concatenate([comparisons.scores for comparisons in panels.values()]), 80)
    for panel, (title, comparisons) in zip(axes, panels.items(), strict=True):
        genuine = comparisons.genuine
        for name, pairs, color, hatch in (("impostor", ~genuine, IMPOSTOR, "///"), ("genuine", genuine, GENUINE, None)):
            fill = {"color": color, "edgecolor": color, "alpha": 0.45, "hatch": hatch}
            panel.hist(comparisons.scores[pairs], edges, density=True, histtype="stepfilled", label=name, **fill)
        for index, (label, threshold) in enumerate(thresholds.items()):
            if threshold is not None:
                panel.axvline(threshold, color="black", linestyle=LINES[index % 4], label=f"{label}: {threshold:.3f}")
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
) -> Figure:
    """Draw one rate per stage with its interval, a panel per condition; stages in the order given, the first on top.

    All panels have one scale, which zero belongs to.

    panels: title -> stage -> the mean over seeds, a fraction, or a difference of two such means; a line marks zero.
    seeds: title -> stage -> each seed's value, drawn as dots. With more than MANY stages, the rows are closer, the
    markers smaller, and every second row is shaded.
    """
    stages = list(dict.fromkeys(stage for values in panels.values() for stage in values))
    many = len(stages) > MANY
    figure, axes = _panels(len(panels), (0.21 if many else 0.5) * len(stages) + 1.4, sharey=True)
    for panel, (title, values) in zip(axes, panels.items(), strict=True):
        for row, stage in enumerate(stages):
            if stage in values:
                _draw_row(panel, row, stage, values[stage], (seeds or {}).get(title, {}).get(stage, ()), many)
            if many and row % 2:
                panel.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0)
        panel.set(title=title.replace(", ", "\n"), xlabel=label, ylim=(len(stages) - 0.4, -0.6))
        panel.axvline(0, color="0.4", linewidth=1, zorder=1)
        panel.set_yticks(range(len(stages)), stages, fontsize=8 if many else None)
    left, right = zip(*(panel.get_xlim() for panel in axes), strict=True)
    plt.setp(axes, xlim=(min(left), max(right)))  # zero too, because of its line
    dots = "; small dots: seeds" if seeds else ""
    figure.supxlabel(f"mean over seeds with its unadjusted 95 % interval{dots}", fontsize=8.5, color="0.3")
    return figure


def _marker_size(style: Style, size: float) -> float:
    """Return the size of a stage's marker: larger for one with thin arms, which its white edge would hide."""
    return size * {"*": 1.7, "P": 1.3, "X": 1.3}.get(style.marker, 1)


def _draw_row(axes: Axes, row: int, stage: str, metric: Metric, seeds: Sequence[float], many: bool) -> None:
    style, size, edge = (style_of(stage), 6, 0.5) if many else (style_of(stage), 7, 0.7)
    if metric.value is None:
        font = {"color": "0.35", "va": "center", "fontsize": 7 if many else 8.5}
        axes.text(0.02, row, NOT_MEASURABLE, transform=axes.get_yaxis_transform(), **font)
        return
    if metric.low is not None:
        axes.plot([100 * metric.low, 100 * metric.high], [row, row], color=style.color, linewidth=1.5 if many else 2)
    marker = {"markersize": _marker_size(style, size), "markeredgecolor": "white", "markeredgewidth": edge}
    axes.plot(100 * metric.value, row, style.marker, color=style.color, **marker)
    dots, dot_row = [100 * value for value in seeds], row + (0.34 if many else 0.28)
    axes.plot(dots, [dot_row] * len(dots), ".", color=style.color, markersize=3 if many else 5, alpha=0.7)


Lines = Mapping[str, Sequence[tuple[float, Metric, Sequence[float]]]]
"""Name of a line -> its points, in any order: the setting, the metric (mean over seeds), and each seed's value."""


@_styled
def sweep(panels: Mapping[str, Lines], *, x_label: str, log_x: bool = False, label: str = "EER in %") -> Figure:
    """Draw a rate against a setting, a panel per condition: a line with its interval as a band, and seeds as dots.

    panels: title -> line -> points, rates as fractions. log_x: a logarithmic axis, on which 0 has its own tick left of
    the smallest positive setting; a negative setting raises ValueError.
    """
    settings = sorted({x for lines in panels.values() for points in lines.values() for x, _, _ in points})
    styles = _distinct_styles(dict.fromkeys(name for lines in panels.values() for name in lines))
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
    rates = np.array([(metric.value, metric.low, metric.high) for _, metric, _ in points], dtype=float)
    mean, low, high = 100 * rates.reshape(-1, 3).T  # NaN, drawn as a gap, where there is no number
    for setting in np.compress(np.isnan(mean), x):
        _write_unmeasurable(axes, setting, 0.2)
    axes.fill_between(x, low, high, color=style.color, alpha=0.15, linewidth=0)
    size = _marker_size(style, 7)
    axes.plot(x, mean, label=name, linewidth=1.7, markersize=size, markeredgecolor="white", **style._asdict())
    single = [(x, rate) for (x, _, seeds), rate in zip(points, mean, strict=True) if len(seeds) == 1]
    hollow = {"markersize": size, "markerfacecolor": "white", "markeredgecolor": style.color}
    axes.plot(*np.reshape(single, (-1, 2)).T, style.marker, **hollow)
    dots = [(x, 100 * value) for x, _, seeds in points for value in seeds if len(seeds) > 1]
    axes.plot(*np.reshape(dots, (-1, 2)).T, ".", color=style.color, markersize=4, alpha=0.6)


def _log_with_zero(axes: Axes, settings: Sequence[float]) -> None:
    """Make the x axis logarithmic, with a tick at each setting; 0 is half a decade left of the others."""
    positive = [x for x in settings if x > 0]
    if settings[0] < 0 or not positive:
        raise ValueError(f"A logarithmic axis needs settings from 0 up, at least one above 0, not {settings}.")
    zero = {"linthresh": positive[0], "linscale": 0.5} if settings[0] == 0 else {}
    axes.set_xscale("symlog" if zero else "log", **zero)
    axes.set_xticks(settings, [f"{x / 1000:g}k" if x >= 1000 else f"{x:g}" for x in settings])
    axes.minorticks_off()


def _few_ticks(value: float, _: object) -> str:
    """Return the label of a tick of a logarithmic axis; only 1, 2 and 5 of each decade have one."""
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
        style, log = style_of(stage), pd.DataFrame(records)
        losses = [name for name in records[0] if name not in NO_LOSS]
        losses = losses if len(logs) == 1 and len(losses) > 2 else ["loss"]
        for index, name in enumerate(losses):
            line = {"color": style.color, "linestyle": style.linestyle if len(losses) == 1 else LINES[index % 4]}
            axes[0].plot(log["faces"], log[name], label=stage if name == "loss" else f"  {name}", **line)
        for panel, name in zip(axes[1:], ("learning_rate", "faces_per_second"), strict=True):
            panel.plot(log["faces"], log[name], color=style.color, linestyle=style.linestyle)
    for panel, title in zip(axes, ("training loss (log)", "learning rate", "speed, faces/s"), strict=True):
        panel.set(title=title, xlabel="faces seen")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
    axes[0].set_yscale("log")
    axes[0].yaxis.set_major_formatter(_few_ticks)
    axes[0].yaxis.set_minor_formatter(_few_ticks)
    axes[2].set_ylim(0, 1.1 * axes[2].get_ylim()[1])
    _legend(figure, axes[0])
    return figure


@_styled
def gallery(faces: Faces, *, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Draw rows x columns faces, row by row, with titles; a sentence instead of pictures that may not be published."""
    if len(faces) != len(rows) * len(columns):
        raise ValueError(f"{len(faces)} faces do not fill {len(rows)} rows of {len(columns)}.")
    if not faces.publishable:
        figure, axes = plt.subplots(figsize=(9, 1))
        reason = f"{faces.source}: pictures of real people are not shown ({len(faces)} faces)."
        axes.text(0.5, 0.5, reason, ha="center", va="center")
        axes.set_axis_off()
        return figure
    side = min(SIZE / DPI, 9 / len(columns))  # at most its own pixels: enlarged, a face only looks blurred
    size = (side * len(columns) + 1.1, side * len(rows) + 0.3)
    figure, axes = plt.subplots(len(rows), len(columns), figsize=size, layout="constrained", squeeze=False)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    for panel, image in zip(axes.flat, faces.images.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
        panel.imshow(image, interpolation="nearest")
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    for panel, title in zip(axes[0], columns, strict=True):
        panel.set_title(title)
    for panel, title in zip(axes[:, 0], rows, strict=True):
        panel.set_ylabel(title, rotation=0, ha="right", va="center")
    return figure


@_styled
def heat_maps(panels: Mapping[str, np.ndarray]) -> Figure:
    """Draw maps over the aligned face, float [112, 112] each, side by side, each with its colour bar."""
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.5), layout="constrained", squeeze=False)
    for panel, (title, values) in zip(axes.flat, panels.items(), strict=True):
        figure.colorbar(panel.imshow(values, cmap="cividis"), ax=panel)
        panel.set(title=title, xticks=[], yticks=[])
    return figure


@_styled
def coverage(frame: pd.DataFrame) -> Figure:
    """Draw the covered share of the picture per kind of mask, from a frame with columns kinds, kind, coverage."""
    import seaborn as sns  # a second, for this figure alone

    figure, axes = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    violin = {"palette": "colorblind", "inner": "quart", "cut": 0, "linewidth": 1}
    sns.violinplot(frame, x="coverage", y="kind", hue="kinds", ax=axes, **violin)
    axes.set(xlabel="share of the picture that the mask covers", ylabel="", xlim=(0, None))
    return figure
