"""Figures of the study: functions from data to a matplotlib Figure; nothing is written.

A stage has one colour, line and marker everywhere (the palette of Okabe and Ito, for colour-blind readers; lines and
markers tell stages apart in greyscale). Rates are fractions in the data and per cent in the figures.
"""

import math
from collections.abc import Callable, Mapping, Sequence
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

from maskinv_lib.benchmarks import Comparisons
from maskinv_lib.faces import SIZE, Faces
from maskinv_lib.metrics import NOT_MEASURABLE, ErrorCurve, Metric

DPI = 110


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


def _legend(figure: Figure, axes: Axes) -> None:
    """Put one legend for all panels below them, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)), frameon=False, handlelength=4)


def _percent(value: float, _: object = None) -> str:
    return f"{100 * value:g}"


Curves = Mapping[str, Mapping[str, ErrorCurve | Sequence[ErrorCurve]]]
"""Panel title -> stage -> its error curve, or one per seed."""


def _fnmr(curve: ErrorCurve, fmr: np.ndarray) -> np.ndarray:
    """Return the FNMR at ``fmr`` [K] ascending, on straight lines over log FMR."""
    inside = curve.fmr > 0
    return np.interp(np.log(fmr), np.log(curve.fmr[inside][::-1]), curve.fnmr[inside][::-1])


def _draw_curves(axes: Axes, stages: Mapping[str, ErrorCurve | Sequence[ErrorCurve]], roc: bool, low: float) -> None:
    for stage, curves in stages.items():
        curves = [curves] if isinstance(curves, ErrorCurve) else list(curves)
        style = style_of(stage)
        fmr = np.geomspace(max(low, 1 / curves[0].impostor), 1, 200)
        rates = np.array([_fnmr(curve, fmr) for curve in curves])  # [seeds, 200]
        rates = 1 - rates if roc else rates
        look = {"color": style.color, "linestyle": style.line, "marker": style.marker}
        axes.plot(fmr, rates.mean(axis=0), label=stage, markevery=25, markersize=5, linewidth=1.7, **look)
        if len(curves) > 1 and len(stages) <= 2:
            axes.fill_between(fmr, rates.min(axis=0), rates.max(axis=0), color=style.color, alpha=0.15, linewidth=0)


def _grey_unmeasurable(axes: Axes, impostor: int, low: float) -> None:
    axes.axvspan(low, 1 / impostor, color="0.85", zorder=0)
    middle = math.sqrt(low / impostor)
    axes.text(middle, 0.5, NOT_MEASURABLE, rotation=90, color="0.35", fontsize=8, ha="center", va="center",
              transform=axes.get_xaxis_transform())  # fmt: skip


def _error_panels(panels: Curves, roc: bool, log_fnmr: bool) -> Figure:
    figure, axes = _panels(len(panels), 3.6, sharey=True)
    for panel, (title, stages) in zip(axes, panels.items(), strict=True):
        first = next(iter(stages.values()))
        first = first if isinstance(first, ErrorCurve) else first[0]
        genuine, impostor, low = first.genuine, first.impostor, 0.2 / first.impostor
        _draw_curves(panel, stages, roc, low)
        _grey_unmeasurable(panel, impostor, low)
        panel.set(
            xscale="log",
            xlim=(low, 1),
            xlabel=f"FMR in % (log)\n{genuine:,} genuine, {impostor:,} impostor",
            title=title,
        )
        if not roc and log_fnmr:
            panel.set(yscale="log", ylim=(0.5 / genuine, 1.2))
            panel.yaxis.set_minor_formatter(NullFormatter())
        panel.xaxis.set_major_formatter(FuncFormatter(_percent))
        panel.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes[0].set_ylabel("true match rate, 1 − FNMR, in %" if roc else f"FNMR in %{' (log)' if log_fnmr else ''}")
    _legend(figure, axes[0])
    return figure


@_styled
def det_curves(panels: Curves, *, log_fnmr: bool = True) -> Figure:
    """Draw DET curves, FNMR against log FMR, a panel per condition.

    Of several seeds the mean is drawn, and with one or two stages the seeds' range is shaded. Grey: FMR * impostors
    below 1, not measurable.
    """
    return _error_panels(panels, roc=False, log_fnmr=log_fnmr)


@_styled
def roc_curves(panels: Curves) -> Figure:
    """Draw ROC curves, true match rate against log FMR; otherwise as ``det_curves``."""
    return _error_panels(panels, roc=True, log_fnmr=False)


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
        for name, chosen, color in (
            ("impostor", ~comparisons.genuine, IMPOSTOR),
            ("genuine", comparisons.genuine, GENUINE),
        ):
            look = {"color": color, "edgecolor": color, "alpha": 0.45, "hatch": "///" if name == "impostor" else None}
            panel.hist(comparisons.scores[chosen], edges, density=True, histtype="stepfilled", label=name, **look)
        for index, (label, threshold) in enumerate(thresholds.items()):
            if threshold is not None:
                line = ("-", "--", ":", "-.")[index % 4]
                panel.axvline(threshold, color="black", linestyle=line, label=f"{label}: {threshold:.3f}")
        counts = f"{comparisons.genuine.sum():,} genuine, {(~comparisons.genuine).sum():,} impostor"
        panel.set(ylabel="density", title=f"{title} ({counts})")
    axes[-1].set_xlabel("score (cosine similarity)")
    _legend(figure, axes[0])
    return figure


@_styled
def ladder(
    panels: Mapping[str, Mapping[str, Metric]],
    *,
    seeds: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    label: str = "EER",
) -> Figure:
    """Draw one rate per rung with its interval, a panel per condition; rungs in the order given, the first on top.

    panels: title -> stage -> the mean over seeds, a fraction. seeds: title -> stage -> each seed's value, as dots.
    """
    stages = list(dict.fromkeys(stage for values in panels.values() for stage in values))
    figure, axes = _panels(len(panels), 0.5 * len(stages) + 1.4, sharey=True)
    for panel, (title, values) in zip(axes, panels.items(), strict=True):
        for row, stage in enumerate(stages):
            if stage in values:
                _draw_rung(panel, row, stage, values[stage], (seeds or {}).get(title, {}).get(stage, ()))
        panel.set(title=title, xlabel=f"{label} in %", ylim=(len(stages) - 0.4, -0.6))
        panel.set_xlim(left=min(0.0, panel.get_xlim()[0]))
        panel.set_yticks(range(len(stages)), stages)
    dots = "; small dots: seeds" if seeds else ""
    figure.supxlabel(f"mean over seeds with its unadjusted 95 % interval{dots}", fontsize=8.5, color="0.3")
    return figure


def _draw_rung(axes: Axes, row: int, stage: str, metric: Metric, seeds: Sequence[float]) -> None:
    style = style_of(stage)
    if metric.value is None:
        axes.text(
            0.02, row, NOT_MEASURABLE, color="0.35", va="center", fontsize=8.5, transform=axes.get_yaxis_transform()
        )
        return
    if metric.low is not None:
        axes.plot([100 * metric.low, 100 * metric.high], [row, row], color=style.color, linewidth=2)
    axes.plot(100 * metric.value, row, style.marker, color=style.color, markersize=8, markeredgecolor="white")
    axes.plot(
        [100 * value for value in seeds], [row + 0.28] * len(seeds), ".", color=style.color, markersize=5, alpha=0.7
    )


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
