"""Networks: faces in, embeddings out. Each network scales the pixels as its own weights want them.

What belongs here: networks, their weights on disk, and what turns them into templates: flips, heads on frozen
templates, combinations. What does not: training, and scaling pixels anywhere else. To add a network, add a file and
its name to ``NETWORKS``, or to ``AROUND`` if it is built around another network.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskinv_lib.faces import SIZE
from maskinv_lib.utils import checks, randomness

EXPECTED = f"uint8 [B, 3, {SIZE}, {SIZE}] RGB in 0..255, or the same shape as float in [-1, 1]"
"""What every network accepts, in words."""

NETWORKS = {
    "iresnet18": "iresnet.iresnet18",
    "iresnet34": "iresnet.iresnet34",
    "iresnet50": "iresnet.iresnet50",
    "iresnet100": "iresnet.iresnet100",
    "compact": "iresnet.compact",
    "mobilefacenet": "mobilefacenet.mobilefacenet",
}
"""Registered names and the function, ``module.function`` below this package, that makes the network."""

AROUND = {"upper-face": "upper_face.UpperFace", "two-branch": "two_branch.TwoBranch"}
"""What may be built around a registered network, by a name such as ``upper-face:compact``, and the class that does."""


@dataclass(frozen=True, kw_only=True)
class InputContract:
    """The pixel scaling that weights expect: a pixel x in 0..255 enters the network as (x - mean) / scale.

    The caller hands over uint8, or floats in [-1, 1]; both mean the same picture. The scaling belongs to the weights,
    so no code outside the network scales pixels.
    """

    name: str
    mean: float
    scale: float

    def scaled(self, images: Tensor) -> Tensor:
        """Return float32 [B, 3, 112, 112] in the network's scaling, or raise ValueError: what was expected, what came.

        The values of uint8 are not read, so that no GPU has to be waited for. Floats are refused if a value is NaN or
        beyond [-1.01, 1.01], and if none is negative: such a batch is almost surely in [0, 1].
        """
        check_shape(images)
        if images.dtype == torch.uint8:
            return images.to(torch.float32).sub_(self.mean).div_(self.scale)
        _check_values(images)
        gain, offset = 127.5 / self.scale, (127.5 - self.mean) / self.scale
        pixels = images.to(torch.float32)
        return pixels if (gain, offset) == (1.0, 0.0) else pixels * gain + offset


MINUS_ONE_TO_ONE = InputContract(name="minus one to one", mean=127.5, scale=127.5)
"""The contract of InsightFace, ElasticFace and MaskInv weights."""


def check_shape(images: Tensor) -> None:
    """Raise ValueError, what was expected and what came, unless images are uint8 or float [B, 3, 112, 112], B > 0."""
    if not isinstance(images, Tensor):
        raise ValueError(f"A network expects a tensor, {EXPECTED}; it got {type(images).__name__}.")
    shape = tuple(images.shape)
    if not (images.dtype == torch.uint8 or images.dtype.is_floating_point):
        raise _refusal(images, "Hand the pixels over as uint8.")
    if len(shape) == 3:
        raise _refusal(images, "The batch axis is missing: images[None].")
    if len(shape) == 4 and shape[3] == 3 and shape[1] != 3:
        raise _refusal(images, "The channels are the last axis: images.permute(0, 3, 1, 2).")
    if len(shape) != 4 or shape[1] != 3:
        raise _refusal(images, "A face has three channels, on axis 1.")
    if shape[2:] != (SIZE, SIZE):
        raise _refusal(images, "Align the faces again by their landmarks; resizing would move the features.")
    if shape[0] == 0:
        raise _refusal(images, "The batch is empty.")


def _check_values(images: Tensor) -> None:
    low, high = torch.stack(torch.aminmax(images.detach())).tolist()
    if math.isnan(low):
        raise _refusal(images, "It holds NaN.")
    values = f"Its values range from {low:.4g} to {high:.4g}"
    if low < -1.01 or high > 1.01:
        raise _refusal(images, f"{values}; if they are 0..255, hand them over as uint8.")
    if low >= 0:
        raise _refusal(images, f"{values}, none negative, which looks like [0, 1]: use 2 * x - 1.")


def _refusal(images: Tensor, hint: str) -> ValueError:
    return ValueError(f"A network expects {EXPECTED}; it got {images.dtype} {list(images.shape)}. {hint}")


class Network(nn.Module):
    """A face network: ``network(images)`` gives raw embeddings, float32 [B, embedding_size], not normalised.

    ``name`` is its registered name; ``contract`` is applied to its input. Subclasses define ``maps`` and ``head``.
    """

    def __init__(self, *, name: str, embedding_size: int, contract: InputContract) -> None:
        super().__init__()
        self.name = name
        self.embedding_size = checks.whole_number("embedding_size", embedding_size, minimum=1)
        self.contract = contract

    def forward(self, images: Tensor) -> Tensor:
        """Embed faces: uint8 RGB or float in [-1, 1], [B, 3, 112, 112]; other input raises ValueError."""
        return self.embed(self.contract.scaled(images))

    def start_from(self, state: dict[str, Tensor]) -> None:
        """Copy the tensors of a network of the same kind, for a student that starts from another network."""
        self.load_state_dict(state)

    def with_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (raw embeddings, last feature maps [B, C, H, W]) of faces as ``forward`` takes them, in one pass."""
        maps = self.maps(self.contract.scaled(images))
        return self.head(maps), maps

    def embed(self, pixels: Tensor) -> Tensor:
        """Embed pixels already scaled by the contract, float32 [B, 3, 112, 112]."""
        return self.head(self.maps(pixels))

    def maps(self, pixels: Tensor) -> Tensor:
        """Return the last feature maps of scaled pixels, [B, channels, height, width] in the current precision."""
        raise NotImplementedError

    def head(self, maps: Tensor) -> Tensor:
        """Return raw embeddings, float32 [B, embedding_size], from the last feature maps; never in bf16."""
        raise NotImplementedError


