"""Margin softmax: classify by the angle to a class centre, and make the right class harder by a margin.

With embedding e and centres w_k, both L2-normalised, and theta the angle between e and its own centre w_y, the logits
are s cos(theta_k), where that of class y is replaced before the cross-entropy by
ArcFace s cos(theta + m) (Deng et al., CVPR 2019, eq. 3), CosFace s (cos(theta) - m) (Wang et al., CVPR 2018, eq. 4),
ElasticFace-Arc s cos(theta + m) and ElasticFace-Cos s (cos(theta) - m) with m ~ N(margin, deviation) per sample and
step (Boutros et al., CVPRW 2022).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskinv_lib.training.objectives import Batch, Context, Objective, unit
from maskinv_lib.utils import checks, randomness
from maskinv_lib.utils.checks import number

ORDERS = ("drawn", "sorted", "released")
"""How a batch's drawn margins are assigned to its samples (``elastic_margins``)."""


def add_angle(cosines: Tensor, margins: Tensor) -> Tensor:
    """Return cos(theta + m) from cosines c = cos(theta) in [-1, 1] and margins m in radians, clamped to [0, pi].

    c cos(m) - sqrt(1 - c^2) sin(m): no arc cosine, whose slope is infinite at c = 1. Beyond theta + m = pi the bare
    formula rises again and would reward a sample for being opposite to its centre. There it is continued as
    c - (1 - cos(m)): equal to -1 where the two meet, falling with theta, and never above c. So the loss with a
    margin is never below the loss without one, and the logit of the right class rises with every step towards its
    centre.
    """
    margins = margins.clamp(0.0, math.pi)
    sines = ((1.0 - cosines) * (1.0 + cosines)).clamp(min=1e-12).sqrt()
    turned = cosines * margins.cos() - sines * margins.sin()
    return torch.where(cosines >= -margins.cos(), turned, cosines - 1.0 + margins.cos())


def elastic_margins(keys: Tensor, cosines: Tensor, *, mean: float, deviation: float, order: str = "drawn") -> Tensor:
    """Return a margin per sample, m ~ N(mean, deviation), float32 [B, 1].

    keys: int64 [B]. cosines: float [B, 1], of each sample to its own centre; read without gradient, to rank the batch.
    order: "drawn" leaves each sample its own draw, which its key decides. "sorted" is ElasticFace "+": the further from
    its centre, the larger the margin; on a tie the earlier sample gets the smaller one. "released" is what the
    published code of "+" does: it uses the ranking permutation in place of its inverse, so that margins and cosines
    are unrelated.
    """
    draws = randomness.normal(randomness.key(keys, "elastic margin", device=keys.device), 1)
    margins = (mean + deviation * draws).float().to(cosines.device)
    if order == "drawn":
        return margins
    nearest_first = cosines.detach().argsort(dim=0, descending=True, stable=True)
    rising = margins.sort(dim=0).values
    if order == "released":
        return rising.gather(0, nearest_first)
    return torch.empty_like(rising).scatter(0, nearest_first, rising)


class Softmax(Objective):
    """Normalised softmax without a margin, loss "margin": cross-entropy over s cos(theta_k), float32 throughout.

    centres: parameter float32 [classes, embedding_size], normal with deviation 0.01 as published, from ``seed``.
    scale: s, at least 1. view: whose embeddings are classified.
    """

    def __init__(self, context: Context, *, scale: float = 64.0, view: str = "masked") -> None:
        super().__init__()
        self.views = (view,)
        self.scale = number("scale", scale, minimum=1.0)
        shape = (checks.whole_number("classes", context.classes, minimum=1), context.embedding_size)
        key = randomness.key(checks.whole_number("seed", context.seed), "class centres")
        generator = torch.Generator().manual_seed(int(key))
        self.centres = nn.Parameter(torch.empty(shape).normal_(std=0.01, generator=generator))

    def check_labels(self, labels: Tensor) -> None:
        """Raise ValueError, naming the label and the number of classes, if a label has no centre."""
        for label in (int(labels.min()), int(labels.max())):
            if not 0 <= label < len(self.centres):
                raise ValueError(
                    f"Label {label} has no class in {type(self).__name__}, which has {len(self.centres)} classes "
                    f"(labels 0 to {len(self.centres) - 1}). Build it with classes=faces.identities."
                )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"margin": mean cross-entropy} of the view's embeddings [B, D] in any float dtype."""
        embeddings = batch.embeddings[self.views[0]]
        with torch.autocast(embeddings.device.type, enabled=False):
            cosines = (unit(embeddings) @ unit(self.centres).T).clamp(-1.0, 1.0)  # [B, classes]
            own = self.with_margin(cosines.gather(1, batch.labels[:, None]), batch)  # [B, 1]
            logits = self.scale * cosines.scatter(1, batch.labels[:, None], own)
            return {"margin": F.cross_entropy(logits, batch.labels)}

    def with_margin(self, cosines: Tensor, batch: Batch) -> Tensor:
        """Return the right class's cosines, float32 [B, 1] in [-1, 1], made harder by the margin; here unchanged."""
        return cosines


