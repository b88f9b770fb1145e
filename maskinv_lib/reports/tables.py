"""Tables of the notebooks: recipes, costs, metrics, stages, contrasts, verdicts and rankings."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

import pandas as pd
from pandas.io.formats.style import Styler

from maskinv_lib.evaluation.metrics import NOT_MEASURABLE, RATES, Metric
from maskinv_lib.evaluation.power import MOST, Need, Prospect
from maskinv_lib.evaluation.rankings import Gap, Standing
from maskinv_lib.evaluation.verdicts import CLAIMS, Claim, Difference, claim_verdicts, in_words
from maskinv_lib.faces import Faces
from maskinv_lib.pipeline.records import Evaluated, Trained
from maskinv_lib.study.plan import Plan
from maskinv_lib.study.runs import Run


def table(frame: pd.DataFrame, caption: str = "") -> Styler:
    """Return a frame in the style of the study: aligned to the left, nothing cut off, a caption above."""
    cells = {"selector": "th, td", "props": "text-align: left; vertical-align: top"}
    heading = {"selector": "caption", "props": "text-align: left; caption-side: top; font-weight: bold"}
    return Styler(frame, uuid="table", cell_ids=False, caption=caption or None).set_table_styles([cells, heading])


def _unlabelled(rows: Iterable[Sequence], columns: Sequence[str] = ("", "value"), caption: str = "") -> Styler:
    """Return a table of these rows without row labels."""
    return table(pd.DataFrame(rows, columns=list(columns)), caption).hide(axis="index")


def title(condition: str, kinds: str) -> str:
    """Return a mask condition in words: ``masked-masked, unseen masks``."""
    return condition if kinds == "none" else f"{condition}, {kinds} masks"


def splits(sets: Mapping[str, Faces]) -> Styler:
    """Return the numbers of people, views per person and faces of each set; sets: name -> faces."""
    rows = [
        (name, faces.identities, f"{len(faces) / faces.identities:.3g}", f"{len(faces):,}")
        for name, faces in sets.items()
    ]
    return _unlabelled(rows, ["set", "people", "views each", "faces"])


def recipe(run: Run) -> Styler:
    """Return the resolved recipe of a run, in words, one row per setting; what a run without training is made of."""
    plan, stage = run.plan, run.stage
    network = ("network", f"{plan.network}, {plan.embedding_size}-D")
    if stage.imported:
        return _unlabelled([network, ("trained here", "nothing")])
    if stage.parts:
        return _unlabelled([("made of", ", ".join(stage.parts)), ("how", stage.how), ("trained here", "nothing")])
    schedule = plan.schedule
    rows = [(term.objective, _settings(term.settings)) for term in plan.objectives]
    rows += [(f"{stage.head} on frozen templates of", stage.base)] if stage.base else []
    rows += [("faces with a mask", f"{plan.mask_probability:.0%}, {plan.mask_kinds} kinds")]
    rows += (
        []
        if stage.base
        else [("starts from", stage.start or "random weights"), ("teacher", stage.teacher or "none"), network]
    )
    rows += [(label, getattr(plan, name)) for label, name in OPTIONAL.items() if getattr(plan, name) != DEFAULTS[name]]
    batch = f"{schedule.batch} samples" + (f" in the views {', '.join(plan.views)}" if len(plan.views) > 1 else "")
    momentum = f"momentum {schedule.momentum:g}, " if schedule.optimizer == "sgd" else ""
    decay = f"weight decay {schedule.weight_decay:g}, clip {schedule.clip:g}"
    ends = f"; it ends after step {plan.last_step:,}" if plan.last_step < plan.steps else ""
    rows += [
        ("budget", f"{schedule.budget:,} faces in {plan.steps:,} steps of {batch}{ends}"),
        ("learning rate", f"{schedule.learning_rate:g}, {schedule.policy}, warm-up {schedule.warm_up:.0%}"),
        ("optimiser", f"{schedule.optimizer}, {momentum}{decay}"),
        ("training faces", run.training_faces.in_words),
        ("seed", f"{run.seed}: first weights {run.weights_seed}, draws {run.draws_seed}"),
        ("precision", plan.precision),
    ]
    return _unlabelled(rows)


OPTIONAL = {
    "sampler": "sampler",
    "what the teacher sees": "teacher_view",
    "flips of teacher and student": "flips",
    "batch norm": "batch_norm",
}
"""Row of the recipe -> field of the plan; shown where the plan differs from the default."""

DEFAULTS = {field.name: field.default for field in dataclasses.fields(Plan)}


def _settings(settings: Mapping[str, object]) -> str:
    texts = {name: f"{value:g}" if isinstance(value, float) else value for name, value in settings.items()}
    return ", ".join(f"{name.rstrip('_')} = {text}" for name, text in texts.items())


def cost(trained: Trained) -> Styler:
    """Return the cost of a training: faces, seconds, faces per second, precision, device and threads."""
    facts = trained.facts
    rows = [
        ("faces, ancestors included", f"{trained.run.faces_spent:,}"),
        ("seconds of training", f"{facts['seconds']:.0f}"),
        ("faces per second", f"{facts['faces_per_second']:.0f}"),
        ("precision", facts["precision"]),
        ("device", facts["device"]),
        ("threads", str(facts["threads"])),
    ]
    return _unlabelled(rows)


def stages(results: Mapping[str, Sequence[Evaluated]]) -> Styler:
    """Return the idea and the cost of each stage.

    Steps and learning rate are those of its own training, after those of the network that it starts from. Faces and
    passes (faces / training faces) contain that network's; seconds are those of its own training, the mean over seeds.
    """
    rows = []
    for evaluated in results.values():
        run, facts = evaluated[0].run, [seed.facts for seed in evaluated]
        seconds = f"{fmean(fact['seconds'] for fact in facts):.0f}"
        precision = ", ".join(sorted({fact["precision"] for fact in facts}))
        cost = (f"{run.faces_spent:,}", _passes(run), seconds, precision)
        rows.append((run.stage.name, run.stage.idea, *_schedule(run), *cost, run.stage.note))
    columns = ["stage", "idea", "learning rate", "steps", "faces", "passes", "seconds", "precision", "note"]
    frame = pd.DataFrame(rows, columns=columns)
    empty = [name for name in columns if not frame[name].any()]
    return table(frame.drop(columns=empty)).hide(axis="index")


def _schedule(run: Run) -> tuple[str, str]:
    """Return (learning rate, steps) of a run's own training, after those of its start; "" for a run without one."""
    if run.stage.imported or run.parts or run.stage.base:
        return "", ""
    rate, steps = f"{run.plan.schedule.learning_rate:g}", f"{run.plan.last_step:,}"
    if run.parent is None or run.parent.stage.imported:
        return rate, steps
    before = _schedule(run.parent)
    return f"{before[0]}, then {rate}" if before[0] != rate else rate, f"{before[1]}, then {steps}"


