"""MEER (Seeing through the mask, arXiv 2311.11512): split face and mask, restore the face, keep its identity.

This is our reading of its abstract, since weights, layers and numbers are unpublished, at the scale of a laptop: a
mask branch learns the features of the mask, the embedding is decorrelated from them, a small decoder restores the
unmasked face from the embedding alone, and the restored face must have the template of the clean one.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskinv_lib.faces import SIZE
from maskinv_lib.training.objectives import Batch, Context, unit
from maskinv_lib.training.objectives.focusface import WIDTH, MaskBranch, draw_weights, maps_of, standardised
from maskinv_lib.training.objectives.margins import ElasticFaceArc
from maskinv_lib.training.objectives.template_kd import unit_templates
from maskinv_lib.utils import randomness
from maskinv_lib.utils.checks import number

CHANNELS = (16, 32, 24, 16)
"""Channels of the decoder's maps, from 7 x 7 to 56 x 56."""


class Decoder(nn.Module):
    """From a raw embedding to a small picture: linear to [16, 7, 7], three doublings with a convolution, tanh.

    Below half a million parameters at 512-D. Each convolution is followed by a group norm: with it, long embeddings and
    large steps do not saturate tanh, and unlike with a batch norm a restored face does not depend on its batch.
    """

    def __init__(self, *, embedding_size: int, seed: int) -> None:
        super().__init__()
        with torch.device("meta"):
            layers = [nn.Linear(embedding_size, CHANNELS[0] * 7 * 7), nn.Unflatten(1, (CHANNELS[0], 7, 7))]
            for before, after in itertools.pairwise(CHANNELS):
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]
                layers += [nn.GroupNorm(4, after), nn.LeakyReLU(0.2)]
            self.layers = nn.Sequential(*layers, nn.Conv2d(CHANNELS[-1], 3, 3, padding=1), nn.Tanh())
        draw_weights(self, seed, "decoder")

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return faces of half the size, float32 [B, 3, 56, 56] in [-1, 1], of raw embeddings [B, embedding_size]."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.layers(embeddings.float())


def decoupling(identity: Tensor, mask: Tensor) -> Tensor:
    """Return how strongly two sets of features are correlated, a scalar from 0 to the width of ``identity``.

    identity: float32 [B, V]; mask: float32 [B, W]. Squared correlations over the batch, summed over the identity
    features and averaged over the mask features. Unrelated features give about V / B; one sample gives 0.
    """
    correlations = standardised(identity).T @ standardised(mask) / len(identity)  # [V, W]
    return correlations.square().sum(0).mean()


class MEER(ElasticFaceArc):
    """MEER in our reading: losses "margin", "mask", "decoupling", "restoration", "identity", float32 throughout.

    margin: ElasticFace-Arc on the masked view (``margin``, ``deviation`` in radians, ``scale``).
    mask_weight * (BCE of whether a mask is worn + squared error of its coverage), from the masked view's feature maps.
    decoupling * ``decoupling`` between the embedding, through a fixed random projection to 32 numbers (a trained one
    would learn to leave out what is correlated), and the mask branch's embedding.
    restoration * mean |restored - clean| over pixels in [-1, 1], at 56 x 56.
    identity * (1 - cos) between the student's embedding of the restored face, at 112 x 112, and the teacher's template
    of the clean face; its gradient reaches decoder and student. All faces of the batch are restored.
    It needs ``batch.images["clean"]``, ``batch.coverage``, ``batch.teacher`` and ``batch.embed``.
    """

    needs_maps = True
    needs_teacher = True

    def __init__(
        self,
        context: Context,
        *,
        margin: float = 0.5,
        deviation: float = 0.05,
        scale: float = 64.0,
        mask_weight: float = 0.1,
        decoupling: float = 0.1,
        restoration: float = 1.0,
        identity: float = 1.0,
    ) -> None:
        super().__init__(context, margin=margin, deviation=deviation, scale=scale)
        self.views = ("masked", "restored")
        weights = {"mask_weight": mask_weight, "decoupling": decoupling, "restoration": restoration}
        self.weights = {name: number(name, value) for name, value in {**weights, "identity": identity}.items()}
        size, seed = context.embedding_size, context.seed
        self.mask_branch = MaskBranch(map_shape=context.map_shape, outputs=2, seed=seed)
        self.decoder = Decoder(embedding_size=size, seed=seed)
        generator = torch.Generator().manual_seed(int(randomness.key(seed, "decoupling projection")))
        self.register_buffer("projection", torch.randn(size, WIDTH, generator=generator) / size**0.5)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the five weighted losses; what the batch lacks or has in another width raises one ValueError."""
        _check(batch)
        embeddings = batch.embeddings[self.views[0]]
        _, teacher = unit_templates(batch, self.views[0], type(self).__name__)
        features, predictions = self.mask_branch(maps_of(batch, self.views[:1]))
        restored = self.decoder(embeddings)
        embedded = batch.embed(enlarged(restored))  # [B, D], in the student's own precision
        with torch.autocast(embeddings.device.type, enabled=False):
            projected = embeddings.float() @ self.projection
            losses = {
                "mask": self.weights["mask_weight"] * _mask_loss(predictions, batch),
                "decoupling": self.weights["decoupling"] * decoupling(projected, features),
                "restoration": self.weights["restoration"] * (restored - _target(batch)).abs().mean(),
                "identity": self.weights["identity"] * (1 - (unit(embedded) * teacher).sum(1)).mean(),
            }
        return super().forward(batch) | losses


def enlarged(pictures: Tensor) -> Tensor:
    """Return [B, 3, 56, 56] pictures at the size of a face, [B, 3, 112, 112], bilinear: values stay in [-1, 1]."""
    return F.interpolate(pictures, size=(SIZE, SIZE), mode="bilinear", align_corners=False)


def _target(batch: Batch) -> Tensor:
    """The clean faces at half the size, means of 2 x 2 pixels, float32 [B, 3, 56, 56] in [-1, 1]."""
    return F.avg_pool2d(batch.images["clean"].float() / 127.5 - 1, 2)


def _mask_loss(predictions: Tensor, batch: Batch) -> Tensor:
    worn, coverage = predictions.unbind(1)
    detection = F.binary_cross_entropy_with_logits(worn, batch.masked.float())
    return detection + F.mse_loss(coverage.sigmoid(), batch.coverage.float())


def _check(batch: Batch) -> None:
    """Raise one ValueError naming what the batch lacks."""
    needs = {
        "images['clean']": batch.images.get("clean"),
        "coverage": batch.coverage,
        "teacher": batch.teacher,
        "embed": batch.embed,
    }
    missing = [f"batch.{name}" for name, value in needs.items() if value is None]
    if missing:
        raise ValueError(f"MEER needs {', '.join(missing)}. Give the stage a teacher and a masked view.")
