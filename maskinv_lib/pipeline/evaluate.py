"""Evaluate one trained run on its benchmark, or on the people held back from its training."""

import time
from collections.abc import Iterator

from maskinv_lib.evaluation.benchmarks import Comparisons
from maskinv_lib.evaluation.evaluate import evaluate
from maskinv_lib.evaluation.metrics import error_curve, measure
from maskinv_lib.evaluation.resampling import identity_weights
from maskinv_lib.pipeline import models
from maskinv_lib.pipeline.records import Evaluated, read_evaluation, write_evaluation
from maskinv_lib.pipeline.sources import AnyBenchmark, benchmark_of
from maskinv_lib.pipeline.train import _commit, train
from maskinv_lib.study.data import UNMASKED, RealFaces
from maskinv_lib.study.runs import Run
from maskinv_lib.utils import files, paths


def score(run: Run, benchmark: AnyBenchmark | None = None) -> Iterator[tuple[str, str, Comparisons]]:
    """Yield (condition, mask kinds, comparisons) of a run on the benchmark that it is evaluated on."""
    benchmark = benchmark or benchmark_of(run.profile, run.benchmark)
    yield from benchmark.comparisons(models.templates_of(run, benchmark))


def evaluate_run(run: Run) -> Evaluated:
    """Measure ``run`` on its benchmark and write ``metrics.json`` and ``resamples.npz``."""
    models.check_models(run)  # a run that was not trained says so before any face is rendered
    benchmark = benchmark_of(run.profile, run.benchmark)
    if isinstance(run.profile.faces, RealFaces):
        _note_opening(run)
    found = _evaluated(run, benchmark, score(run, benchmark))
    write_evaluation(found, benchmark.name)
    return found


def _evaluated(run: Run, benchmark: AnyBenchmark, scored: Iterator[tuple[str, str, Comparisons]]) -> Evaluated:
    weights = identity_weights(benchmark.identities, run.profile.resamples)
    compared = {(condition, kinds): comparisons for condition, kinds, comparisons in scored}
    evaluations, curves = {}, {}
    for place, comparisons in compared.items():
        curves[place] = error_curve(comparisons)
        unmasked = evaluations.get((UNMASKED, "none"))
        evaluations[place] = evaluate(comparisons, weights, unmasked=unmasked, curve=curves[place])
    return Evaluated(run=run, evaluations=evaluations, curves=curves, comparisons=compared)


def _note_opening(run: Run) -> None:
    """Append to ``openings.csv`` that a test set was opened: when, for which run, with which commit."""
    path = paths.runs() / run.profile.name / "openings.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.only_process(path.with_suffix(".lock"), str(path), wait=True), path.open("a", encoding="utf-8") as file:
        if file.tell() == 0:
            file.write("date,benchmark,stage,seed,commit,key\n")
        date = time.strftime("%Y-%m-%d", time.gmtime())
        file.write(f"{date},{run.tested_on.name},{run.name},{run.seed},{_commit()},{run.key}\n")


def on_validation(run: Run) -> dict[str, float]:
    """Return condition -> EER of a trained run on the people held back from its training, with unseen mask kinds."""
    benchmark = benchmark_of(run.profile, split="validation")
    compared = benchmark.comparisons(models.judged_templates(run, benchmark))
    return {condition: measure(found)["eer"].value for condition, kinds, found in compared if kinds != "seen"}


def trial(run: Run) -> dict:
    """Train ``run``, judge it on the validation people and write ``validation.json``: EER by condition."""
    facts = train(run).facts
    found = {
        "stage": run.stage.name,
        "learning_rate": run.overrides.get("learning_rate"),
        "faces": run.faces_spent,
        "seconds": facts["seconds"],
        "eer": on_validation(run),
    }
    files.write_json(run.folder / "validation.json", found)
    return found


def open_evaluation(run: Run) -> Evaluated:
    """Evaluate ``run`` if it was trained; else read what ``results`` holds of it, whatever made that, and say so."""
    if run.model_file.exists() or not run.published_folder.exists():
        return evaluate_run(run)
    return read_evaluation(run, run.published_folder)
