"""FocusFace (Neto et al., FG 2021): recognise the face, detect a mask, and give both pictures similar embeddings.

The clean and the masked picture of a face both pass through the student. A second head predicts the mask from the last
feature maps, so that information about the mask has an embedding of its own.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskinv_lib.training.objectives import Batch, Context
from maskinv_lib.training.objectives.margins import ArcFace
from maskinv_lib.utils import randomness
from maskinv_lib.utils.checks import number

WIDTH = 32
"""Width of the mask embedding."""


def draw_weights(module: nn.Module, *parts: int | str) -> nn.Module:
    """Draw the first values of a module built on the meta device from a key; return it on the CPU.

    Weights of linear and convolutional layers are uniform with variance 1 / inputs, their biases 0, and norms leave
    their input's scale unchanged. The global random state is neither read nor changed.
    """
    generator = torch.Generator().manual_seed(int(randomness.key(*parts)))
    for layer in module.to_empty(device="cpu").modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = math.sqrt(3.0 / layer.weight[0].numel())
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return module


def standardised(values: Tensor) -> Tensor:
    """Return values [N, W] with mean 0 and deviation 1 over the batch, per column; a constant column becomes 0."""
    centred = values - values.mean(0)
    return centred / (centred.square().mean(0) + 1e-5).sqrt()


class MaskBranch(nn.Module):
    """Predicts masks from feature maps: linear to a mask embedding of ``WIDTH``, standardised, linear to ``outputs``.

    map_shape: (C, H, W) of the maps, which are flattened, since a mask is recognised by its position. Standardising
    over the batch keeps steps small whatever the maps' scale; no statistics are stored, since the branch is used in
    training alone.
    """

    def __init__(self, *, map_shape: tuple[int, int, int], outputs: int, seed: int) -> None:
        super().__init__()
        self.map_shape = tuple(map_shape)
        with torch.device("meta"):
            self.embed = nn.Linear(math.prod(self.map_shape), WIDTH, bias=False)
            self.read = nn.Linear(WIDTH, outputs)
        draw_weights(self, seed, "mask branch")

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return (mask embedding [N, WIDTH], outputs [N, outputs]), float32, of maps [N, C, H, W] in any dtype."""
        if tuple(maps.shape[1:]) != self.map_shape:
            shapes = f"{list(maps.shape[1:])} instead of {list(self.map_shape)}"
            raise ValueError(f"Feature maps are {shapes}. Build the objective with map_shape={tuple(maps.shape[1:])}.")
        with torch.autocast(maps.device.type, enabled=False):
            features = standardised(self.embed(maps.float().flatten(1)))
            return features, self.read(features)


def maps_of(batch: Batch, views: Iterable[str]) -> Tensor:
    """Return the views' feature maps in one tensor, [V * B, C, H, W]; a missing view raises ValueError."""
    missing = [view for view in views if view not in batch.maps]
    if missing:
        raise ValueError(f"batch.maps lacks {', '.join(missing)}. Pass the views through network.with_maps.")
    return torch.cat([batch.maps[view] for view in views])


class FocusFace(ArcFace):
    """FocusFace as its paper describes it, losses "margin", "mask" and "consistency", float32 throughout.

    loss = [(CE_Arc + mask_weight CE_mask) on the clean view + the same on the masked view] / 2
    + consistency * mean over batch and D of (e_clean - e_masked)^2, where e are raw embeddings, [B, D], not
    normalised: so the last term depends on their scale, as published. CE_Arc: ArcFace with ``margin`` in radians and
    ``scale``. CE_mask: two classes, mask or none, from a mask embedding of the feature maps; a sample of the masked
    view without a mask counts as none. In the released code a factor of 0 excludes clean faces from the training of the
    mask head; here they train it, as the paper describes.
    """

    needs_maps = True

    def __init__(
        self,
        context: Context,
        *,
        margin: float = 0.5,
        scale: float = 64.0,
        mask_weight: float = 0.1,
        consistency: float = 1 / 3,
    ) -> None:
        super().__init__(context, margin=margin, scale=scale)
        self.views = ("clean", "masked")
        self.mask_weight = number("mask_weight", mask_weight)
        self.consistency = number("consistency", consistency)
        self.mask_branch = MaskBranch(map_shape=context.map_shape, outputs=2, seed=context.seed)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"margin", "mask", "consistency"}: the weighted losses; missing feature maps raise ValueError."""
        clean, masked = (batch.embeddings[view].float() for view in self.views)
        both = replace(
            batch,
            labels=batch.labels.repeat(2),
            keys=batch.keys.repeat(2),
            embeddings={self.views[0]: torch.cat([clean, masked])},  # [2 B, D]: the mean over both is half the sum
        )
        return super().forward(both) | {
            "mask": self.mask_weight * self._mask_loss(batch),
            "consistency": self.consistency * (clean - masked).square().mean(),
        }

    def _mask_loss(self, batch: Batch) -> Tensor:
        _, logits = self.mask_branch(maps_of(batch, self.views))  # [2 B, 2]
        wears = torch.cat([torch.zeros_like(batch.masked), batch.masked]).long()
        with torch.autocast(logits.device.type, enabled=False):
            return F.cross_entropy(logits, wears)
