"""Every method compared with the ablation: the code as released, other margins, published methods, baselines, our own.

One entry defines one method by its settings. What its objective computes is in one file of ``training.objectives``. On
real people every student starts from the published teacher: ``on_real_people`` rewrites the same entries for that.
"""

import dataclasses
from functools import partial

from maskinv_lib.study.ablation import BASELINE, ELASTIC, HG_START, RUNGS, START, TAUGHT, TEACHER, TWINS, guided
from maskinv_lib.study.recipes import Point, Stage, Sweep, Term

MASKED = {"mask_probability": 0.5, "objectives": (ELASTIC,)}

_released = partial(dataclasses.replace, RUNGS["maskinv-hg"], question="as released")
_margin = partial(Stage, question="margins", tuned_as=BASELINE)
_neighbour = partial(Stage, question="neighbours")
_student = partial(_neighbour, **TAUGHT)
_baseline = partial(Stage, question="baselines")
_head = partial(Stage, question="ingredient", base=BASELINE)
_own = partial(Stage, question="own", **TAUGHT)


def _term(objective: str, **settings: object) -> Term:
    return Term(objective=objective, settings=settings)


PLUS = _term("margins.ElasticFaceArc", deviation=0.0175, order="released")

AS_RELEASED = (
    _released(
        name="released-masked-teacher",
        title="HG, teacher masked",
        idea="MaskInv-HG, but the teacher sees the same masked face as the student.",
        teacher_view="masked",
    ),
    _released(
        name="released-flips",
        title="HG, separate flips",
        idea="MaskInv-HG, but the faces of teacher and student are flipped independently.",
        flips="separate",
    ),
    _released(
        name="released-batch-norm",
        title="HG, frozen batch norm",
        idea="MaskInv-HG, but batch norm stops learning after half of the first of 26 epochs.",
        batch_norm="frozen after half an epoch",
    ),
    _released(
        name="released-margins",
        title="HG, + margins at random",
        idea="MaskInv-HG with ElasticFace-Arc+, but its margins are assigned to the wrong faces.",
        objectives=(PLUS, guided(3000.0)),
    ),
    _released(
        name="as-released",
        title="HG as released",
        idea="MaskInv-HG with all four differences at once.",
        teacher_view="masked",
        flips="separate",
        batch_norm="frozen after half an epoch",
        objectives=(PLUS, guided(3000.0)),
    ),
)
"""MaskInv-HG with each difference of the published code, and with all of them."""

LAMBDA_400 = Stage(
    name="maskinv-lambda400",
    title="MaskInv, lambda 400",
    idea="The strength that lambda 100 has at 128-D, where the mean squared error divides by 128 instead of 512.",
    question="guidance",
    objectives=(ELASTIC, guided(400.0)),
    **TAUGHT,
)

MARGINS = (
    _margin(
        name="elasticface-arc-plus",
        title="ElasticFace-Arc+",
        idea="The largest margins of a batch go to the faces furthest from their centres.",
        objectives=(_term("margins.ElasticFaceArc", deviation=0.0175, order="sorted"),),
    ),
    _margin(
        name="elasticface-cos",
        title="ElasticFace-Cos",
        idea="The drawn margin is subtracted from the cosine.",
        objectives=(_term("margins.ElasticFaceCos", margin=0.35, deviation=0.05),),
    ),
    _margin(
        name="arcface",
        title="ArcFace",
        idea="The same angle is added for every face.",
        objectives=(_term("margins.ArcFace"),),
    ),
    _margin(
        name="cosface",
        title="CosFace",
        idea="The same margin is subtracted from every cosine.",
        objectives=(_term("margins.CosFace", margin=0.35),),
    ),
)
"""Alternatives to the baseline's margin, on clean faces."""