def _passes(run: Run) -> str:
    faces = run.training_faces.training_count
    return f"{run.faces_spent / faces:.1f}" if faces and run.faces_spent else ""


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

    rows: label -> metric name, or another column -> Metric. names: the columns, in order. A cell contains ``3.1 [2.6,
    3.7]`` or ``not measurable``, or is empty.
    """
    names = [name for name in names if any(name in row for row in rows.values())]
    cells = [[cell(row[name]) if name in row else "" for name in names] for row in rows.values()]
    return table(pd.DataFrame(cells, index=list(rows), columns=[HEADINGS.get(name, name) for name in names]), caption)


def thresholds(evaluated: Evaluated, names: Sequence[str] = ("eer", "fmr100", "fmr1000")) -> Styler:
    """Return the thresholds of one network's rates, each with the condition whose pairs determined it."""
    rows = []
    for case, evaluation in evaluated.evaluations.items():
        rates = [evaluation.metrics[name] for name in names]
        texts = [NOT_MEASURABLE if rate.threshold is None else f"{rate.threshold:.3f}" for rate in rates]
        rows.append([title(*case), *texts, f"{rates[0].genuine:,} genuine, {rates[0].impostor:,} impostor"])
    columns = ["fixed on pairs of", *(HEADINGS[name].removesuffix(" %") for name in names), "comparisons"]
    caption = f"Thresholds of {evaluated.run.name}, seed {evaluated.run.seed}, on {evaluated.run.tested_on.name}"
    return _unlabelled(rows, columns, caption)


def contrasts(
    differences: Sequence[Difference], *, claims: Sequence[Claim] = CLAIMS, caption: str = "Verdicts"
) -> Styler:
    """Return a row per contrast and condition that decides a claim: difference in points with its interval.

    The verdict belongs to the whole contrast and is in its first row; so is a note that all its rows have.
    """
    sentences = {claim.number: claim.sentence for claim in claims}
    columns = ["claim", "contrast", "condition", "metric", "difference in points"]
    columns += ["seeds", "verdict", "note"]
    rows, previous, shown = [], (None, ""), ""
    for row in (row for row in differences if row.claim is not None):
        contrast = in_words(row.stage, row.against)
        claim = f"{row.claim}. {sentences[row.claim]}" if row.claim != previous[0] else ""
        repeated, previous = (row.claim, contrast) == previous, (row.claim, contrast)
        number = "" if row.difference is None else _numbers(row.difference, row.low, row.high, 100, 2)
        names = ["" if repeated else contrast, title(row.condition, row.mask_kinds)]
        decision = [row.seeds, "" if repeated else row.verdict]
        note = "" if repeated and row.note == shown else row.note
        shown = row.note
        rows.append([claim, *names, HEADINGS[row.metric].removesuffix(" %"), number, *decision, note])
    return _unlabelled(rows, columns, caption)


