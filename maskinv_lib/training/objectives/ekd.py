"""Evaluation-oriented distillation: a pair should have the rank among the impostors that it has for the teacher.

A recogniser is evaluated by the share of genuine pairs above a threshold that accepts a given share of impostor pairs.
Therefore EKD (Huang et al., CVPR 2022, arXiv 2206.02325) does not compare the templates of student and teacher, but the
rank of each pair's cosine among such thresholds.
"""

import dataclasses

import torch
from torch import Tensor

from maskinv_lib.training.objectives import Batch, Context, unit
from maskinv_lib.training.objectives.margins import ArcFace
from maskinv_lib.training.objectives.template_kd import teacher_templates
from maskinv_lib.utils.checks import number

LEVELS = (1, 2, 3, 4, 5, 6)
"""The thresholds are those at false positive rates of 10 to the power of minus these."""

HARDEST = 2_000 / (512 * 511 // 2 - 64 * 6)
"""Share of the negatives that are distilled: 2,000 of the 130,432 of a published batch, about 1.5 %.

The published configuration gives each device 32 general faces and 8 people with 4 faces each. Eight devices are
inferred: the published launcher for this family of trainings starts eight. So 512 faces make 130,816 pairs, of which
the 64 people's 6 each are positive; chance positives among the general faces are not counted.
"""


def pair_cosines(templates: Tensor) -> Tensor:
    """Return the cosines of all pairs i < j of templates [B, D] of any float dtype and length: float32 [B(B-1)/2].

    Row by row of the upper triangle: (0, 1), (0, 2), ..., (1, 2), ... A template of length 0 has cosine 0 to all.
    """
    templates = unit(templates)
    rows, columns = torch.triu_indices(len(templates), len(templates), offset=1, device=templates.device)
    return (templates @ templates.T)[rows, columns]


def soft_ranks(cosines: Tensor, thresholds: Tensor, temperature: float) -> Tensor:
    """Return how many thresholds [K] each cosine [P] exceeds, softly: float32 [P] in 0..K.

    The sum over the thresholds of sigmoid((cosine - threshold) / temperature); a sharp count as it goes to 0.
    """
    return torch.sigmoid((cosines[:, None] - thresholds) / temperature).sum(1)


class EKD(ArcFace):
    """ArcFace and evaluation-oriented distillation: losses "margin", "ekd_positive", "ekd_negative" (float32).

    The margin loss sees the samples of ``batch.general`` only, the distillation the whole batch: of all pairs, those
    of one label are positives, the others negatives. With r the soft rank of a pair's cosine among the network's own
    thresholds, "ekd_positive" is positive_weight * mean (r_student - r_teacher)^2 over the positives, "ekd_negative"
    negative_weight * the same mean over the share ``hardest`` of the negatives, those highest for the student (at
    least one pair, rounded). Only relations are compared, so the teacher's templates may have another width.

    A threshold at false positive rate 10^-k is the descending negatives' value at index N // 10^k, N their number.
    Every step in training mode moves the running threshold by ``renewal`` towards it, from 0, before the loss. With
    0.01, as published, it has covered 63 % of the way after 100 steps and 95 % after 300: in a short training the
    thresholds are too low for most of the time. Levels that a batch is too small for (``levels``) are left out of its
    ranks and are not moved.

    margin: radians, 0 to pi. scale: at least 1. temperature: in units of the cosine, at least 0.0001. renewal,
    hardest: 0 to 1. view: whose embeddings are trained. Buffers student_thresholds, teacher_thresholds: float32 [6].
    """

    needs_teacher = True

    def __init__(
        self,
        context: Context,
        *,
        margin: float = 0.4,
        scale: float = 64.0,
        positive_weight: float = 0.02,
        negative_weight: float = 0.01,
        temperature: float = 0.01,
        renewal: float = 0.01,
        hardest: float = HARDEST,
        view: str = "masked",
    ) -> None:
        super().__init__(context, margin=margin, scale=scale, view=view)
        self.positive_weight = number("positive_weight", positive_weight)
        self.negative_weight = number("negative_weight", negative_weight)
        self.temperature = number("temperature", temperature, minimum=1e-4)
        self.renewal = number("renewal", renewal, maximum=1.0)
        self.hardest = number("hardest", hardest, maximum=1.0)
        self.register_buffer("student_thresholds", torch.zeros(len(LEVELS)))
        self.register_buffer("teacher_thresholds", torch.zeros(len(LEVELS)))

    def levels(self, negatives: int) -> tuple[int, ...]:
        """Return which k of ``LEVELS`` a batch with so many negatives can estimate: those with negatives // 10^k >= 1.

        A higher level would take the highest negative, whatever its rate. 64 faces have about 2,000 negatives, hence
        levels 1 to 3; the published 512 faces reach level 5, and a batch needs at least 1,415 faces for level 6.
        """
        return tuple(level for level in LEVELS if negatives // 10**level >= 1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the three losses; teacher templates that are missing or of another number raise ValueError."""
        student, teacher = batch.embeddings[self.views[0]], teacher_templates(batch, type(self).__name__)
        with torch.autocast(student.device.type, enabled=False):
            positive, negative = self.distilled(pair_cosines(student), pair_cosines(teacher), batch.labels)
        losses = {"ekd_positive": self.positive_weight * positive, "ekd_negative": self.negative_weight * negative}
        return self.general_margin(batch) | losses

    def general_margin(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"margin": ArcFace loss} of the samples of ``batch.general``, of all where it is None; 0 of none."""
        if batch.general is None:
            return super().forward(batch)
        view, kept = self.views[0], batch.general
        labels, embeddings = batch.labels[kept], batch.embeddings[view][kept]
        if not len(labels):
            return {"margin": 0.0 * (embeddings.float().sum() + self.centres.float().sum())}
        others = {"masked": batch.masked[kept], "keys": batch.keys[kept]}
        return super().forward(dataclasses.replace(batch, labels=labels, embeddings={view: embeddings}, **others))

    def distilled(self, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unweighted scalar losses of positives and negatives; 0 where there is no such pair or no level.

        student, teacher: float32 [B(B-1)/2], cosines as ``pair_cosines`` gives them. labels: int64 [B].
        """
        rows, columns = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
        same = labels[rows] == labels[columns]  # [B(B-1)/2]
        impostors = student[~same], teacher[~same]
        indices = [level - 1 for level in self.levels(len(impostors[0]))]
        if self.training:
            self.renew(*impostors)
        hardest = impostors[0].detach().topk(self.hard(len(impostors[0]))).indices
        pairs = (student[same], teacher[same]), (impostors[0][hardest], impostors[1][hardest])
        positive, negative = (self._rank_error(*cosines, indices) for cosines in pairs)
        return positive, negative

    def hard(self, negatives: int) -> int:
        """Return how many of so many negatives are distilled."""
        return min(negatives, max(1, round(self.hardest * negatives)))

    @torch.no_grad()
    def renew(self, student: Tensor, teacher: Tensor) -> None:
        """Move the running thresholds towards those of the negatives, float32 [N] each."""
        levels = self.levels(len(student))
        for cosines, running in ((student, self.student_thresholds), (teacher, self.teacher_thresholds)):
            ordered = cosines.sort(descending=True).values
            for level in levels:
                running[level - 1].lerp_(ordered[len(ordered) // 10**level], self.renewal)

    def _rank_error(self, student: Tensor, teacher: Tensor, indices: list[int]) -> Tensor:
        ranks = soft_ranks(student, self.student_thresholds[indices], self.temperature)
        targets = soft_ranks(teacher, self.teacher_thresholds[indices], self.temperature)
        return (ranks - targets).square().sum() / max(1, len(ranks))  # 0, not NaN, of no pairs
