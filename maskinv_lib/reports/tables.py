"""Tables that the notebooks show: of a recipe, its cost, its metrics, stages, contrasts, verdicts and rankings."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

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
    """Return a frame in the study's look: aligned to the left, nothing cut off, a caption above."""
    left = [{"selector": "th, td", "props": "text-align: left; vertical-align: top"}]
    caption_look = [{"selector": "caption", "props": "text-align: left; caption-side: top; font-weight: bold"}]
    styler = Styler(frame, uuid="table", cell_ids=False, caption=caption or None)
    return styler.set_table_styles([*left, *caption_look])


def title(condition: str, kinds: str) -> str:
    """Return a mask condition in words: ``masked-masked, unseen masks``."""
    return condition if kinds == "none" else f"{condition}, {kinds} masks"


def splits(sets: Mapping[str, Faces]) -> Styler:
    """Return how many people, views a person and faces each set has; sets: name -> faces."""
    cells = [
        (name, faces.identities, f"{len(faces) / faces.identities:.3g}", f"{len(faces):,}")
        for name, faces in sets.items()
    ]
    return table(pd.DataFrame(cells, columns=["set", "people", "views each", "faces"])).hide(axis="index")


def recipe(run: Run) -> Styler:
    """Return the resolved recipe of a run, one row per setting, in words; of what trains no network, what it is."""
    plan, stage = run.plan, run.stage
    network = ("network", f"{plan.network}, {plan.embedding_size}-D")
    if stage.imported:
        return _plain([network, ("trained here", "nothing")])
    if stage.parts:
        return _plain([("made of", ", ".join(stage.parts)), ("how", stage.how), ("trained here", "nothing")])
    schedule = plan.schedule
    rows = [(term.objective, _settings(term.settings)) for term in plan.objectives]
    rows += [(f"{stage.head} on frozen templates of", stage.base)] if stage.base else []
    rows += [("faces with a mask", f"{plan.mask_probability:.0%}, {plan.mask_kinds} kinds")]
    rows += [] if stage.base else [("starts from", _start(run)), ("teacher", stage.teacher or "none"), network]
    rows += [(name, getattr(plan, field)) for name, field in UNUSUAL if getattr(plan, field) != USUAL[field]]
    seen = f"{schedule.batch} samples" + (f" in the views {', '.join(plan.views)}" if len(plan.views) > 1 else "")
    rows += [("budget", f"{schedule.budget:,} faces in {plan.steps:,} steps of {seen}")]
    rows += [("learning rate", f"{schedule.learning_rate:g}, {schedule.policy}, warm-up {schedule.warm_up:.0%}")]
    momentum = f"momentum {schedule.momentum:g}, " if schedule.optimizer == "sgd" else ""
    settings = f"{momentum}weight decay {schedule.weight_decay:g}, clip {schedule.clip:g}"
    rows += [("optimiser", f"{schedule.optimizer}, {settings}")]
    rows += [("training faces", run.training_faces.in_words)]
    rows += [("seed", f"{run.seed}: first weights {run.weights_seed}, draws {run.draws_seed}")]
    rows += [("precision", plan.precision)]
    return _plain(rows)


UNUSUAL = (
    ("sampler", "sampler"),
    ("what the teacher sees", "teacher_view"),
    ("flips of teacher and student", "flips"),
    ("batch norm", "batch_norm"),
)
USUAL = {field.name: field.default for field in dataclasses.fields(Plan)}


def _settings(settings: Mapping[str, object]) -> str:
    texts = {name: f"{value:g}" if isinstance(value, float) else value for name, value in settings.items()}
    return ", ".join(f"{name.rstrip('_')} = {text}" for name, text in texts.items())


def _start(run: Run) -> str:
    start = run.stage.start
    if start is None:
        return "random weights"
    return f"{start.stage}" if start.at == 1 else f"{start.stage} at {start.at:.0%} of its schedule"


def cost(trained: Trained) -> Styler:
    """Return what a training cost: faces, seconds, faces per second, precision and device."""
    facts = trained.facts
    rows = [
        ("faces, ancestors included", f"{trained.run.faces_spent:,}"),
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
                "faces": f"{found[0].run.faces_spent:,}",
                "seconds": f"{seconds:.0f}",
                "precision": ", ".join(sorted({fact["precision"] for fact in facts})),
                "note": found[0].run.stage.note,
            }
        )
    frame = pd.DataFrame(rows)
    return table(frame if frame["note"].any() else frame.drop(columns="note")).hide(axis="index")


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
    caption = f"Thresholds of {evaluated.run.name}, seed {evaluated.run.seed}, on {evaluated.run.tested_on.name}"
    return table(pd.DataFrame(cells, columns=columns), caption).hide(axis="index")