def verdicts(deciding: Iterable[Difference], claims: Sequence[Claim] = CLAIMS) -> Styler:
    """Return a row per claim: its number, sentence and verdict."""
    words = claim_verdicts(list(deciding), claims)
    rows = [(claim.number, claim.sentence, words[claim.number]) for claim in claims]
    return _unlabelled(rows, ["claim", "in words", "verdict"])


def ranking(standings: Sequence[Standing], caption: str = "", *, notes: Mapping[str, str] | None = None) -> Styler:
    """Return a row per stage in order: rank, value, seeds, differences in points to the reference and to the best.

    notes: stage -> what a reader must know (an oracle, fewer seeds), added to the standing's own note.
    """
    if not standings:
        raise ValueError("There is no standing to show: rank at least one stage.")
    reference, best = standings[0].to_reference.against, standings[0].to_best.against
    columns = ["rank", "stage", HEADINGS[standings[0].metric], "seeds"]
    columns += [f"points to {reference}", f"points to the best{f', {best}' if best else ''}", "note"]
    rows = []
    for row in standings:
        value = Metric(name=row.metric, value=row.value, low=row.low, high=row.high, genuine=0, impostor=0)
        cells = ["" if row.rank is None else row.rank, row.stage, cell(value), row.seeds]
        note = (notes or {}).get(row.stage, "")
        texts = [text for text in ("" if note.startswith(row.note) else row.note, note) if text]
        rows.append([*cells, _gap(row, row.to_reference), _gap(row, row.to_best), "; ".join(texts)])
    return _unlabelled(rows, columns, caption).set_properties(subset=columns[1:3], **{"white-space": "nowrap"})


def _gap(standing: Standing, gap: Gap) -> str:
    if gap.difference is None:
        return "—" if gap.against == standing.stage else ""
    return f"{_numbers(gap.difference, gap.low, gap.high, 100, 2)} {gap.word}"


def against(ranked: Mapping[str, Sequence[Standing]], *, names: Sequence[str], caption: str = "") -> Styler:
    """Return a row per stage and a column per condition: its difference to the reference in points, with a verdict.

    ranked: condition in words -> standings, all with the same reference.
    """
    gaps = {title: {row.stage: _gap(row, row.to_reference) for row in rows} for title, rows in ranked.items()}
    return table(pd.DataFrame(gaps).loc[list(names)], caption)


def power(rows: Sequence[Prospect], caption: str = "") -> Styler:
    """Return a row per contrast and condition: what its seeds can show, and the seeds that other differences need.

    Where ``MOST`` seeds are too few, a cell gives the factor on the number of people that would suffice with these
    seeds, ``200, people × 1.5``, or says that no number of people would: ``over 200``.
    """
    sizes = [f"seeds for {100 * need.size:g} point{'s' * (need.size > 0.01)}" for need in rows[0].needs] if rows else []
    columns = ["contrast", "condition", "difference in points", "seeds", "shown from, points", *sizes]
    cells = []
    for row in rows:
        observed, smallest = (f"{100 * value:z.2f}" for value in (row.difference, row.smallest))
        needs = [_need(need) for need in (*row.needs, row.observed)]
        cells.append([f"{row.stage} − {row.against}", title(*row.case), observed, row.seeds, smallest, *needs])
    return _unlabelled(cells, [*columns, "seeds for the observed"], caption)


def planned(frame: pd.DataFrame, caption: str = "") -> Styler:
    """Return the power that was computed before a study (``planning.COLUMNS``), a row per contrast and condition."""
    sentences = {claim.number: claim.sentence for claim in CLAIMS}
    columns = ["claim", "contrast", "condition", "metric", "for points", "power", "shown from, points", "seeds for it"]
    rows, previous = [], (None, "")
    for row in frame.to_dict("records"):
        contrast = in_words(row["stage"], row["against"])
        claim = f"{row['claim']}. {sentences[row['claim']]}" if row["claim"] != previous[0] else ""
        repeated, previous = (row["claim"], contrast) == previous, (row["claim"], contrast)
        numbers = ["not known before", "", ""]
        if not math.isnan(row["power"]):
            seeds = f"over {MOST}" if math.isnan(row["seeds_needed"]) else f"{row['seeds_needed']:.0f}"
            numbers = [f"{row['power']:.0%}", f"{100 * row['shown_from']:.2f}", seeds]
        names = ["" if repeated else contrast, title(row["condition"], row["mask_kinds"])]
        metric = HEADINGS[row["metric"]].removesuffix(" %")
        rows.append([claim, *names, metric, f"{100 * row['of_interest']:g}", *numbers])
    return _unlabelled(rows, columns, caption)


def _need(need: Need) -> str:
    if need.seeds is not None:
        return str(need.seeds)
    if math.isinf(need.people):
        return f"over {MOST}"
    return f"{MOST}, people × {need.people:.1f}" if need.people < 1000 else f"{MOST}, people × over 1,000"
