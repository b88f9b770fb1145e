"""Every system that is compared with the ladder, as data: the code as released, other margins, neighbours, our own.

One entry a system. What its objective computes stands in one file of ``objectives``; on real people every student
starts from the published teacher, so the same entries are rewritten for that start.
"""

import dataclasses

from maskinv_lib.study.ablation import BASELINE, ELASTIC, RUNGS, TEACHER, guided
from maskinv_lib.study.recipes import Point, Stage, Start, Sweep, Term

MASKED = {"mask_probability": 0.5, "objectives": (ELASTIC,)}
TAUGHT = {"mask_probability": 0.5, "teacher": BASELINE}
HIGH = RUNGS["maskinv-hg"]


def _term(objective: str, **settings: object) -> Term:
    return Term(objective=objective, settings=settings)


PLUS = _term("margins.ElasticFaceArc", deviation=0.0175, order="released")

QUIRKS = {
    "released-masked-teacher": {"teacher_view": "masked"},
    "released-flips": {"flips": "separate"},
    "released-batch-norm": {"batch_norm": "frozen after half an epoch"},
    "released-margins": {"objectives": (PLUS, guided(3000.0))},
}
"""What the published code does other than described, one by one."""

EVERY_QUIRK = {name: value for quirk in QUIRKS.values() for name, value in quirk.items()}


def _released(name: str, title: str, idea: str) -> Stage:
    changes = QUIRKS.get(name, EVERY_QUIRK)
    return dataclasses.replace(HIGH, name=name, title=title, idea=idea, question="as released", **changes)


AS_RELEASED = (
    _released(
        "released-masked-teacher", "HG, teacher masked", "MaskInv-HG, but the teacher is shown the student's mask."
    ),
    _released("released-flips", "HG, separate flips", "MaskInv-HG, but teacher and student are mirrored apart."),
    _released(
        "released-batch-norm", "HG, frozen batch norm", "MaskInv-HG, but batch norm stops learning after half an epoch."
    ),
    _released(
        "released-margins",
        "HG, + margins at random",
        "MaskInv-HG with ElasticFace-Arc+, margins dealt out wrongly.",
    ),
    _released("as-released", "HG as released", "MaskInv-HG with all four at once."),
    dataclasses.replace(
        HIGH,
        name="maskinv-lambda100-continued",
        title="MaskInv-HG, lambda 100",
        idea="Low guidance with MaskInv-HG's start and schedule: the cell that tells lambda from the start.",
        question="guidance",
        objectives=(ELASTIC, guided(100.0)),
    ),
)
"""MaskInv-HG with each fault of the published code, with all, and the missing cell of lambda against start."""


def _margin(name: str, title: str, idea: str, term: Term) -> Stage:
    return Stage(name=name, title=title, idea=idea, question="margins", objectives=(term,), tuned_as=BASELINE)


MARGINS = (
    _margin(
        "elasticface-arc-plus",
        "ElasticFace-Arc+",
        "The largest margins of a batch go to the faces furthest from their centres.",
        _term("margins.ElasticFaceArc", deviation=0.0175, order="sorted"),
    ),
    _margin(
        "elasticface-cos",
        "ElasticFace-Cos",
        "The drawn margin is subtracted from the cosine.",
        _term("margins.ElasticFaceCos", margin=0.35, deviation=0.05),
    ),
    _margin("arcface", "ArcFace", "The same angle for every face.", _term("margins.ArcFace")),
    _margin("cosface", "CosFace", "The same amount off every cosine.", _term("margins.CosFace", margin=0.35)),
)
"""Alternatives of the baseline, on clean faces."""

