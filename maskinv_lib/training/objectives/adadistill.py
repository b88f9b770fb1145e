"""AdaDistill: a margin softmax whose class centres are means of teacher templates (Boutros et al., ECCV 2024)."""

import math

import torch
from torch import Tensor

from maskinv_lib.training.objectives import Batch, Context, unit
from maskinv_lib.training.objectives.margins import Softmax, add_angle
from maskinv_lib.training.objectives.template_kd import TemplateKD, unit_templates
from maskinv_lib.utils import checks
from maskinv_lib.utils.checks import number

KINDS = {"arc": (0.5, math.pi), "cos": (0.35, 2.0)}
"""Margin functions, with the usual and the largest margin: radians for "arc", a cosine for "cos"."""

_LEAST = 1e-6  # of the weight alpha and of its factor, as published


class AdaDistill(Softmax):
    """Margin softmax, loss "margin", with centres that follow the teacher, slower as the student gets closer to it.

    Before the loss, and without gradient, each sample with student template s, teacher template t (both unit length)
    and own centre c moves its centre: c <- alpha c + (1 - alpha) t, where
    alpha = clamp(cos(s, t) * clamp(cos(c, t), 1e-6, 1), 1e-6, 1). So a student that is far from the teacher learns
    from single templates (alpha near 0), one that is near it from their mean over many steps (alpha near 1), and
    samples that are untypical of their class move the centre most. A class with several samples in the batch takes the
    mean of their moves, all from the centre before the batch: one step a class, as published, but the same whatever
    the samples' order and the device. In ``eval`` mode the centres stay as they are.

    centres: buffer float32 [classes, embedding_size], not normalised, normal with deviation 0.01 from ``seed`` until
    the class is first met. kind: "arc", cos(theta + margin) as in ``ArcFace``, guarded; or "cos", cos(theta) - margin.
    margin: None takes 0.5 (arc) or 0.35 (cos). lambda_: above 0, a second loss "template_kd" of the strength that
    ``TemplateKD`` has (this study's own candidate; the paper has none).
    """

    needs_teacher = True

    def __init__(
        self,
        context: Context,
        *,
        kind: str = "arc",
        margin: float | None = None,
        lambda_: float = 0.0,
        **softmax: object,
    ) -> None:
        super().__init__(context, **softmax)
        self.kind = checks.choose("kind", kind, KINDS)
        usual, largest = KINDS[self.kind]
        self.margin = number("margin", usual if margin is None else margin, maximum=largest)
        self.template_kd = TemplateKD(lambda_=lambda_, view=self.views[0])
        centres = self.centres.detach()
        del self.centres  # the optimiser would change a parameter
        self.register_buffer("centres", centres)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Move the centres, then return {"margin": mean cross-entropy} and, with lambda above 0, {"template_kd"}.

        Teacher templates that are missing or of another width than the student's raise ValueError.
        """
        student, teacher = unit_templates(batch, self.views[0], type(self).__name__)
        if self.training:
            self.move_centres(student.detach(), teacher, batch.labels)
        losses = super().forward(batch)
        return losses | self.template_kd(batch) if self.template_kd.lambda_ else losses

    def with_margin(self, cosines: Tensor, batch: Batch) -> Tensor:
        """Return cos(theta + m) or cos(theta) - m, [B, 1]."""
        if self.kind == "arc":
            return add_angle(cosines, torch.full_like(cosines, self.margin))
        return cosines - self.margin

    @torch.no_grad()
    def move_centres(self, student: Tensor, teacher: Tensor, labels: Tensor) -> None:
        """Move the centres of the classes ``labels``, int64 [B], given unit templates, float32 [B, D] each."""
        with torch.autocast(labels.device.type, enabled=False):
            own = self.centres[labels].float()  # [B, D]
            alpha = keeping_weights(student, teacher, own)  # [B, 1]
            moved = alpha * own + (1.0 - alpha) * teacher
            same = labels[:, None] == labels  # [B, B]
            mean = same.float() @ moved / same.sum(1, keepdim=True)
            first = same.int().argmax(1)  # all samples of a class write one and the same row
            self.centres[labels] = mean[first].to(self.centres.dtype)


def keeping_weights(student: Tensor, teacher: Tensor, centres: Tensor) -> Tensor:
    """Return alpha, float32 [B, 1] in [1e-6, 1], each sample's weight of its own centre [B, D] (``AdaDistill``)."""
    typical = (unit(centres) * teacher).sum(1, keepdim=True).clamp(_LEAST, 1.0)
    return ((student * teacher).sum(1, keepdim=True) * typical).clamp(_LEAST, 1.0)