NEIGHBOURS = (
    _student(
        name="ekd",
        title="EKD",
        idea="Match the teacher's ranking of pairs at the thresholds that an evaluation would use.",
        objectives=(_term("ekd.EKD", margin=0.4),),
        sampler="half balanced",
        scaled="the hardest negatives are the published share of all, not 2,000",
        reduced="32 faces have pairs for thresholds at FPR 10^-1 and 10^-2, 64 to 10^-3, 256 to 10^-4; published is"
        " 10^-6",
    ),
    _student(
        name="gkd",
        title="GKD",
        idea="Distil the teacher's class probabilities, the likely classes among themselves and against the rest.",
        objectives=(_term("gkd.GKD", margin=0.4),),
        scaled="groups grow by a hundredth of the classes, the warm-up takes 10/26 of the budget, and logits are"
        " distilled at the published scale of 64",
    ),
    _student(
        name="adadistill-arc",
        title="AdaDistill, Arc",
        idea="A margin loss whose class centres follow the teacher's templates, faster the closer the student is.",
        objectives=(_term("adadistill.AdaDistill", kind="arc", margin=0.5),),
    ),
    _student(
        name="adadistill-cos",
        title="AdaDistill, Cos",
        idea="AdaDistill with a margin on the cosine.",
        objectives=(_term("adadistill.AdaDistill", kind="cos", margin=0.35),),
    ),
    _student(
        name="rkd",
        title="RKD",
        idea="Match the distances and angles among the teacher's templates instead of the templates.",
        objectives=(ELASTIC, _term("rkd.RKD")),
    ),
    _neighbour(
        name="focusface",
        title="FocusFace",
        idea="Clean and masked face of a pair in one network, trained to agree; a second head predicts masks.",
        objectives=(_term("focusface.FocusFace", margin=0.5),),
        views=("clean", "masked"),
        mask_probability=1.0,
    ),
    _neighbour(
        name="srt",
        title="SRT",
        idea="A small network corrects the frozen templates of faces that a classifier predicts to be masked.",
        parts=(BASELINE, "eum", "mask-classifier"),
        how="by predicted mask",
    ),
    _neighbour(
        name="srt-oracle",
        title="SRT, oracle",
        idea="SRT, given the truth about who wears a mask.",
        parts=(BASELINE, "eum"),
        how="by true mask",
        oracle=True,
    ),
    _student(
        name="meer",
        title="MEER",
        idea="Separate mask from identity, and restore the unmasked face in training, so that the embedding keeps it.",
        objectives=(_term("meer.MEER", margin=0.5),),
        views=("masked", "restored"),
        reading="its losses, decoder and weights, which were never published",
    ),
    _neighbour(
        name="two-branch",
        title="Two branches",
        idea="One branch sees the whole face, the other the eyes; their features are concatenated.",
        network="two-branch",
        reading="which branches, and how they are joined",
        **MASKED,
    ),
)
"""Published methods for masked faces, and other ways to distil, at the same budget."""

BASELINES = (
    _baseline(
        name="upper-face",
        title="Upper face only",
        idea="A network that never sees the part of the face that a mask could cover.",
        network="upper-face",
        **MASKED,
    ),
    _baseline(
        name="full-and-upper",
        title="Full and upper face",
        idea="The templates of the augmented network and of the upper face, concatenated, at twice the budget.",
        parts=("elasticface-arc-aug", "upper-face"),
        how="concatenate",
    ),
    _baseline(
        name="mask-aware",
        title="Mask-aware choice",
        idea="The teacher for faces that a classifier predicts to be unmasked, its high-guidance student for the rest.",
        parts=(BASELINE, "maskinv-lambda3000", "mask-classifier"),
        how="by predicted mask",
    ),
    _baseline(
        name="mask-aware-oracle",
        title="Mask-aware choice, oracle",
        idea="The mask-aware choice, given the truth about who wears a mask.",
        parts=(BASELINE, "maskinv-lambda3000"),
        how="by true mask",
        oracle=True,
    ),
)
"""Simple methods to try before distillation."""

INGREDIENTS = (
    START,
    _head(
        name="eum",
        title="EUM",
        idea="SRT's small network on the teacher's frozen templates.",
        head="eum",
        mask_probability=1.0,
    ),
    _head(
        name="mask-classifier",
        title="Mask classifier",
        idea="Predicts from the teacher's template whether a face wears a mask.",
        head="mask-classifier",
        mask_probability=0.5,
        tuned_as=BASELINE,
    ),
)
"""Parts of other methods, not compared by themselves: the start of MaskInv-HG, and heads on frozen templates."""