NEIGHBOURS = (
    Stage(
        name="ekd",
        title="EKD",
        idea="Match the teacher's ranking of pairs at the thresholds that an evaluation would use.",
        question="neighbours",
        objectives=(_term("ekd.EKD", margin=0.4),),
        sampler="half balanced",
        scaled="the hardest negatives are the published share of all, not 2,000",
        reduced="64 faces have pairs for thresholds at FPR 10^-1 to 10^-3, 256 to 10^-4; published is 10^-6",
        **TAUGHT,
    ),
    Stage(
        name="gkd",
        title="GKD",
        idea="Distil the teacher's class probabilities, the likely classes among themselves and against the rest.",
        question="neighbours",
        objectives=(_term("gkd.GKD", margin=0.4),),
        scaled="groups grow by a hundredth of the classes, the warm-up takes 10/26 of the budget, and logits are"
        " distilled at the published scale of 64",
        **TAUGHT,
    ),
    Stage(
        name="adadistill-arc",
        title="AdaDistill, Arc",
        idea="A margin loss whose class centres follow the teacher's templates, faster where the student is ready.",
        question="neighbours",
        objectives=(_term("adadistill.AdaDistill", kind="arc", margin=0.5),),
        **TAUGHT,
    ),
    Stage(
        name="adadistill-cos",
        title="AdaDistill, Cos",
        idea="The same with a margin on the cosine.",
        question="neighbours",
        objectives=(_term("adadistill.AdaDistill", kind="cos", margin=0.35),),
        **TAUGHT,
    ),
    Stage(
        name="rkd",
        title="RKD",
        idea="Match the distances and angles among the teacher's templates instead of the templates.",
        question="neighbours",
        objectives=(ELASTIC, _term("rkd.RKD")),
        **TAUGHT,
    ),
    Stage(
        name="focusface",
        title="FocusFace",
        idea="Clean and masked face of a pair in one network, told to agree; a second head tells who wears a mask.",
        question="neighbours",
        objectives=(_term("focusface.FocusFace", margin=0.5),),
        views=("clean", "masked"),
        mask_probability=1.0,
    ),
    Stage(
        name="srt",
        title="SRT",
        idea="A small network moves the frozen templates of faces that a classifier takes for masked.",
        question="neighbours",
        parts=(BASELINE, "eum", "mask-classifier"),
        how="by predicted mask",
    ),
    Stage(
        name="srt-oracle",
        title="SRT, oracle",
        idea="The same, told at the test who wears a mask.",
        question="neighbours",
        parts=(BASELINE, "eum"),
        how="by true mask",
        oracle=True,
    ),
    Stage(
        name="meer",
        title="MEER",
        idea="Part mask from identity, and restore the unmasked face while training, so that the embedding keeps it.",
        question="neighbours",
        objectives=(_term("meer.MEER", margin=0.5),),
        views=("masked", "restored"),
        reading="its losses, decoder and weights, which were never published",
        **TAUGHT,
    ),
    Stage(
        name="two-branch",
        title="Two branches",
        idea="One branch sees the whole face, one the eyes; their features stand side by side.",
        question="neighbours",
        network="two-branch",
        reading="which branches, and how they are joined",
        **MASKED,
    ),
)
"""Other methods for masked faces, and other ways to distil, at the same budget."""

BASELINES = (
    Stage(
        name="upper-face",
        title="Upper face only",
        idea="A network that never sees what a mask could hide.",
        question="baselines",
        network="upper-face",
        **MASKED,
    ),
    Stage(
        name="full-and-upper",
        title="Full and upper face",
        idea="Templates of the augmented network and of the upper face side by side, at twice the budget.",
        question="baselines",
        parts=("elasticface-arc-aug", "upper-face"),
        how="concatenate",
    ),
    Stage(
        name="mask-aware",
        title="Mask-aware choice",
        idea="The teacher for faces that a classifier takes for unmasked, its high-guidance student for the others.",
        question="baselines",
        parts=(BASELINE, "maskinv-lambda3000", "mask-classifier"),
        how="by predicted mask",
    ),
    Stage(
        name="mask-aware-oracle",
        title="Mask-aware choice, oracle",
        idea="The same, told at the test who wears a mask.",
        question="baselines",
        parts=(BASELINE, "maskinv-lambda3000"),
        how="by true mask",
        oracle=True,
    ),
)
"""What anybody would try before distilling."""

INGREDIENTS = (
    Stage(
        name="eum",
        title="EUM",
        idea="SRT's small network on the teacher's frozen templates.",
        question="ingredient",
        base=BASELINE,
        head="eum",
        mask_probability=1.0,
    ),
    Stage(
        name="mask-classifier",
        title="Mask classifier",
        idea="Tells from the teacher's template whether a face wears a mask.",
        question="ingredient",
        base=BASELINE,
        head="mask-classifier",
        mask_probability=0.5,
        tuned_as=BASELINE,
    ),
)
"""Heads on frozen templates: parts of systems, none by themselves."""


def _own(name: str, title: str, idea: str, *objectives: Term, **changes: object) -> Stage:
    return Stage(name=name, title=title, idea=idea, question="own", objectives=objectives, **{**TAUGHT, **changes})


