"""Template-level knowledge distillation, the idea of MaskInv: the masked face keeps the template of the clean one."""

import torch
import torch.nn.functional as F
from torch import Tensor

from maskinv_lib.objectives import Batch, Objective, number

PAPER_SIZE = 512
"""Embedding size at which the paper states lambda."""


class TemplateKD(Objective):
    """MaskInv's L_KD (Huber et al., FG 2021), loss "template_kd", float32 throughout.

    With L2-normalised templates s of the student and t of the teacher, both [B, D], the paper's loss is
    lambda * mean over batch and D of (s - t)^2. Since |s - t|^2 = 2 - 2 cos, that is (2 lambda / D)(1 - cos): the
    same lambda is weaker the wider the embedding. ``lambda_`` is the paper's value at D = 512 and keeps its strength
    at any D: loss = lambda / 512 * |s - t|^2 = (2 lambda / 512)(1 - cos), mean over the batch.
    """

    needs_teacher = True

    def __init__(self, *, lambda_: float = 3000.0, view: str = "masked") -> None:
        super().__init__()
        self.views = (view,)
        self.lambda_ = number("lambda", lambda_)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"template_kd": loss}; teacher templates that are missing or of another width raise ValueError."""
        student, teacher = batch.embeddings[self.views[0]], _teacher(batch, self.views[0])
        with torch.autocast(student.device.type, enabled=False):
            student, teacher = (F.normalize(x.float(), dim=1, eps=1e-6) for x in (student, teacher))
            return {"template_kd": self.lambda_ / PAPER_SIZE * (student - teacher).square().sum(1).mean()}


def _teacher(batch: Batch, view: str) -> Tensor:
    if batch.teacher is None:
        raise ValueError("TemplateKD needs teacher templates, and batch.teacher is None. Give the stage a teacher.")
    student, teacher = list(batch.embeddings[view].shape), list(batch.teacher.shape)
    if student != teacher:
        raise ValueError(
            f"TemplateKD compares templates of equal width: student {student}, teacher {teacher} ([batch, D]). "
            f"Build the student with embedding_size={teacher[-1]}."
        )
    return batch.teacher.detach()