OURS = (
    _own(
        name="own-two-masks",
        title="Own: two masks",
        idea="Two masked copies of each face, both pulled towards its one clean template.",
        objectives=(ELASTIC, _term("two_masks.TwoMasks")),
        views=("masked", "masked-2"),
    ),
    _own(
        name="own-relations",
        title="Own: relations across masks",
        idea="A masked face keeps its clean template and also its similarities to the clean templates of all faces.",
        objectives=(ELASTIC, guided(3000.0), _term("relations.MaskRelations")),
    ),
    _own(
        name="own-adaptive-centres",
        title="Own: adaptive centres with template KD",
        idea="AdaDistill's class centres, computed from the teacher's templates, together with high guidance.",
        objectives=(_term("adadistill.AdaDistill", kind="arc", margin=0.5, lambda_=3000.0),),
    ),
    _own(
        name="own-coverage",
        title="Own: guidance by coverage",
        idea="The larger the covered part of a face, the stronger the guidance of its template.",
        objectives=(ELASTIC, guided(3000.0, by_coverage=1.0)),
    ),
    _own(
        name="own-recoloured",
        title="Own: masks of any colour",
        idea="High guidance with masks and mask shadows in colours outside every palette.",
        objectives=(ELASTIC, guided(3000.0)),
        mask_kinds="recoloured",
    ),
)
"""All our candidates, written down before the first was trained. One is chosen on validation people; only that one is
evaluated on test people."""


def _line(stage: str, setting: str, values: tuple, default: object) -> tuple[Point, ...]:
    """Return a method's points; where the setting has its default value, the point is the stage itself."""
    return tuple(
        Point(x=value, stage=stage, overrides={} if value == default else {setting: value}) for value in values
    )


STRENGTHS = {0.0: "elasticface-arc-aug", 100.0: "maskinv-lg", 400.0: LAMBDA_400.name, 3000.0: "maskinv-lambda3000"}
"""Lambda -> the stage from random weights that trains with it; without guidance, it is the one with masks alone."""

GUIDANCE = tuple(
    Point(x=x, stage=STRENGTHS.get(x, "maskinv-lambda3000"), overrides={} if x in STRENGTHS else {"lambda": x})
    for x in (0.0, 30.0, 100.0, 400.0, 1000.0, 3000.0, 10000.0)
)
"""Lambda from none to far above the paper's, with one learning rate and the same initial weights."""

SWEPT = {
    "masks alone": "elasticface-arc-aug",
    "guidance alone": "kd-only",
    "guidance and margin": "maskinv-lambda3000",
}
"""Line of a sweep -> its stage."""

MASK_LINES = ("masks alone", "guidance and margin")
"""The lines whose masks are varied."""

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
        lines={line: _line(SWEPT[line], "mask_probability", (0.1, 0.3, 0.5, 0.75, 1.0), 0.5) for line in MASK_LINES},
        logarithmic=False,
    ),
)
"""Single settings varied over a range. A mask probability of 0.1 is common elsewhere, 0.5 is the paper's."""

SWEEPS = {"rendered": RENDERED_SWEEPS, "real": ()}
"""Kind of people -> the sweeps of its studies."""

OTHER_MASKS = tuple(Point(x=0, stage=SWEPT[line], overrides={"mask_kinds": "unseen"}) for line in MASK_LINES)
"""The same methods with the mask kinds of training and test exchanged: trained with those otherwise kept for tests."""

CLAIMED = ("released-masked-teacher", "upper-face")
"""The methods beside the ablation that claims are about: a study of rendered people runs them with every seed."""

METHODS = (*TWINS, LAMBDA_400, *AS_RELEASED, *MARGINS, *NEIGHBOURS, *BASELINES, *INGREDIENTS, *OURS)


def on_real_people(stage: Stage) -> Stage:
    """Return a method as it is defined on few real people: its student starts from the published teacher."""
    names = {BASELINE: TEACHER, "maskinv-lambda3000": "maskinv-hg"}

    def renamed(name: str | None) -> str | None:
        return names.get(name, name)

    return dataclasses.replace(
        stage,
        start=TEACHER if stage.trained else None,
        share=1.0,
        stop=1.0,
        tuned_as="finetune-clean" if stage.question == "margins" else renamed(stage.tuned_as),
        teacher=renamed(stage.teacher),
        base=renamed(stage.base),
        parts=tuple(map(renamed, stage.parts)),
    )


RENDERED_ONLY = {"two-branch", HG_START, LAMBDA_400.name}
RENDERED_ONLY |= {stage.name for stage in TWINS + AS_RELEASED + MARGINS} - {"as-released"}
"""Methods left out on real people, where every student starts from a published network.

There MaskInv-LG and the network fine-tuned with masks are the twins of MaskInv-HG, the two-branch network cannot start
from the teacher's weights, the margin of the teacher's training cannot be varied, and each single difference of the
published code is tested on rendered people.
"""

REAL_METHODS = tuple(on_real_people(stage) for stage in METHODS if stage.name not in RENDERED_ONLY)
