"""MobileFaceNet (Chen et al., CCBR 2018) as InsightFace trains it ("y1"): about a million parameters, for CPUs.

Inverted bottlenecks (expand, depthwise, project), no activation after a projection, and in place of average pooling a
depthwise 7 x 7 convolution with a weight for each of the 49 positions (section 3.1 of the paper).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskinv_lib.networks import InputContract, Network
from maskinv_lib.networks.iresnet import PReLU

EPSILON = 1e-3
"""Added to every batch norm's variance but the last one's, as in the published weights (MXNet's default)."""

LAST_EPSILON = 2e-5
"""Added to the variance of the last batch norm, whose output is the embedding."""

CONTRACT = InputContract(name="mobilefacenet y1", mean=127.5, scale=128.0)
"""The contract of InsightFace's MobileFaceNet, slightly different from the [-1, 1] of iResNets."""

STAGES = ((64, 128, 128, 4), (128, 256, 256, 6), (128, 512, 256, 2))
"""Per stage: channels, width of the halving bottleneck, width and number of the residual bottlenecks."""


class ConvUnit(nn.Module):
    """Convolution, batch norm and, unless ``active`` is false, PReLU: [B, before, H, W] -> [B, after, H', W'].

    A depthwise unit (``groups`` = before = after) filters each channel by itself.
    """

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        active: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride=stride, padding=padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=EPSILON)
        self.prelu = PReLU(after) if active else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the unit's output in the current precision."""
        x = self.bn(self._convolved(x)) if self.training or torch.is_grad_enabled() else self._folded(x)
        return x if self.prelu is None else self.prelu(x)

    def _convolved(self, x: Tensor) -> Tensor:
        """Return the convolution; on a CPU a depthwise one with stride is computed without, then every other is kept.

        The values are the same, and the gradient, which is slow on a CPU with stride, takes a sixth of the time.
        """
        conv = self.conv
        if x.device.type != "cpu" or conv.groups == 1 or conv.stride == (1, 1):
            return conv(x)
        y = functional.conv2d(x, conv.weight, None, 1, conv.padding, conv.dilation, conv.groups)
        return y[:, :, :: conv.stride[0], :: conv.stride[1]].contiguous(memory_format=torch.channels_last)

    def _folded(self, x: Tensor) -> Tensor:
        """Return convolution and batch norm as one convolution, which saves a quarter of the time of both."""
        scale = self.bn.weight / (self.bn.running_var + self.bn.eps).sqrt()
        weight, bias = self.conv.weight * scale[:, None, None, None], self.bn.bias - self.bn.running_mean * scale
        conv = self.conv
        return functional.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


class Bottleneck(nn.Module):
    """Expand to ``width`` channels, filter each, project: [B, before, H, W] -> [B, after, H / stride, W / stride].

    stride 1 adds the input to the output (before = after); stride 2 halves the maps and adds nothing.
    """

    def __init__(self, before: int, width: int, after: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1
        self.expand = ConvUnit(before, width)
        self.depthwise = ConvUnit(width, width, 3, stride=stride, padding=1, groups=width)
        self.project = ConvUnit(width, after, active=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the bottleneck's output; a projection has no activation, which would lose information."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileFaceNet(Network):
    """MobileFaceNet on 112 x 112 faces; raw embeddings float32 [B, embedding_size].

    The stem and each of the three stages halve the maps (112 to 7). ``features`` is a batch norm whose weight stays
    1, as published.
    """

    def __init__(self, *, name: str, embedding_size: int = 128) -> None:
        super().__init__(name=name, embedding_size=embedding_size, contract=CONTRACT)
        before = STAGES[0][0]
        self.stem = ConvUnit(3, before, 3, stride=2, padding=1)
        self.stem_depthwise = ConvUnit(before, before, 3, padding=1, groups=before)
        for number, (after, halving, width, count) in enumerate(STAGES, 1):
            units = [Bottleneck(before, halving, after, 2)]
            units += [Bottleneck(after, width, after, 1) for _ in range(count)]
            setattr(self, f"stage{number}", nn.Sequential(*units))
            before = after
        self.expand = ConvUnit(before, 512)
        self.pool = ConvUnit(512, 512, 7, groups=512, active=False)
        self.fc = nn.Linear(512, self.embedding_size)
        self.features = nn.BatchNorm1d(self.embedding_size, eps=LAST_EPSILON)
        self.features.weight.requires_grad = False

    def maps(self, pixels: Tensor) -> Tensor:
        """Return the last feature maps before the pooling convolution, [B, 512, 7, 7], in the current precision."""
        x = self.stem_depthwise(self.stem(pixels))
        return self.expand(self.stage3(self.stage2(self.stage1(x))))

    def head(self, maps: Tensor) -> Tensor:
        """Return raw embeddings; under autocast the head, where bf16 would round the embedding, stays in float32."""
        x = self.pool(maps).flatten(1)  # [B, 512]
        with torch.autocast(x.device.type, enabled=False):
            return self.features(self.fc(x.float()))


def mobilefacenet(embedding_size: int = 128) -> MobileFaceNet:
    """MobileFaceNet "y1": 1.0 million parameters at 128-D."""
    return MobileFaceNet(name="mobilefacenet", embedding_size=embedding_size)
