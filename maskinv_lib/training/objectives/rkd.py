"""Relational knowledge distillation: the student keeps distances and angles among templates, not the templates."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from maskinv_lib.training.objectives import Batch, Objective, unit
from maskinv_lib.training.objectives.template_kd import teacher_templates
from maskinv_lib.utils.checks import number

ANGLE_SAMPLES = 128
"""Most samples of a batch whose angles are compared; the angles of B samples take B^3 numbers."""

_NEAREST = 1e-3  # templates nearer than this count as one: no distance, no direction, no gradient between them


class RKD(Objective):
    """RKD-DA (Park et al., CVPR 2019), losses "rkd_distance" and "rkd_angle", float32 throughout.

    Among the templates x of a batch, L2-normalised on both sides because the teacher's are:
    distance: |x_i - x_j| divided by its mean over all pairs i != j; angle: the cosine of the angle at x_j between the
    directions to x_i and x_k, all three distinct. Each loss is a weight times the mean over pairs or triplets of the
    smooth L1 between student and teacher, which is d^2 / 2 up to |d| = 1 and |d| - 1/2 beyond. In a batch above 128,
    angles are those among 128 samples spread evenly over it. Fewer than two (three) samples have loss 0. The teacher
    may be of another width than the student.

    distance_weight, angle_weight: from 0 up. view: whose embeddings are compared with the teacher's clean templates.
    """

    needs_teacher = True

    def __init__(self, *, distance_weight: float = 25.0, angle_weight: float = 50.0, view: str = "masked") -> None:
        super().__init__()
        self.views = (view,)
        self.distance_weight = number("distance_weight", distance_weight)
        self.angle_weight = number("angle_weight", angle_weight)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"rkd_distance", "rkd_angle"}; teacher templates that are missing or too few raise ValueError."""
        student, teacher = batch.embeddings[self.views[0]], teacher_templates(batch, type(self).__name__)
        with torch.autocast(student.device.type, enabled=False):
            student, teacher = unit(student), unit(teacher)
            distance = F.smooth_l1_loss(relative_distances(student), relative_distances(teacher), reduction="sum")
            samples = spread(len(student), ANGLE_SAMPLES, student.device)
            angle = F.smooth_l1_loss(angles(student[samples]), angles(teacher[samples]), reduction="sum")
        pairs, triplets = math.perm(len(student), 2), math.perm(len(samples), 3)
        return {
            "rkd_distance": self.distance_weight * distance / max(pairs, 1),
            "rkd_angle": self.angle_weight * angle / max(triplets, 1),
        }


def relative_distances(templates: Tensor) -> Tensor:
    """Return |x_i - x_j| over its mean over pairs i != j, float32 [B, B], from templates [B, D] of length 1 or 0."""
    cosines = templates @ templates.T
    lengths = cosines.diagonal()  # squared
    squares = lengths[:, None] + lengths - 2.0 * cosines
    distinct = squares > _NEAREST**2
    distances = torch.where(distinct, squares, 1.0).sqrt() * distinct  # the slope of a root at 0 is infinite
    mean = distances.sum() / max(math.perm(len(templates), 2), 1)
    return distances / mean.clamp(min=_NEAREST)


def angles(templates: Tensor) -> Tensor:
    """Return the cosine of the angle at j between i and k, float32 [B (j), B (i), B (k)]; 0 unless all are distinct."""
    directions = templates - templates[:, None]  # [B (from), B (to), D]
    lengths = directions.detach().norm(dim=2)
    distinct = (lengths > _NEAREST)[..., None]
    directions = F.normalize(torch.where(distinct, directions, 0.0), dim=2, eps=_NEAREST)
    cosines = directions @ directions.transpose(1, 2)
    return cosines.masked_fill(torch.eye(len(templates), dtype=torch.bool, device=templates.device), 0.0)  # i = k


def spread(count: int, most: int, device: torch.device | str = "cpu") -> Tensor:
    """Return int64 numbers below ``count``, rising: all of them, or ``most`` at even distances."""
    kept = min(count, most)
    return torch.arange(kept, device=device) * count // max(kept, 1)
