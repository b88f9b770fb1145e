"""Tables that the notebooks show: of a recipe, its cost, its metrics, the stages, the contrasts and the verdicts."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from maskinv_lib import pipeline
from maskinv_lib.metrics import NOT_MEASURABLE, RATES, Metric
from maskinv_lib.pipeline import Trained
from maskinv_lib.recipes import Profile, RealFaces
from maskinv_lib.records import Evaluated
from maskinv_lib.study import Run
from maskinv_lib.verdicts import CLAIMS, Claim, Difference, claim_verdicts


def table(frame: pd.DataFrame, caption: str = "") -> Styler:
    """Return a frame in the study's look: aligned to the left, nothing cut off, a caption above."""
    left = [{"selector": "th, td", "props": "text-align: left; vertical-align: top"}]
    caption_look = [{"selector": "caption", "props": "text-align: left; caption-side: top; font-weight: bold"}]
    styler = Styler(frame, uuid="table", cell_ids=False, caption=caption or None)
    return styler.set_table_styles([*left, *caption_look])


def title(condition: str, kinds: str) -> str:
    """Return a mask condition in words: ``masked-masked, unseen masks``."""
    return condition if kinds == "none" else f"{condition}, {kinds} masks"


def splits(profile: Profile) -> Styler:
    """Return how many people, views and faces each set of a profile has."""
    if isinstance(profile.faces, RealFaces):
        found = {name: pipeline.faces_of(profile, name) for name in ("train", "validation")}
        cells = [(name, of.identities, f"{len(of) / of.identities:.1f}", f"{len(of):,}") for name, of in found.items()]
    else:
        rows = [(name, *profile.faces.split(name)) for name in ("train", "validation", "test")]
        cells = [(name, len(people), views, f"{len(people) * views:,}") for name, people, views in rows]
    return table(pd.DataFrame(cells, columns=["set", "people", "views each", "faces"])).hide(axis="index")


def recipe(run: Run) -> Styler:
    """Return the resolved recipe of a run, one row per setting, in words."""
    plan = run.plan
    rows = [
        (term.objective, ", ".join(f"{k.rstrip('_')} = {v:g}" for k, v in term.settings.items()))
        for term in plan.objectives
    ]
    rows += [("faces with a mask", f"{plan.mask_probability:.0%}, {plan.mask_kinds} kinds")]
    if run.stage.imported:
        return _plain([("network", f"{plan.network}, {plan.embedding_size}-D"), ("trained here", "nothing")])
    rows += [("starts from", _start(run))]
    rows += [("teacher", run.stage.teacher or "none")]
    rows += [("network", f"{plan.network}, {plan.embedding_size}-D")]
    schedule = plan.schedule
    rows += [("budget", f"{schedule.budget:,} faces in {schedule.steps:,} steps of {schedule.batch}")]
    rows += [("learning rate", f"{schedule.learning_rate:g}, {schedule.policy}, warm-up {schedule.warm_up:.0%}")]
    momentum = f"momentum {schedule.momentum:g}, " if schedule.optimizer == "sgd" else ""
    settings = f"{momentum}weight decay {schedule.weight_decay:g}, clip {schedule.clip:g}"
    rows += [("optimiser", f"{schedule.optimizer}, {settings}")]
    rows += [("training faces", _training_faces(run.profile))]
    rows += [("seed", f"{run.seed}: first weights {run.weights_seed}, draws {run.draws_seed}")]
    rows += [("precision", plan.precision)]
    return _plain(rows)


def _start(run: Run) -> str:
    start = run.stage.start
    if start is None:
        return "random weights"
    return f"{start.stage}" if start.at == 1 else f"{start.stage} at {start.at:.0%} of its schedule"


def _training_faces(profile: Profile) -> str:
    faces = profile.faces
    if isinstance(faces, RealFaces):
        return f"{faces.training} without {faces.validation} validation people and {len(faces.without)} others"
    return f"{faces.train:,} people, {faces.train_views} views each, set {faces.seed}"


def cost(trained: Trained) -> Styler:
    """Return what a training cost: faces, seconds, faces per second, precision and device."""
    facts = trained.facts
    rows = [
        ("faces, ancestors included", f"{pipeline.spent(trained.run):,}"),
        ("seconds of training", f"{facts['seconds']:.0f}"),
        ("faces per second", f"{facts['faces_per_second']:.0f}"),
        ("precision", facts["precision"]),
        ("device", facts["device"]),
        ("threads", str(facts["threads"])),
    ]
    return _plain(rows)


def _plain(rows: Iterable[tuple[str, str]]) -> Styler:
    return table(pd.DataFrame(rows, columns=["", "value"])).hide(axis="index")


