"""iResNet, the backbone of ArcFace, ElasticFace and MaskInv, with the tensor names of the published weights.

The block is the "improved residual unit" of ArcFace (Deng et al., CVPR 2019, section 3.2.2: BN-Conv-BN-PReLU-Conv-BN),
the head its option E (BN, dropout, fully connected, BN).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from maskinv_lib.faces import SIZE
from maskinv_lib.networks import MINUS_ONE_TO_ONE, Network

EPSILON = 1e-5
"""Added to every batch norm's variance, as in the published weights."""

WIDTHS = (64, 128, 256, 512)
"""Channels of the four layers of the published networks."""


class _PReLU(torch.autograd.Function):
    """PReLU for training on a CPU. torch's own backward decides for every element, which is four times slower.

    The forward pass and the gradient of the input are bit-equal to torch's.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.prelu(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        of_weight = x.clamp(max=0).mul_(gradient).sum((0, 2, 3))
        kept = torch.ops.aten.threshold_backward(gradient, x, 0.0)  # the gradient where x > 0, else 0
        return kept.lerp_(gradient, weight[:, None, None]), of_weight


class PReLU(nn.PReLU):
    """torch's PReLU with the same values; its backward pass on a CPU is several times faster."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x where positive, weight * x elsewhere, [B, C, H, W] in the dtype of x."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        return _PReLU.apply(x, self.weight.to(x.dtype))


class Block(nn.Module):
    """One residual unit, [B, before, H, W] -> [B, after, H / stride, W / stride]; the second convolution strides."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before, eps=EPSILON)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after, eps=EPSILON)
        self.prelu = PReLU(after)
        self.conv2 = nn.Conv2d(after, after, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(after, eps=EPSILON)
        self.downsample = None
        if stride != 1 or before != after:
            shortcut = nn.Conv2d(before, after, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(after, eps=EPSILON))

    def forward(self, x: Tensor) -> Tensor:
        """Return the unit's output; nothing follows the sum, so the identity path is unchanged."""
        residual = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        residual = self.bn3(self.conv2(residual))
        return residual + (x if self.downsample is None else self.downsample(x))


class IResNet(Network):
    """iResNet on 112 x 112 faces; raw embeddings float32 [B, embedding_size].

    blocks: units per layer; widths: channels per layer; stem_stride: 1 as published (each layer then halves 112 to
    7), or 2, or 4 with 7 x 7 weights, as in the compact one (28 to 2). ``features`` is a batch norm whose weight stays
    1, as published.
    """

    def __init__(
        self,
        *,
        name: str,
        blocks: tuple[int, ...],
        widths: tuple[int, ...] = WIDTHS,
        stem_stride: int = 1,
        embedding_size: int = 512,
    ) -> None:
        super().__init__(name=name, embedding_size=embedding_size, contract=MINUS_ONE_TO_ONE)
        kernel = 7 if stem_stride == 4 else 3
        self.conv1 = nn.Conv2d(3, widths[0], kernel, stride=stem_stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0], eps=EPSILON)
        self.prelu = PReLU(widths[0])
        side = -(-SIZE // stem_stride)
        for number, (before, after, count) in enumerate(zip(widths[:1] + widths, widths, blocks, strict=False), 1):
            units = [Block(before if i == 0 else after, after, 2 if i == 0 else 1) for i in range(count)]
            setattr(self, f"layer{number}", nn.Sequential(*units))
            side = -(-side // 2)
        self.bn2 = nn.BatchNorm2d(widths[-1], eps=EPSILON)
        self.dropout = nn.Dropout(0.0)
        self.fc = nn.Linear(widths[-1] * side * side, self.embedding_size)
        self.features = nn.BatchNorm1d(self.embedding_size, eps=EPSILON)
        self.features.weight.requires_grad = False

    def maps(self, pixels: Tensor) -> Tensor:
        """Return the last layer's feature maps, [B, widths[-1], 7, 7] (compact: 2, 2), in the current precision."""
        x = self.prelu(self.bn1(self.conv1(pixels)))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def head(self, maps: Tensor) -> Tensor:
        """Return raw embeddings; under autocast the head, where bf16 would round the embedding, stays in float32."""
        x = self.dropout(self.bn2(maps).flatten(1))
        with torch.autocast(x.device.type, enabled=False):
            return self.features(self.fc(x.float()))


def iresnet18(embedding_size: int = 512) -> IResNet:
    """iResNet-18: 24,025,600 parameters at 512-D."""
    return IResNet(name="iresnet18", blocks=(2, 2, 2, 2), embedding_size=embedding_size)


def iresnet34(embedding_size: int = 512) -> IResNet:
    """iResNet-34: 34,139,328 parameters at 512-D."""
    return IResNet(name="iresnet34", blocks=(3, 4, 6, 3), embedding_size=embedding_size)


def iresnet50(embedding_size: int = 512) -> IResNet:
    """iResNet-50: 43,590,848 parameters at 512-D."""
    return IResNet(name="iresnet50", blocks=(3, 4, 14, 3), embedding_size=embedding_size)


def iresnet100(embedding_size: int = 512) -> IResNet:
    """iResNet-100, MaskInv's network: 65,156,160 parameters at 512-D."""
    return IResNet(name="iresnet100", blocks=(3, 13, 30, 3), embedding_size=embedding_size)


COMPACT = {"blocks": (1, 1, 1, 1), "widths": (32, 64, 128, 256), "stem_stride": 4}
"""The settings of ``compact``. Of the networks that ``tools.speed.quality`` compared, it took the fewest seconds to
almost every error rate, and a batch of 32 faces took fewer than one of 64 or 128."""


def compact(embedding_size: int = 128) -> IResNet:
    """An iResNet for CPUs: one narrow unit per layer, a stem of stride 4, about 1.4 million parameters at 128-D."""
    return IResNet(name="compact", embedding_size=embedding_size, **COMPACT)
