"""Heads on frozen templates, which leave the network that computed the templates unchanged.

The embedding unmasking model (EUM, Boutros et al., arXiv 2103.01716) maps the template of a masked face close to those
of the person's unmasked faces; a logistic regression predicts whether a mask is worn. Templates are unit
vectors [N, D].
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskinv_lib.networks import weights
from maskinv_lib.utils import checks
from maskinv_lib.utils.randomness import key

OWN = ("head", "embedding_size")
"""Metadata that a head's file always has; the caller may add others."""


class EUM(nn.Module):
    """The embedding unmasking model: four layers as wide as the template, for templates of masked faces only.

    Three times fully connected, batch norm, LeakyReLU 0.2; then fully connected, batch norm. Float32 [B, D] -> [B, D],
    not normalised (``apply_head`` does that). Weights are uniform in +-D^-0.5, drawn from ``seed``; None leaves all
    tensors on the meta device, without values.
    """

    name = "eum"

    def __init__(self, *, embedding_size: int, seed: int | None = None) -> None:
        super().__init__()
        self.embedding_size = size = checks.whole_number("embedding_size", embedding_size, minimum=1)
        with torch.device("meta"):
            layers = []
            for _ in range(4):
                layers += [nn.Linear(size, size), nn.BatchNorm1d(size), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers[:-1])
        if seed is not None:
            self.to_empty(device="cpu")
            self._draw(checks.whole_number("seed", seed))

    def _draw(self, seed: int) -> None:
        generator, bound = torch.Generator().manual_seed(int(key(seed, "eum weights"))), self.embedding_size**-0.5
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
            elif isinstance(layer, nn.BatchNorm1d):
                layer.reset_parameters()

    def forward(self, templates: Tensor) -> Tensor:
        """Return raw unmasked embeddings, float32 [B, D], of templates [B, D]; in training mode B must be above 1."""
        with torch.autocast(templates.device.type, enabled=False):
            return self.layers(templates.float())


class MaskClassifier(nn.Module):
    """Logistic regression on templates: does the face wear a mask? Buffers weight float32 [D] and bias, first 0."""

    name = "mask-classifier"

    def __init__(self, *, embedding_size: int) -> None:
        super().__init__()
        self.embedding_size = checks.whole_number("embedding_size", embedding_size, minimum=1)
        self.register_buffer("weight", torch.zeros(self.embedding_size))
        self.register_buffer("bias", torch.zeros(()))

    def forward(self, templates: Tensor) -> Tensor:
        """Return logits, float32 [N], of templates [N, D]: log odds of a mask if half of all faces wear one."""
        with torch.autocast(templates.device.type, enabled=False):
            return templates.float() @ self.weight + self.bias

    def predicts(self, templates: Tensor | np.ndarray) -> Tensor | np.ndarray:
        """Return whether each of the templates [N, D] is of a masked face: bool [N], an array for an array."""
        return _applied(self, lambda tensor: self(tensor) > 0, templates)


CLASSES = {kind.name: kind for kind in (EUM, MaskClassifier)}
"""Name of a head (``study.data.HEADS``) -> its class."""


def apply_head(head: EUM, templates: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """Return unmasked templates, float32 [N, D] of unit length, of templates [N, D]; an array for an array.

    Evaluation mode, float32: a result does not depend on the other templates (within 1e-5). It is meant for templates
    of masked faces only; those of unmasked faces stay as the network computed them.
    """
    if not isinstance(head, EUM):
        raise ValueError(f"Only an EUM maps templates to templates, not {type(head).__name__}.")
    return _applied(head, lambda tensor: F.normalize(head(tensor), dim=1), templates)


def save_head(path: Path, head: EUM | MaskClassifier, metadata: dict) -> None:
    """Write a head whole or not at all, with its name and embedding size.

    metadata: further JSON-serialisable facts; a name of ``OWN`` among them raises ValueError.
    """
    own = {"head": head.name, "embedding_size": head.embedding_size}
    weights.write_tensors(path, head.state_dict(), weights.with_own(metadata, own, "head"))


def load_head(path: Path) -> tuple[EUM | MaskClassifier, dict]:
    """Read a head that ``save_head`` wrote: (head on the CPU in evaluation mode, all metadata).

    A missing file raises FileNotFoundError; one that is damaged or no head ValueError. Both name the file.
    """
    tensors, metadata = weights.read_tensors(path)
    try:
        name = checks.choose("head", metadata.get("head"), CLASSES)
        size = checks.whole_number("embedding_size", metadata.get("embedding_size"), minimum=1)
    except ValueError as error:
        raise ValueError(f"{path} does not say which head it is: {error} Delete it and train the head again.") from None
    with torch.device("meta"):
        head = CLASSES[name](embedding_size=size)
    differences = weights.differences(head, tensors)
    if differences:
        raise ValueError(
            f"{path} does not hold the {name} it names: {differences}. Delete it and train the head again."
        )
    head.to_empty(device="cpu").load_state_dict(tensors)
    return head.eval(), metadata


@torch.no_grad()
def _applied(
    head: EUM | MaskClassifier, compute: Callable[[Tensor], Tensor], templates: Tensor | np.ndarray
) -> Tensor | np.ndarray:
    """Return ``compute(templates)`` with ``head`` in evaluation mode on its own device; an array for an array."""
    tensor = torch.tensor(templates) if isinstance(templates, np.ndarray) else templates
    if tensor.ndim != 2 or tensor.shape[1] != head.embedding_size:
        raise ValueError(
            f"This {head.name} takes templates [N, {head.embedding_size}], not {list(tensor.shape)}. "
            "Give those of the network that it was trained for."
        )
    training, device = head.training, next(iter(head.state_dict().values())).device
    try:
        head.eval()
        results = compute(tensor.to(device)).to(tensor.device)
    finally:
        head.train(training)
    return results.numpy() if isinstance(templates, np.ndarray) else results
