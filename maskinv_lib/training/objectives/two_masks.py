"""Two masks of one face in a batch, both pulled to the one template of its clean face."""

from torch import Tensor

from maskinv_lib.training.objectives import Batch, Objective
from maskinv_lib.training.objectives.template_kd import PAPER_SIZE, unit_templates
from maskinv_lib.utils.checks import number


class TwoMasks(Objective):
    """``TemplateKD`` for two masked copies of each face, loss "two_masks", float32 throughout; this study's own.

    With L2-normalised templates s of the views "masked" and "masked-2" and t of the teacher's clean face, all [B, D]:
    loss = lambda / 512 * |s - t|^2, mean over the batch and both copies. Copies that share a target are pulled to each
    other too. ``lambda_`` is the paper's value at D = 512, from 0 up.
    """

    needs_teacher = True
    views = ("masked", "masked-2")

    def __init__(self, *, lambda_: float = 3000.0) -> None:
        super().__init__()
        self.lambda_ = number("lambda", lambda_)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"two_masks": loss}; teacher templates that are missing or of another width raise ValueError."""
        pairs = (unit_templates(batch, view, type(self).__name__) for view in self.views)
        squares = [(student - teacher).square().sum(1).mean() for student, teacher in pairs]
        return {"two_masks": self.lambda_ / PAPER_SIZE * sum(squares) / len(squares)}
