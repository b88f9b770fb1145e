"""The rungs of the published ablation: one list for rendered people, one for few real people."""

import dataclasses
from functools import partial

from maskinv_lib.study.recipes import Stage, Term

ELASTIC = Term(objective="margins.ElasticFaceArc", settings={"deviation": 0.05})


def guided(strength: float, **settings: object) -> Term:
    """Return template distillation with lambda as the paper states it."""
    return Term(objective="template_kd.TemplateKD", settings={"lambda_": strength, **settings})


BASELINE = "elasticface-arc"

HG_START = "maskinv-lg-start"
"""The network from which MaskInv-HG and its twins start."""

WHOLE = 26 / 46
"""Part of the budget that MaskInv-HG's own schedule takes: 26 epochs, after 20 of the 26 epochs of MaskInv-LG."""

TAUGHT = {"mask_probability": 0.5, "teacher": BASELINE}
"""Settings of the students: half of the faces wear a mask, and the baseline is the teacher."""

ABLATION = (
    Stage(
        name=BASELINE,
        title="ElasticFace-Arc",
        idea="The baseline and every student's teacher: a margin loss on clean faces.",
        objectives=(ELASTIC,),
    ),
    Stage(
        name="elasticface-arc-aug",
        title="ElasticFace-Arc-Aug",
        idea="The same loss, but half of the faces wear a drawn mask.",
        objectives=(ELASTIC,),
        mask_probability=0.5,
    ),
    Stage(
        name="kd-only",
        title="KD only",
        idea="No margin loss: the student only imitates the teacher's template of the clean face.",
        objectives=(guided(3000.0),),
        **TAUGHT,
    ),
    Stage(
        name="maskinv-lg",
        title="MaskInv-LG",
        idea="Margin loss and template distillation with low guidance, lambda 100, from random weights.",
        objectives=(ELASTIC, guided(100.0)),
        **TAUGHT,
    ),
    Stage(
        name="maskinv-lambda3000",
        title="MaskInv, lambda 3000",
        idea="Lambda 3000, from random weights: separates the effect of lambda from the start, which HG changes too.",
        objectives=(ELASTIC, guided(3000.0)),
        **TAUGHT,
    ),
    Stage(
        name="maskinv-hg",
        title="MaskInv-HG",
        idea="High guidance, lambda 3000, a whole schedule from MaskInv-LG's backbone at 20/26 of its own, with a fresh"
        " head.",
        objectives=(ELASTIC, guided(3000.0)),
        **TAUGHT,
        start=HG_START,
        share=WHOLE,
        tuned_as="maskinv-lambda3000",
    ),
)
"""The six rungs: the published step-wise ablation (Huber et al., FG 2021), and MaskInv, lambda 3000, which it lacks."""

RUNGS = {stage.name: stage for stage in ABLATION}

START = dataclasses.replace(
    RUNGS["maskinv-lg"],
    name=HG_START,
    title="MaskInv-LG, 20 of 26 epochs",
    idea="The start of MaskInv-HG and its twins: MaskInv-LG up to 20/26 of its schedule.",
    question="ingredient",
    share=WHOLE,
    stop=20 / 26,
    tuned_as="maskinv-lg",
)

_twin = partial(dataclasses.replace, RUNGS["maskinv-hg"], question="guidance")

TWINS = (
    _twin(
        name="maskinv-lambda100-continued",
        title="MaskInv-HG, lambda 100",
        idea="MaskInv-HG with low guidance: the same start, schedule, draws and head, so that lambda alone differs.",
        objectives=(ELASTIC, guided(100.0)),
    ),
    _twin(
        name="maskinv-lambda0-continued",
        title="MaskInv-HG, lambda 0",
        idea="MaskInv-HG without guidance: what the longer training alone gives.",
        objectives=(ELASTIC,),
        teacher=None,
    ),
)
"""MaskInv-HG with less guidance, at equal start and equal faces. From random weights its counterparts are rungs."""

TRIED = (BASELINE, "elasticface-arc-aug", "maskinv-lambda3000")
"""The rungs with which one learning rate is chosen for all: clean faces, masks, and masks with high guidance."""

TEACHER = "teacher"
"""The imported network of the ablation on real people, and its baseline."""


def _from_teacher(name: str, **changes: object) -> Stage:
    """Return a rung whose student starts from the published teacher and has the whole budget."""
    teacher = TEACHER if RUNGS[name].teacher else None
    plain = {"start": TEACHER, "share": 1.0, "tuned_as": ""}
    return dataclasses.replace(RUNGS[name], teacher=teacher, **plain, **changes)


REAL_ABLATION = (
    Stage(
        name=TEACHER,
        title="Teacher",
        idea="The published network, unchanged: the baseline, every student's teacher and its start.",
        imported=True,
    ),
    Stage(
        name="finetune-clean",
        title="Fine-tuned, clean",
        idea="The control: the margin loss on clean faces; separates the effect of fine-tuning from that of masks.",
        objectives=(ELASTIC,),
        start=TEACHER,
    ),
    _from_teacher("elasticface-arc-aug", idea="The margin loss, but half of the faces wear a drawn mask."),
    _from_teacher("kd-only"),
    _from_teacher("maskinv-lg", idea="Margin loss and template distillation with low guidance, lambda 100."),
    _from_teacher(
        "maskinv-hg",
        idea="High guidance, lambda 3000. Like all, it starts from the teacher: it differs from LG only in lambda.",
    ),
)
"""The ablation on few real people: every student starts from the teacher, because a few hundred identities cannot
train a network from random weights. So MaskInv-HG and the rung with lambda 3000 are the same here."""