def map_shape(name: str, embedding_size: int | None = None) -> tuple[int, int, int]:
    """Return (channels, height, width) of a network's last feature maps, without computing any."""
    network = outline(name, embedding_size).eval()
    return tuple(network.maps(torch.empty(1, 3, SIZE, SIZE, device="meta")).shape[1:])


def build_network(name: str, embedding_size: int | None = None, seed: int = 0) -> Network:
    """Make the registered network ``name`` with fresh weights on the CPU, a pure function of its arguments.

    embedding_size: None takes the network's usual one (iResNet 512, compact and MobileFaceNet 128). The global random
    state is neither read nor changed. An unknown name raises ValueError with the nearest known one.
    """
    return initialised(outline(name, embedding_size), seed)


def outline(name: str, embedding_size: int | None = None) -> Network:
    """Make the registered network ``name`` on the meta device: names and shapes of its tensors, no memory, no values.

    ``upper-face:compact`` is what ``AROUND`` builds around the network after the colon.
    """
    around, colon, inner = name.rpartition(":") if isinstance(name, str) else ("", "", name)
    factory = _imported(NETWORKS[checks.choose("network", inner, NETWORKS)])
    size = {} if embedding_size is None else {"embedding_size": embedding_size}
    with torch.device("meta"):
        if not colon:
            return factory(**size)
        outer = _imported(AROUND[checks.choose("network around another", around, AROUND)])
        return outer(name=name, inner=factory, **size)


def _imported(path: str) -> Callable[..., Network]:
    module, function = path.split(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)


def initialised(network: Network, seed: int) -> Network:
    """Return a network, on the CPU, with fresh weights that its kind and the seed decide.

    Convolutions are normal with deviation 0.1 as published, all others come from torch's usual distributions.
    """
    network = network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(int(randomness.key(checks.whole_number("seed", seed), "network weights")))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.1, generator=generator)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return network
