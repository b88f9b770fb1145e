"""Relations across mask conditions: a masked face has the cosines to other clean faces that its own clean face has."""

import torch
from torch import Tensor

from maskinv_lib.training.objectives import Batch, Objective
from maskinv_lib.training.objectives.template_kd import unit_templates
from maskinv_lib.utils.checks import number


class MaskRelations(Objective):
    """Relational distillation from clean to masked faces, loss "relations", float32 throughout; this study's own.

    With L2-normalised templates s of the student's view and t of the teacher's clean faces, both [B, D]:
    loss = weight * mean over i != j of (s_i . t_j - t_i . t_j)^2. The term i = j is the loss of ``TemplateKD``; here a
    template may move away from the teacher's, as long as its cosines to other faces, which a verification compares,
    stay.
    A batch of one has no pairs and loss 0. weight: from 0 up. view: whose embeddings are compared.
    """

    needs_teacher = True

    def __init__(self, *, weight: float = 30.0, view: str = "masked") -> None:
        super().__init__()
        self.views = (view,)
        self.weight = number("weight", weight)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"relations": loss}; teacher templates that are missing or of another width raise ValueError."""
        student, teacher = unit_templates(batch, self.views[0], type(self).__name__)
        with torch.autocast(student.device.type, enabled=False):
            errors = (student - teacher) @ teacher.T  # [B, B], s_i . t_j - t_i . t_j
            own = torch.eye(len(errors), dtype=torch.bool, device=errors.device)
            pairs = max(len(errors) * (len(errors) - 1), 1)
            return {"relations": self.weight * errors.masked_fill(own, 0.0).square().sum() / pairs}
