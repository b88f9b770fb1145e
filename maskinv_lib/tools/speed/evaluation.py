"""The evaluation of a stage by its parts, and the intervals of many stages."""

import io
from functools import partial

import numpy as np

from maskinv_lib.evaluation.benchmarks.rendered import RenderedBenchmark
from maskinv_lib.evaluation.conditions import Conditions, evaluate_conditions
from maskinv_lib.evaluation.evaluate import Case, Evaluation
from maskinv_lib.evaluation.uncertainty import paired_difference
from maskinv_lib.evaluation.verdicts import CLEAN, main_cases
from maskinv_lib.networks import build_network
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.reports import comparison, explain, figures, tables
from maskinv_lib.study.launch import run_notebook
from maskinv_lib.study.profiles import get_profile
from maskinv_lib.tools.speed.measuring import Row, once, seconds_row
from maskinv_lib.tools.speed.tasks import SEED, Setting, Task, in_words, rendered, threads, variables
from maskinv_lib.utils import files

GROUP = "evaluation"
PARTS = ("templates", "metrics", "resampling", "figures", "notebook start")
"""The parts of an evaluation, in their order; rows are named after them."""


def tasks(setting: Setting) -> list[Task]:
    """Return the measurements of this module; the last one sums up the rows before it."""
    runs = {"parts": parts, "notebook start": start, "share of the training": share}
    if not setting.sizes.notebook:
        runs = {"parts": parts}
    found = [Task(group=GROUP, name=name, run=partial(run, setting)) for name, run in runs.items()]
    return [*found, Task(group="intervals", name="intervals", run=partial(intervals, setting))]


def benchmark_of(setting: Setting) -> RenderedBenchmark:
    """Return a verification benchmark like that of the profile laptop."""
    people, views = setting.sizes.test_people, setting.sizes.test_views
    return RenderedBenchmark(name="speed", faces=rendered(people, views, setting.cores), views=views)


def _named(setting: Setting, part: str) -> str:
    return f"{part}, {setting.sizes.test_people} people, {in_words(1)}"


def parts(setting: Setting) -> list[Row]:
    """Return the seconds of the parts of one evaluation, with the compact network and one thread."""
    benchmark, resamples, templates = benchmark_of(setting), setting.sizes.resamples, {}
    recogniser = NetworkRecogniser(build_network("compact", seed=SEED))
    with threads(1):
        recogniser.templates(benchmark.faces.images[:64])  # warms up
        measured = {"templates": once(lambda: templates.update(benchmark.templates(recogniser.templates)))()}
        both = [partial(evaluate_conditions, benchmark, templates, resamples=count) for count in (2, resamples)]
        few, many = setting.measure(*both)
        measured["metrics"] = few
        measured["resampling"] = [max(0.0, b - a) for a, b in zip(few, many, strict=True)]
        evaluated = evaluate_conditions(benchmark, templates, resamples=resamples)
        measured["figures"] = setting.measure(partial(draw_figures, benchmark, evaluated))[0]
    notes = {"metrics": "with 2 resamples, the least", "resampling": f"what {resamples:,} resamples add"}
    return [
        seconds_row([seconds], group=GROUP, name=_named(setting, part), against=notes.get(part, ""))
        for part, seconds in measured.items()
    ]


def draw_figures(benchmark: RenderedBenchmark, evaluated: Conditions) -> None:
    """Draw what the notebook of an evaluation shows: pictures of pairs, scores, curves and tables."""
    pictures = explain.example_pairs(benchmark)
    rows, columns = ["reference", "seen mask", "unseen mask"], [f"person {n}" for n in range(1, 7)]
    cases = main_cases(list(evaluated.evaluations))
    threshold = evaluated.evaluations[CLEAN].threshold
    scores = {tables.title(*case): evaluated.comparisons[case] for case in cases}
    curves = {tables.title(*case): {"maskinv-hg": evaluated.curves[case]} for case in cases}
    metrics = {tables.title(*case): rates for case, rates in comparison.over_seeds([evaluated.evaluations]).items()}
    drawn = [
        figures.gallery(pictures, rows=rows, columns=columns),
        figures.score_distributions(scores, {} if threshold is None else {"FMR 1 %": threshold}),
        figures.det_curves(curves),
    ]
    for figure in drawn:
        figure.savefig(io.BytesIO(), format="png", bbox_inches="tight")
    tables.metrics(metrics, names=["eer", "fmr100", "fmr1000", "accuracy", "fdr"]).to_html()