def contrasts(
    differences: Sequence[Difference], *, claims: Sequence[Claim] = CLAIMS, caption: str = "Verdicts"
) -> Styler:
    """Return a row per contrast and condition that decides a claim: difference in points and interval.

    p and verdict are the contrast's and stand in its first row.
    """
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
    cells, last = [], (None, "")
    for row in (row for row in differences if row.claim is not None):
        claim = f"{row.claim}. {sentences[row.claim]}" if row.claim != last[0] else ""
        contrast = in_words(row.stage, row.against)
        again = (row.claim, contrast) == last
        case = title(row.condition, row.mask_kinds)
        number = "" if row.difference is None else _numbers(row.difference, row.low, row.high, 100, 2)
        p = "" if row.p_holm is None else "< 0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}"
        metric = HEADINGS[row.metric].removesuffix(" %")
        whole = ["", row.seeds, ""] if again else [p, row.seeds, row.verdict]
        cells.append([claim, "" if again else contrast, case, metric, number, *whole, row.note])
        last = (row.claim, contrast)
    return table(pd.DataFrame(cells, columns=columns), caption).hide(axis="index")


def verdicts(deciding: Iterable[Difference], claims: Sequence[Claim] = CLAIMS) -> Styler:
    """Return one row per claim: its number, sentence and verdict."""
    words = claim_verdicts(list(deciding), claims)
    rows = [(claim.number, claim.sentence, words[claim.number]) for claim in claims]
    return table(pd.DataFrame(rows, columns=["claim", "in words", "verdict"])).hide(axis="index")


def ranking(
    standings: Sequence[Standing],
    titles: Mapping[str, str] | None = None,
    caption: str = "",
    *,
    notes: Mapping[str, str] | None = None,
) -> Styler:
    """Return a row per stage in order: rank, value, seeds, differences in points to the reference and to the best.

    titles: stage -> its name in the table. notes: stage -> what a reader must know (an oracle, fewer seeds), shown
    beside the standing's own note.
    """
    if not standings:
        raise ValueError("There is no standing to show: rank at least one stage.")
    titles, notes, first = titles or {}, notes or {}, standings[0]
    reference, best = (titles.get(gap.against, gap.against) for gap in (first.to_reference, first.to_best))
    columns = ["rank", "stage", HEADINGS[first.metric], "seeds"]
    columns += [f"points to {reference}", f"points to the best{f', {best}' if best else ''}", "note"]
    cells = []
    for one in standings:
        value = Metric(name=one.metric, value=one.value, low=one.low, high=one.high, genuine=0, impostor=0)
        own = ["" if one.rank is None else one.rank, titles.get(one.stage, one.stage), cell(value), one.seeds]
        told = notes.get(one.stage, "")
        words = [text for text in ("" if told.startswith(one.note) else one.note, told) if text]
        cells.append([*own, _gap(one, one.to_reference), _gap(one, one.to_best), "; ".join(words)])
    frame = table(pd.DataFrame(cells, columns=columns, dtype=object), caption).hide(axis="index")
    return frame.set_properties(subset=columns[1:3], **{"white-space": "nowrap"})


def _gap(standing: Standing, gap: Gap) -> str:
    if gap.difference is None:
        return "—" if gap.against == standing.stage else ""
    return f"{_numbers(gap.difference, gap.low, gap.high, 100, 2)} {gap.word}"


def against(ranked: Mapping[str, Sequence[Standing]], *, names: Sequence[str], caption: str = "") -> Styler:
    """Return a row per stage and a column per condition: its difference to the reference in points, and its word.

    ranked: condition in words -> standings, all with one reference.
    """
    by_name = {title: {one.stage: one for one in some} for title, some in ranked.items()}
    rows = [[_gap(found[name], found[name].to_reference) for found in by_name.values()] for name in names]
    return table(pd.DataFrame(rows, index=list(names), columns=list(by_name)), caption)


def cells(rows: Mapping[str, Mapping[str, Metric]], caption: str = "") -> Styler:
    """Return a table of one metric: label -> column -> Metric, a cell each."""
    texts = {label: {column: cell(metric) for column, metric in found.items()} for label, found in rows.items()}
    return table(pd.DataFrame.from_dict(texts, orient="index"), caption)


def power(rows: Sequence[Prospect], caption: str = "") -> Styler:
    """Return a row per contrast and condition: what its seeds can show, and the seeds that other sizes need.

    Where ``MOST`` seeds do not suffice, a cell names the people that would do together with these seeds: ``200, people
    × 1.5``, or says that no number of people would: ``over 200``.
    """
    sizes = [f"seeds for {100 * need.size:g} point{'s' * (need.size > 0.01)}" for need in rows[0].needs] if rows else []
    columns = ["contrast", "condition", "difference in points", "seeds", "shown from, points", *sizes]
    cells = []
    for row in rows:
        observed, smallest = (f"{100 * value:z.2f}" for value in (row.difference, row.smallest))
        needs = [_need(need) for need in (*row.needs, row.observed)]
        cells.append([f"{row.stage} − {row.against}", title(*row.case), observed, row.seeds, smallest, *needs])
    return table(pd.DataFrame(cells, columns=[*columns, "seeds for the observed"]), caption).hide(axis="index")


def _need(need: Need) -> str:
    if need.seeds is not None:
        return str(need.seeds)
    if math.isinf(need.people):
        return f"over {MOST}"
    return f"{MOST}, people × {need.people:.1f}" if need.people < 1000 else f"{MOST}, people × over 1,000"