OURS = (
    _own(
        "own-two-masks",
        "Own: two masks",
        "Two masked copies of each face, both pulled to the one clean template.",
        ELASTIC,
        _term("two_masks.TwoMasks"),
        views=("masked", "masked-2"),
    ),
    _own(
        "own-relations",
        "Own: relations across masks",
        "A masked face keeps not only its template but its similarities to everybody's clean template.",
        ELASTIC,
        guided(3000.0),
        _term("relations.MaskRelations"),
    ),
    _own(
        "own-adaptive-centres",
        "Own: adaptive centres with template KD",
        "AdaDistill's class centres, made of teacher templates, together with high guidance.",
        _term("adadistill.AdaDistill", kind="arc", margin=0.5, lambda_=3000.0),
    ),
    _own(
        "own-coverage",
        "Own: guidance by coverage",
        "The more of a face is covered, the more its template is guided.",
        ELASTIC,
        guided(3000.0, by_coverage=1.0),
    ),
    _own(
        "own-recoloured",
        "Own: masks of any colour",
        "High guidance with masks, and the shadows that they cast, in colours that no palette holds.",
        ELASTIC,
        guided(3000.0),
        mask_kinds="recoloured",
    ),
)
"""Our candidates, all of them, written down before the first was trained. Validation people choose one; the test
people see that one alone."""


def _line(stage: str, setting: str, values: tuple, usual: object) -> tuple[Point, ...]:
    """Return a method's points; where the setting has its usual value, the point is the stage itself."""
    return tuple(Point(x=value, stage=stage, overrides={} if value == usual else {setting: value}) for value in values)


GUIDANCE = _line("maskinv-lambda3000", "lambda", (0.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0), 3000.0)
"""At one learning rate, from the same first weights: maskinv-lg, a rung with a rate of its own, is none of these."""

SWEPT = {
    "masks alone": "elasticface-arc-aug",
    "guidance alone": "kd-only",
    "guidance and margin": "maskinv-lambda3000",
}

RENDERED_SWEEPS = (
    Sweep(
        name="guidance",
        question="Does guidance help, and how much of it?",
        axis="lambda",
        lines={"margin with guidance": GUIDANCE},
    ),
    Sweep(
        name="people",
        question="How many training people turn guidance alone into guidance and margin?",
        axis="training people",
        lines={line: _line(stage, "people", (100, 300, 1000), 300) for line, stage in SWEPT.items()},
    ),
    Sweep(
        name="masks",
        question="How many of the training faces should wear a mask?",
        axis="mask probability",
        lines={
            line: _line(SWEPT[line], "mask_probability", (0.1, 0.3, 0.5, 0.75, 1.0), 0.5)
            for line in ("masks alone", "guidance and margin")
        },
        logarithmic=False,
    ),
)
"""Settings turned over their range. 0.1 of masked faces is what others use, 0.5 is the paper's."""

SWEEPS = {"rendered": RENDERED_SWEEPS, "real": ()}
"""Kind of people -> the sweeps of its studies."""

OTHER_MASKS = tuple(
    Point(x=0, stage=SWEPT[line], overrides={"mask_kinds": "unseen"}) for line in ("masks alone", "guidance and margin")
)
"""The same methods trained with the mask kinds that otherwise only judge: what is seen and unseen trades places."""

METHODS = AS_RELEASED + MARGINS + NEIGHBOURS + BASELINES + INGREDIENTS + OURS


def on_real_people(stage: Stage) -> Stage:
    """Return a system of the rendered study as it is on few real people: its student starts from the teacher."""
    names = {BASELINE: TEACHER, "maskinv-lambda3000": "maskinv-hg"}

    def renamed(name: str | None) -> str | None:
        return names.get(name, name)

    start = Start(stage=TEACHER, at=1.0) if stage.trained else None
    tuned = "finetune-clean" if stage.question == "margins" else renamed(stage.tuned_as)
    return dataclasses.replace(
        stage,
        start=start,
        share=1.0,
        tuned_as=tuned,
        teacher=renamed(stage.teacher),
        base=renamed(stage.base),
        parts=tuple(map(renamed, stage.parts)),
    )


RENDERED_ONLY = ("maskinv-lambda100-continued", "two-branch", *QUIRKS, *(stage.name for stage in MARGINS))
"""Left out of real people, where every student starts from a published network.

The missing cell is MaskInv-LG there, half a network cannot start from a whole one, the loss that made the teacher is
not ours to vary, and what each fault of the published code does by itself the rendered people tell.
"""

REAL_METHODS = tuple(on_real_people(stage) for stage in METHODS if stage.name not in RENDERED_ONLY)
