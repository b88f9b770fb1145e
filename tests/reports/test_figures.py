"""Figures: their axes, counts, styles and values, and what is not measurable."""

import io
import itertools
import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from maskinv_lib.evaluation.metrics import Metric, curve_of_scores
from maskinv_lib.faces import Faces
from maskinv_lib.reports import figures, sections
from maskinv_lib.reports.look import LOOK
from maskinv_lib.study.profiles import get_profile, known_stages
from tests.conftest import ROOT
from tests.evaluation.simulated import population

STAGES = list(figures.STYLES)


def curve(shift=0.0, seed=0, impostor=5000):
    generator = np.random.default_rng(seed)
    return curve_of_scores(generator.normal(0.5 + shift, 0.1, 400), generator.normal(0, 0.12, impostor))


def metric(value=0.031, low=0.026, high=0.037, name="eer"):
    return Metric(name=name, value=value, low=low, high=high, genuine=400, impostor=5000)


def texts(figure: Figure) -> str:
    """Return all texts of a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def saved(figure: Figure) -> int:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return len(file.getvalue())


def lines_of(axes, label):
    return [line for line in axes.get_lines() if line.get_label() == label]


def luminance(color):
    return np.dot(to_rgb(color), (0.299, 0.587, 0.114))


def test_stages_differ_in_colour_line_marker_and_luminance():
    styles = [figures.style_of(stage) for stage in STAGES]
    for values in zip(*styles, strict=True):
        assert len(set(values)) == len(styles)
    assert len({round(luminance(style.color), 2) for style in styles}) == len(styles)


def test_an_unknown_stage_keeps_one_style():
    assert figures.style_of("srt") == figures.style_of("srt")
    assert figures.style_of("srt").color not in {style.color for style in figures.STYLES.values()}


def test_det_has_log_fmr_in_per_cent_and_the_number_of_impostors():
    figure = figures.det_curves({"one": {STAGES[0]: curve(), STAGES[1]: curve(0.1)}, "two": {STAGES[0]: curve()}})
    first = figure.axes[0]
    assert first.get_xscale() == first.get_yscale() == "log"
    assert "5,000 impostor" in texts(figure)
    assert figures.NOT_MEASURABLE in texts(figure)
    assert first.xaxis.get_major_formatter()(0.01) == "1"
    line = lines_of(first, STAGES[0])[0]
    assert line.get_color() == figures.STYLES[STAGES[0]].color
    assert line.get_xdata().min() == pytest.approx(1 / 5000)  # nothing is drawn where nothing can be measured
    assert saved(figure) > 5000


def test_det_shows_the_curves_own_values_and_the_mean_of_seeds():
    curves = [curve(seed=seed) for seed in (0, 1)]
    figure = figures.det_curves({"one": {STAGES[2]: curves}}, log_fnmr=False)
    line = lines_of(figure.axes[0], STAGES[2])[0]
    at = np.abs(line.get_xdata() - 0.01).argmin()
    fmr = line.get_xdata()[at]
    expected = np.mean([c.fnmr[np.abs(c.fmr - fmr).argmin()] for c in curves])
    assert line.get_ydata()[at] == pytest.approx(expected, abs=0.005)
    assert figure.axes[0].get_yscale() == "linear"
    assert figure.axes[0].collections  # the seeds' range


def test_score_distributions_name_each_threshold_and_its_condition():
    comparisons = population(20, stages=1, seeds=1, generator=np.random.default_rng(0))[0, 0]
    figure = figures.score_distributions(
        {"unmasked": comparisons, "masked": comparisons}, {"FMR 1 % on unmasked pairs": 0.25, "FMR 0.1 %": None}
    )
    assert "FMR 1 % on unmasked pairs: 0.250" in texts(figure)
    assert "FMR 0.1 %" not in texts(figure)
    assert "60 genuine, 190 impostor" in texts(figure)
    assert all(lines_of(axes, "FMR 1 % on unmasked pairs: 0.250")[0].get_xdata()[0] == 0.25 for axes in figure.axes)
    assert saved(figure) > 5000


def test_rates_keep_their_order_with_intervals_and_seeds_in_per_cent():
    values = {STAGES[0]: metric(), STAGES[3]: metric(0.02, 0.01, 0.03), STAGES[1]: metric(None, None, None)}
    figure = figures.stage_rates({"masked": values}, seeds={"masked": {STAGES[0]: [0.03, 0.032]}})
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [STAGES[0], STAGES[3], STAGES[1]]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first rung on top
    drawn = [line.get_xdata() for line in axes.get_lines()]
    np.testing.assert_allclose(drawn[0], [2.6, 3.7])
    np.testing.assert_allclose(drawn[1], [3.1])
    np.testing.assert_allclose(drawn[2], [3.0, 3.2])
    assert "not measurable" in texts(figure)
    assert "EER in %" in texts(figure)
    assert "small dots: seeds" in texts(figure)


def test_panels_share_a_scale_that_contains_zero_and_cut_nothing():
    panels = {"a": {STAGES[0]: metric(0.02, 0.01, 0.03)}, "b": {STAGES[0]: metric(0.2, 0.1, 0.3)}}
    same = [axes.get_xlim() for axes in figures.stage_rates(panels).axes]
    assert same[0] == same[1] and same[0][0] < 0 and same[0][1] > 30
    at_zero = figures.stage_rates({"a": {STAGES[0]: metric(0.0, 0.0, 0.0)}, "b": {STAGES[0]: metric()}}).axes[0]
    mark = at_zero.transData.transform((0, 0))[0] - at_zero.get_window_extent().x0
    assert mark > 8  # a mark at zero is wholly inside its panel
    below = figures.stage_rates({"a": {STAGES[0]: metric(-0.02, -0.03, -0.01)}}, label="points").axes[0]
    assert below.get_xlim()[0] < -3 and below.get_xlim()[1] > 0 and below.get_xlabel() == "points"


def test_training_curves_split_one_stages_loss_into_its_terms():
    record = {"step": 1, "steps": 9, "faces": 64, "loss": 3.0, "margin": 2.0, "distillation": 1.0}
    record |= {"learning_rate": 0.1, "faces_per_second": 300.0, "seconds": 1.0}
    records = [record, {**record, "faces": 128, "loss": 2.0}]
    alone = figures.training_curves({STAGES[3]: records})
    assert len(alone.axes[0].get_lines()) == 3
    together = figures.training_curves({STAGES[3]: records, STAGES[0]: records})
    assert len(together.axes[0].get_lines()) == 2
    np.testing.assert_allclose(lines_of(together.axes[0], STAGES[0])[0].get_ydata(), [3, 2])
    assert "faces seen" in texts(together)
    assert saved(alone) > 5000
    with pytest.raises(ValueError, match="no training log"):
        figures.training_curves({STAGES[0]: []})


def faces(publishable):
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 112, 112).contiguous()
    return Faces(images=images, identity=torch.arange(6), source="six greys", publishable=publishable)


def test_gallery_draws_rows_and_columns():
    figure = figures.gallery(faces(True), rows=["clean", "masked"], columns=["a", "b", "c"])
    images = [axes.get_images()[0].get_array() for axes in figure.axes]
    assert [int(image[0, 0, 0]) for image in images] == [0, 1, 2, 3, 4, 5]
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", "", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["clean", "", "", "masked", "", ""]
    with pytest.raises(ValueError, match="6 faces do not fill 2 rows of 2"):
        figures.gallery(faces(True), rows=["clean", "masked"], columns=["a", "b"])


def test_gallery_shows_a_sentence_instead_of_real_people():
    figure = figures.gallery(faces(False), rows=["clean", "masked"], columns=["a", "b", "c"])
    assert "six greys: pictures of real people are not shown (6 faces)." in texts(figure)
    assert not any(axes.get_images() for axes in figure.axes)


def test_figures_are_closed_so_that_a_notebook_shows_them_once():
    figures.det_curves({"one": {STAGES[0]: curve()}})
    assert not plt.get_fignums()
    with pytest.raises(ValueError, match="nothing to draw"):
        figures.det_curves({})


def test_heat_maps_keep_their_values_and_titles():
    figure = figures.heat_maps({"one": np.eye(4), "two": np.ones((4, 4))})
    assert [axes.get_title() for axes in figure.axes[:2]] == ["one", "two"]
    np.testing.assert_array_equal(figure.axes[0].get_images()[0].get_array(), np.eye(4))


def test_coverage_has_a_shape_per_kind():
    frame = pd.DataFrame(
        {"kinds": ["seen", "seen", "unseen"] * 4, "kind": ["a", "b", "c"] * 4, "coverage": np.linspace(0.1, 0.3, 12)}
    )
    axes = figures.coverage(frame).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]


def test_four_panels_are_two_by_two():
    one = {STAGES[0]: metric()}
    axes = figures.stage_rates({name: one for name in "abcd"}).axes
    assert len({round(panel.get_position().x0, 2) for panel in axes}) == 2


MANY = [*STAGES, *(f"method-{number}" for number in range(45 - len(STAGES)))]


def test_forty_five_rows_are_legible():
    panels = {name: {stage: metric() for stage in MANY} for name in ("one", "two, unseen masks", "three")}
    panels["three"]["method-3"] = metric(None, None, None)
    figure = figures.stage_rates(panels, seeds={"one": {stage: [0.03, 0.032] for stage in MANY}})
    figure.draw_without_rendering()
    labels = figure.axes[0].get_yticklabels()
    boxes = [label.get_window_extent() for label in labels]
    assert [label.get_text() for label in labels] == MANY and len(MANY) == 45
    assert all(upper.y0 > lower.y1 for upper, lower in itertools.pairwise(boxes))  # no two names overlap
    assert figure.get_figheight() < 12
    few = figures.stage_rates({"one": {stage: metric() for stage in STAGES}})
    assert few.get_figheight() == pytest.approx(0.5 * len(STAGES) + 1.4)
    assert not few.axes[0].patches and len(figure.axes[0].patches) == 22  # every second row is shaded


def points(*settings, base=0.03):
    return [(x, metric(base + 1e-6 * x, base - 0.005, base + 0.005), [base, base + 0.002]) for x in settings]


def test_a_sweep_draws_lines_bands_and_seeds_in_per_cent():
    lines = {"seen masks": points(3000, 0, 100), "maskinv-hg": points(100, base=0.05)}
    figure = figures.sweep({"masked": lines, "clean": {"alone": points(100, 3000)}}, x_label="lambda", log_x=True)
    axes = figure.axes[0]
    line = lines_of(axes, "seen masks")[0]
    np.testing.assert_allclose(line.get_xdata(), [0, 100, 3000])  # in order, whatever order they came in
    np.testing.assert_allclose(line.get_ydata(), [3, 3.01, 3.3])
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.x0, band.x1, band.y0, band.y1) == pytest.approx((0, 3000, 2.5, 3.5))
    dots = next(line for line in axes.get_lines() if line.get_marker() == "." and len(line.get_xdata()) == 6)
    np.testing.assert_allclose(sorted(dots.get_ydata()), [3, 3, 3, 3.2, 3.2, 3.2])
    assert lines_of(axes, "maskinv-hg")[0].get_color() == figures.STYLES["maskinv-hg"].color
    assert [panel.get_title() for panel in figure.axes] == ["masked", "clean"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(labels) == ["alone", "maskinv-hg", "seen masks"]  # of all panels, once
    assert "EER in %" in texts(figure) and "unadjusted 95 % interval" in texts(figure) and "lambda" in texts(figure)
    lone = [(100, metric(0.05, 0.04, 0.06), [0.05]), (300, metric(0.04, 0.03, 0.05), [0.04, 0.04])]
    drawn = figures.sweep({"a": {"b": lone}}, x_label="x").axes[0].get_lines()
    hollow = [line for line in drawn if line.get_markerfacecolor() == "white"]
    assert [list(line.get_xdata()) for line in hollow] == [[100]]  # the setting with one seed
    assert saved(figure) > 5000


def test_zero_has_a_tick_left_of_the_logarithms():
    axes = figures.sweep({"one": {"a": points(0, 10, 100, 1000)}}, x_label="lambda", log_x=True).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "10", "100", "1k"]
    steps = np.diff(axes.transData.transform([(x, 3) for x in (0, 10, 100, 1000)])[:, 0])
    assert steps[1] == pytest.approx(steps[2]) and 0.3 * steps[1] < steps[0] < 0.7 * steps[1]
    assert figures.sweep({"one": {"a": points(1, 10)}}, x_label="x", log_x=True).axes[0].get_xscale() == "log"
    assert figures.sweep({"one": {"a": points(0, 1)}}, x_label="x").axes[0].get_xscale() == "linear"
    for settings in ((-1, 1), (0,)):
        with pytest.raises(ValueError, match="logarithmic axis needs settings from 0 up"):
            figures.sweep({"one": {"a": points(*settings)}}, x_label="x", log_x=True)


def test_a_sweep_leaves_a_gap_where_nothing_is_measurable():
    line = [*points(1, 3), (2, metric(None, None, None), []), (4, metric(0.03, None, None), [0.03])]
    figure = figures.sweep({"one": {"a": line}}, x_label="x")
    np.testing.assert_array_equal(np.isnan(lines_of(figure.axes[0], "a")[0].get_ydata()), [False, True, False, False])
    note = next(text for text in figure.axes[0].texts if text.get_text() == figures.NOT_MEASURABLE)
    assert note.get_position()[0] == 2
    assert saved(figure) > 5000


def test_the_lines_of_a_sweep_differ_in_colour_and_mark():
    names = [f"line {number}" for number in range(8)]
    styles = figures._distinct_styles([*names, "maskinv-hg"])
    assert len({style.color for style in styles.values()}) == len({style.marker for style in styles.values()}) == 9
    assert styles["maskinv-hg"] == figures.STYLES["maskinv-hg"]
    assert figures._distinct_styles(names[:3]) == {name: styles[name] for name in names[:3]}


def shown_together():
    """Yield the stages that one figure of the comparison shows, for rendered and for real people."""
    for name in ("laptop", "real"):
        profile = get_profile(name, "all")
        yield profile.stages
        for question in sections.VARIED:
            methods = [stage.name for stage in known_stages(profile).values() if stage.question == question]
            rungs = [profile.stands_for.get(rung, rung) for rung in sections.SHOWN_TOO.get(question, ())]
            yield tuple(dict.fromkeys([sections.reference_of(profile, question), *rungs, *methods]))


def test_no_colour_and_no_mark_repeats_within_a_figure_of_the_comparison():
    for stages in shown_together():
        styles = [figures.style_of(stage) for stage in stages]
        assert len({style.color for style in styles}) == len({style.marker for style in styles}) == len(stages), stages


def test_the_look_is_that_of_seaborn_without_its_import():
    style = {**sns.axes_style("whitegrid"), **sns.plotting_context("notebook", font_scale=0.85), "axes.titlesize": 9.5}
    with mpl.rc_context(style):
        expected = dict(mpl.rcParams)
    with mpl.rc_context(LOOK):
        assert {name for name, value in mpl.rcParams.items() if value != expected[name]} == {"image.cmap"}
    code = "import sys; from maskinv_lib.reports import explain, figures; sys.exit('seaborn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
