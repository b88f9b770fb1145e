"""Evaluate one trained run on its benchmark or on validation people."""

import time

from maskinv_lib.evaluation.conditions import evaluate_conditions
from maskinv_lib.evaluation.curves import equal_error_rate
from maskinv_lib.evaluation.metrics import error_curve
from maskinv_lib.pipeline import models
from maskinv_lib.pipeline.records import Evaluated, read_evaluation, write_evaluation
from maskinv_lib.pipeline.sources import AnyBenchmark, benchmark_of
from maskinv_lib.pipeline.train import git_commit, train
from maskinv_lib.study import made
from maskinv_lib.study.data import CONDITIONS
from maskinv_lib.study.runs import Run
from maskinv_lib.study.tuning import TRIAL_RESULT
from maskinv_lib.utils import files, paths


def evaluate_run(run: Run) -> Evaluated:
    """Evaluate ``run`` on its benchmark and write ``metrics.json`` and ``resamples.npz``."""
    models.check_models(run)  # an untrained run is an error before any face is rendered
    benchmark = benchmark_of(run.profile, run.benchmark)
    _record_opening(run)
    evaluated = _evaluated(run, benchmark)
    write_evaluation(evaluated, benchmark.name)
    return evaluated


def _evaluated(run: Run, benchmark: AnyBenchmark) -> Evaluated:
    templates = models.templates_of(run, benchmark)
    measured = evaluate_conditions(benchmark, templates, resamples=run.profile.resamples)
    parts = {"evaluations": measured.evaluations, "curves": measured.curves, "comparisons": measured.comparisons}
    return Evaluated(run=run, **parts)


def _record_opening(run: Run) -> None:
    """Append a line to ``openings.csv``: when a test set was opened, for which run, with which commit."""
    path = paths.runs() / run.profile.name / "openings.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.only_process(path.with_suffix(".lock"), str(path), wait=True), path.open("a+b") as file:
        size = file.tell()
        file.seek(max(0, size - 1))
        head = "" if file.read() == b"\n" else "\n" if size else "date,benchmark,stage,seed,commit,key\n"
        date = time.strftime("%Y-%m-%d", time.gmtime())
        line = f"{date},{run.tested_on.name},{run.name},{run.seed},{git_commit()},{run.key}\n"
        file.write(f"{head}{line}".encode())  # below a line whose writer was killed


def on_validation(run: Run) -> dict[str, float]:
    """Return condition -> EER of a trained run on its validation people."""
    benchmark = benchmark_of(run.profile, split="validation")
    comparisons = benchmark.comparisons(models.trial_templates(run, benchmark))
    curves = {condition: error_curve(scores) for condition, _, scores in comparisons if condition in CONDITIONS}
    return {condition: equal_error_rate(curve)[0] for condition, curve in curves.items()}


def trial(run: Run) -> dict:
    """Train ``run``, evaluate it on the validation people and write ``validation.json``: EER by condition."""
    facts = train(run).facts
    result = {
        "stage": run.stage.name,
        "learning_rate": run.overrides.get("learning_rate"),
        "faces": run.faces_spent,
        "seconds": facts["seconds"],
        "eer": on_validation(run),
    }
    with made.trial(run).making():
        files.write_json(run.folder / TRIAL_RESULT, result)
    return result


def open_evaluation(run: Run) -> Evaluated:
    """Evaluate ``run`` if it was trained; otherwise read its published results, as ``source`` then states."""
    if run.model_file.exists() or not run.published_folder.exists():
        return evaluate_run(run)
    return read_evaluation(run, run.published_folder)