def start(setting: Setting) -> list[Row]:
    """Return the seconds of a notebook with nothing in it: the start of its kernel."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    cell = {"cell_type": "code", "id": "empty", "execution_count": None, "metadata": {}, "outputs": [], "source": ""}
    content = {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path, output = setting.folder / "empty.ipynb", setting.folder / "executed" / "empty.ipynb"
    files.write_json(path, content)
    run = partial(run_notebook, path, output, {}, failed=output.with_suffix(".failed.ipynb"))
    with variables():  # it changes some
        return [seconds_row(setting.measure(run), group=GROUP, name=_named(setting, "notebook start"))]


def share(setting: Setting) -> list[Row]:
    """Return the sum of the parts, and its share of the training of a stage of the profile laptop."""
    profile, done = get_profile("laptop"), {row.name: row for row in setting.done if not row.error}
    seconds = [done[name].value for part in PARTS if (name := _named(setting, part)) in done]
    trained = [row for row in setting.done if row.group == "training" and row.name.startswith("compact, ")]
    if len(seconds) < len(PARTS) or not trained:
        raise RuntimeError("A part of the evaluation or the training of the compact network was not measured.")
    total, training = sum(seconds), profile.schedule.budget / trained[0].value
    against = f"of {training:,.0f} s, a training on {profile.schedule.budget:,} faces at the measured speed"
    return [
        Row(group=GROUP, name=_named(setting, "sum"), value=total, unit="s", repeats=1),
        Row(
            group=GROUP,
            name=_named(setting, "share of a stage's training"),
            value=100 * total / training,
            unit="%",
            repeats=1,
            against=against,
        ),
    ]


# Intervals of many stages


def random_evaluations(setting: Setting, count: int) -> list[dict[Case, Evaluation]]:
    """Return evaluations of random templates of different quality, the same for each of three conditions."""
    benchmark = RenderedBenchmark(name="speed", faces=rendered(20, 2, setting.cores), views=2)
    generator = np.random.default_rng(SEED)
    centres = np.repeat(generator.standard_normal((20, 64)), 2, axis=0)
    found = []
    for number in range(count):
        rows = centres + (1.2 + 0.02 * number) * generator.standard_normal(centres.shape)
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        templates = dict.fromkeys(("none", "seen", "unseen"), rows)
        measured = evaluate_conditions(benchmark, templates, resamples=setting.sizes.resamples)
        found.append({case: measured.evaluations[case] for case in main_cases(list(measured.evaluations))})
    return found


def compare_stages(stages: dict[str, list[dict[Case, Evaluation]]]) -> None:
    """Compute the intervals of all metrics of all stages, and their paired differences from the first stage."""
    first = next(iter(stages.values()))
    for seeds in stages.values():
        rates = comparison.over_seeds(seeds)
        for case in rates:
            ours, others = [seed[case] for seed in seeds], [seed[case] for seed in first]
            for name in ours[0].resamples if seeds is not first else ():
                paired_difference(ours, others, name)


def intervals(setting: Setting) -> list[Row]:
    """Return the seconds of all intervals and differences of many stages."""
    sizes = setting.sizes
    pool = random_evaluations(setting, sizes.stages + sizes.seeds - 1)
    stages = {f"stage {n}": pool[n : n + sizes.seeds] for n in range(sizes.stages)}
    with threads(1):
        measured = setting.measure(partial(compare_stages, stages))
    name = f"{sizes.stages} stages, {sizes.seeds} seeds, {sizes.resamples:,} resamples, three conditions, 1 thread"
    return [seconds_row(measured, group="intervals", name=name)]
