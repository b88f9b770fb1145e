"""Template-level knowledge distillation, the idea of MaskInv: the masked face keeps the template of the clean one."""

import torch
from torch import Tensor

from maskinv_lib.training.objectives import Batch, Objective, unit
from maskinv_lib.utils.checks import number

PAPER_SIZE = 512
"""Embedding size at which the paper states lambda."""


def teacher_templates(batch: Batch, objective: str) -> Tensor:
    """Return the teacher's templates without gradient, float32 [B, D'], whose width may differ from the student's.

    Missing templates, or another number of them than faces, raise ValueError with the name of the ``objective``.
    """
    if batch.teacher is None:
        raise ValueError(f"{objective} needs teacher templates, and batch.teacher is None. Give the stage a teacher.")
    if len(batch.teacher) != len(batch.labels):
        raise ValueError(
            f"{objective} needs one teacher template per face: {len(batch.labels)} faces, {len(batch.teacher)} "
            "templates of the teacher. Hand over both of the same faces."
        )
    return batch.teacher.detach()


def unit_templates(batch: Batch, view: str, objective: str) -> tuple[Tensor, Tensor]:
    """Return the L2-normalised templates (student's of ``view``, teacher's without gradient), float32 [B, D] each.

    A missing teacher, or one of another width, raises ValueError with the name of the ``objective``. Vectors of length
    0 stay 0 (``unit``).
    """
    student, teacher = batch.embeddings[view], teacher_templates(batch, objective)
    if student.shape != teacher.shape:
        raise ValueError(
            f"{objective} compares templates of equal width: student {list(student.shape)}, teacher "
            f"{list(teacher.shape)} ([batch, D]). Build the student with embedding_size={teacher.shape[-1]}."
        )
    with torch.autocast(student.device.type, enabled=False):
        return unit(student), unit(teacher)


class TemplateKD(Objective):
    """MaskInv's L_KD (Huber et al., FG 2021), loss "template_kd", float32 throughout.

    With L2-normalised templates s of the student and t of the teacher, both [B, D], the paper's loss is
    lambda * mean over batch and D of (s - t)^2. Since |s - t|^2 = 2 - 2 cos, that is (2 lambda / D)(1 - cos): the
    same lambda is weaker the wider the embedding. ``lambda_`` is the paper's value at D = 512 and keeps its strength
    at any D: loss = lambda / 512 * |s - t|^2 = (2 lambda / 512)(1 - cos), mean over the batch.

    by_coverage: 0 to 1, how much more a face counts the more of it is masked (``coverage_weights``); 0 is the paper's
    loss. It needs ``batch.coverage``, which is that of the view "masked", and so this view.
    """

    needs_teacher = True

    def __init__(self, *, lambda_: float = 3000.0, by_coverage: float = 0.0, view: str = "masked") -> None:
        super().__init__()
        self.views = (view,)
        self.lambda_ = number("lambda", lambda_)
        self.by_coverage = number("by_coverage", by_coverage, maximum=1.0)
        if self.by_coverage and view != "masked":
            raise ValueError(
                f"by_coverage = {by_coverage!r} weighs by the masks of the view 'masked', and the view is {view!r}. "
                "Set by_coverage = 0 or view = 'masked'."
            )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"template_kd": loss}; missing or misshapen teacher templates or coverage raise ValueError."""
        student, teacher = unit_templates(batch, self.views[0], type(self).__name__)
        squares = (student - teacher).square().sum(1)  # [B]
        if self.by_coverage:
            squares = coverage_weights(batch, self.by_coverage) * squares
        return {"template_kd": self.lambda_ / PAPER_SIZE * squares.mean()}


def coverage_weights(batch: Batch, strength: float) -> Tensor:
    """Return a weight per sample, float32 [B], at least 0 for a strength up to 1, whose mean over the batch is 1.

    1 + strength * (coverage / mean coverage of the batch's masked samples - 1) for a masked sample, 1 for another;
    divided by their mean. Without masked samples, or with masks that cover nothing, all weights are 1. A missing
    ``batch.coverage`` raises ValueError.
    """
    if batch.coverage is None:
        raise ValueError(
            f"by_coverage = {strength:g} needs each mask's share of the crop, and batch.coverage is None. "
            "Hand over batch.coverage, or set by_coverage = 0."
        )
    coverage = batch.coverage.float()
    mean = (coverage * batch.masked).sum() / batch.masked.sum().clamp(min=1)
    relative = torch.where(batch.masked & (mean > 0), coverage / mean.clamp(min=1e-6), 1.0)
    weights = 1.0 + strength * (relative - 1.0)
    return weights / weights.mean()