def stages(gathered: dict[str, list[Evaluated]]) -> Styler:
    """Return what each stage is and what it spent: its idea, faces, and seconds of training (mean over seeds)."""
    rows = []
    for found in gathered.values():
        facts = [one.facts for one in found]
        seconds = sum(fact["seconds"] for fact in facts) / len(facts)
        rows.append(
            {
                "stage": found[0].run.stage.name,
                "idea": found[0].run.stage.idea,
                "faces": f"{pipeline.spent(found[0].run):,}",
                "seconds": f"{seconds:.0f}",
                "precision": ", ".join(sorted({fact["precision"] for fact in facts})),
            }
        )
    return table(pd.DataFrame(rows)).hide(axis="index")


def cell(metric: Metric) -> str:
    """Return a metric as text: per cent with one more digit below 10, ``3.1 [2.6, 3.7]``, or ``not measurable``."""
    if metric.value is None:
        return NOT_MEASURABLE
    scale = 100 if metric.name in RATES or metric.name == "accuracy" else 1
    digits = {"gmean": 3, "imean": 3, "fdr": 2}.get(metric.name, 1 if scale * metric.value >= 10 else 2)
    return _numbers(metric.value, metric.low, metric.high, scale, digits)


def _numbers(value: float, low: float | None, high: float | None, scale: float, digits: int) -> str:
    texts = [f"{scale * number:z.{digits}f}" for number in (value, low, high) if number is not None]
    return texts[0] if len(texts) < 3 else f"{texts[0]} [{texts[1]}, {texts[2]}]"


HEADINGS = {
    "eer": "EER %",
    "fmr100": "FMR100 %",
    "fmr1000": "FMR1000 %",
    "gmean": "GMean",
    "imean": "IMean",
    "fdr": "FDR",
    "accuracy": "accuracy %",
    "fnmr_at_unmasked_threshold": "FNMR % at unmasked threshold",
    "fmr_at_unmasked_threshold": "FMR % at unmasked threshold",
}
"""Metric name -> the heading of its column."""


def metrics(
    rows: Mapping[str, Mapping[str, Metric]], *, names: Sequence[str] = tuple(HEADINGS), caption: str = ""
) -> Styler:
    """Return a table with a row per label (a stage or a condition) and a column per metric that any row has.

    rows: label -> metric name -> Metric. A cell reads ``3.1 [2.6, 3.7]``, ``not measurable``, or is empty.
    """
    names = [name for name in names if any(name in found for found in rows.values())]
    cells = [[cell(found[name]) if name in found else "" for name in names] for found in rows.values()]
    return table(pd.DataFrame(cells, index=list(rows), columns=[HEADINGS[name] for name in names]), caption)


def thresholds(evaluated: Evaluated, names: Sequence[str] = ("eer", "fmr100", "fmr1000")) -> Styler:
    """Return the thresholds behind one network's rates, each with the condition whose pairs fixed it."""
    cells = []
    for (condition, kinds), evaluation in evaluated.evaluations.items():
        found = [evaluation.metrics[name] for name in names]
        texts = [NOT_MEASURABLE if one.threshold is None else f"{one.threshold:.3f}" for one in found]
        counts = f"{found[0].genuine:,} genuine, {found[0].impostor:,} impostor"
        cells.append([title(condition, kinds), *texts, counts])
    columns = ["fixed on pairs of", *(HEADINGS[name].removesuffix(" %") for name in names), "comparisons"]
    caption = f"Thresholds of {evaluated.run.name}, seed {evaluated.run.seed}, on {evaluated.run.measured_on.name}"
    return table(pd.DataFrame(cells, columns=columns), caption).hide(axis="index")


def contrasts(
    differences: Sequence[Difference], *, claims: Sequence[Claim] = CLAIMS, caption: str = "Verdicts"
) -> Styler:
    """Return a row per contrast and condition that decides a claim: difference in points, interval, p, verdict."""
    sentences = {claim.number: claim.sentence for claim in claims}
    columns = [
        "claim",
        "contrast",
        "condition",
        "metric",
        "difference in points",
        "p (Holm)",
        "seeds",
        "verdict",
        "note",
    ]
    cells, last = [], None
    for row in (row for row in differences if row.claim is not None):
        claim = f"{row.claim}. {sentences[row.claim]}" if row.claim != last else ""
        contrast = f"{row.stage} − {row.against}"
        case = row.condition if row.mask_kinds == "none" else f"{row.condition}, {row.mask_kinds} masks"
        number = "" if row.difference is None else _numbers(row.difference, row.low, row.high, 100, 2)
        p = "" if row.p_holm is None else "< 0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}"
        metric = HEADINGS[row.metric].removesuffix(" %")
        cells.append([claim, contrast, case, metric, number, p, row.seeds, row.verdict, row.note])
        last = row.claim
    return table(pd.DataFrame(cells, columns=columns), caption).hide(axis="index")


def verdicts(deciding: Iterable[Difference], claims: Sequence[Claim] = CLAIMS) -> Styler:
    """Return one row per claim: its number, sentence and verdict."""
    words = claim_verdicts(list(deciding), claims)
    rows = [(claim.number, claim.sentence, words[claim.number]) for claim in claims]
    return table(pd.DataFrame(rows, columns=["claim", "in words", "verdict"])).hide(axis="index")