class ArcFace(Softmax):
    """ArcFace: cos(theta + margin), margin in radians, 0 to pi.

    guarded: ``add_angle``. False is the published bare cos(acos(c) + m): it rewards angles beyond pi - m, and its
    gradient is NaN where an embedding meets its centre exactly.
    """

    def __init__(self, context: Context, *, margin: float = 0.5, guarded: bool = True, **softmax: object) -> None:
        super().__init__(context, **softmax)
        self.margin = number("margin", margin, maximum=math.pi)
        if not isinstance(guarded, bool):
            raise ValueError(f"guarded must be True or False, not {guarded!r} ({type(guarded).__name__}).")
        self.guarded = guarded

    def with_margin(self, cosines: Tensor, batch: Batch) -> Tensor:
        """Return cos(theta + m), [B, 1]."""
        margins = self.margins(batch, cosines)
        return add_angle(cosines, margins) if self.guarded else torch.cos(torch.acos(cosines) + margins)

    def margins(self, batch: Batch, cosines: Tensor) -> Tensor:
        """Return each sample's margin in radians, float32 [B, 1], given its own cosines [B, 1]; here one for all."""
        return torch.full((len(batch.labels), 1), self.margin, device=cosines.device)


class CosFace(Softmax):
    """CosFace: cos(theta) - margin; its loss and gradient are finite at every angle."""

    def __init__(self, context: Context, *, margin: float = 0.35, **softmax: object) -> None:
        super().__init__(context, **softmax)
        self.margin = number("margin", margin, maximum=2.0)

    def with_margin(self, cosines: Tensor, batch: Batch) -> Tensor:
        """Return cos(theta) - m, [B, 1]."""
        return cosines - self.margin


class ElasticMargin:
    """What ElasticFace adds to a margin head: a new margin per sample and step, m ~ N(margin, deviation).

    The draw is a function of ``batch.keys`` alone, so a resumed training sees the same margins. order: one of
    ``ORDERS``.
    """

    def __init__(self, context: Context, *, deviation: float = 0.05, order: str = "drawn", **head: object) -> None:
        super().__init__(context, **head)
        self.deviation = number("deviation", deviation)
        self.order = checks.choose("order", order, ORDERS)

    def margins(self, batch: Batch, cosines: Tensor) -> Tensor:
        """Return each sample's margin, float32 [B, 1] (``elastic_margins``)."""
        return elastic_margins(batch.keys, cosines, mean=self.margin, deviation=self.deviation, order=self.order)


class ElasticFaceArc(ElasticMargin, ArcFace):
    """ElasticFace-Arc: margin and deviation in radians; "sorted" is Arc+, published with deviation 0.0175."""


class ElasticFaceCos(ElasticMargin, CosFace):
    """ElasticFace-Cos: margin and deviation are cosines; "sorted" is Cos+, published with deviation 0.02."""

    def with_margin(self, cosines: Tensor, batch: Batch) -> Tensor:
        """Return cos(theta) - m, [B, 1]; a draw below 0 counts as no margin, as it does in ``add_angle``."""
        return cosines - self.margins(batch, cosines).clamp(min=0.0)
