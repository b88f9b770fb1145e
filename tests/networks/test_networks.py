"""iResNet: published shapes and counts, its unit and PReLU written out, and the scaling of pixels."""

import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.networks import NETWORKS, InputContract, build_network, outline
from maskinv_lib.networks.iresnet import Block, PReLU

torch.set_num_threads(1)

PUBLISHED = {  # units per layer, parameters, tensors: counted on the published weights at 512-D
    "iresnet18": ((2, 2, 2, 2), 24_025_600, 187),
    "iresnet34": ((3, 4, 6, 3), 34_139_328, 331),
    "iresnet50": ((3, 4, 14, 3), 43_590_848, 475),
    "iresnet100": ((3, 13, 30, 3), 65_156_160, 925),
}


def expected_shapes(blocks, widths, side, size):
    """Re-derive the names and shapes of a published state dict."""

    def batch_norm(name, width):
        shapes = {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
        return shapes | {f"{name}.num_batches_tracked": ()}

    shapes = {"conv1.weight": (widths[0], 3, 3, 3), "prelu.weight": (widths[0],)} | batch_norm("bn1", widths[0])
    before = widths[0]
    for layer, (count, width) in enumerate(zip(blocks, widths, strict=True), 1):
        for unit in range(count):
            name = f"layer{layer}.{unit}"
            shapes |= {f"{name}.conv1.weight": (width, before, 3, 3), f"{name}.conv2.weight": (width, width, 3, 3)}
            shapes |= {f"{name}.prelu.weight": (width,)} | batch_norm(f"{name}.bn1", before)
            shapes |= batch_norm(f"{name}.bn2", width) | batch_norm(f"{name}.bn3", width)
            if unit == 0:
                shapes |= {f"{name}.downsample.0.weight": (width, before, 1, 1)}
                shapes |= batch_norm(f"{name}.downsample.1", width)
            before = width
    shapes |= {"fc.weight": (size, widths[-1] * side * side), "fc.bias": (size,)}
    return shapes | batch_norm("bn2", widths[-1]) | batch_norm("features", size)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_the_published_tensors(name):
    blocks, parameters, keys = PUBLISHED[name]
    network = outline(name)
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    assert shapes == expected_shapes(blocks, (64, 128, 256, 512), 7, 512)
    assert len(shapes) == keys
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_compact_is_small_and_laid_out_alike():
    network = build_network("compact")
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    expected = expected_shapes((1, 1, 1, 1), (32, 64, 128, 256), 2, 128)
    assert shapes == expected | {"conv1.weight": (32, 3, 7, 7)}
    assert 1.35e6 < sum(p.numel() for p in network.parameters()) < 1.45e6
    assert network.fc.weight.abs().max().item() <= 1024**-0.5


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "mobilefacenet"])
def test_every_iresnet_fixes_what_the_published_weights_fix(name):
    network = outline(name, embedding_size=64)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert {m.eps for m in norms} == {1e-5}
    assert network.dropout.p == 0.0


def test_a_unit_is_bn_conv_bn_prelu_conv_bn_plus_shortcut():
    torch.manual_seed(0)
    unit = Block(3, 5, 2).eval()
    for tensor in unit.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1)

    def norm(x, layer):
        mean, variance, weight, bias = (
            t[:, None, None] for t in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    x = torch.randn(2, 3, 8, 8)
    y = norm(F.conv2d(norm(x, unit.bn1), unit.conv1.weight, padding=1), unit.bn2)
    y = torch.where(y > 0, y, y * unit.prelu.weight[:, None, None])
    y = norm(F.conv2d(y, unit.conv2.weight, stride=2, padding=1), unit.bn3)
    shortcut = norm(F.conv2d(x, unit.downsample[0].weight, stride=2), unit.downsample[1])
    assert torch.allclose(unit(x), y + shortcut, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prelu_in_training_equals_torch_in_value_and_gradient(dtype):
    x = torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    ours, theirs = PReLU(6).to(dtype), torch.nn.PReLU(6).to(dtype)
    for layer in (ours, theirs):
        layer.weight.data = torch.linspace(-0.5, 0.5, 6).to(dtype)
    values = [layer(x) for layer in (ours, theirs)]
    pairs = zip(values, (ours, theirs), strict=True)
    gradients = [torch.autograd.grad(value.square().sum(), (x, layer.weight)) for value, layer in pairs]
    assert torch.equal(*values)
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.allclose(gradients[0][1], gradients[1][1], rtol=2e-2 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("mean, scale", [(127.5, 127.5), (127.5, 128.0), (0.0, 255.0)])
def test_uint8_and_float_enter_as_the_same_pixels(mean, scale):
    contract = InputContract(name="test", mean=mean, scale=scale)
    images = torch.full((2, 3, 112, 112), 250, dtype=torch.uint8)
    images[1] = torch.arange(112)
    from_bytes, from_floats = contract.scaled(images), contract.scaled(images / 127.5 - 1)
    assert from_bytes[0, 0, 0, 0].item() == pytest.approx((250 - mean) / scale, abs=1e-6)
    assert torch.allclose(from_bytes, from_floats, atol=1e-6)
    assert from_bytes.dtype == from_floats.dtype == torch.float32


def test_floats_a_rounding_beyond_the_ends_pass():
    assert InputContract(name="test", mean=127.5, scale=127.5).scaled(torch.full((2, 3, 112, 112), -1.005)).shape == (
        2,
        3,
        112,
        112,
    )
