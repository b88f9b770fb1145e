"""MobileFaceNet: the published layout, its equations written out, and its own input contract."""

import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.networks import build_network, outline
from maskinv_lib.networks.mobilefacenet import Bottleneck, ConvUnit
from tests.networks.samples import faces

torch.set_num_threads(1)

LAYERS = [  # kernel, before, after, stride, depthwise, with PReLU: the convolutions of the published graph, in order
    (3, 3, 64, 2, False, True),
    (3, 64, 64, 1, True, True),
]
for count, before, after, halving, width in ((4, 64, 64, 128, 128), (6, 64, 128, 256, 256), (2, 128, 128, 512, 256)):
    for unit in range(count + 1):
        first, middle, stride = (before, halving, 2) if unit == 0 else (after, width, 1)
        LAYERS += [
            (1, first, middle, 1, False, True),
            (3, middle, middle, stride, True, True),
            (1, middle, after, 1, False, False),
        ]
LAYERS += [(1, 128, 512, 1, False, True), (7, 512, 512, 1, True, False)]


def lively(network):
    """Give every tensor a value of its own, so that no batch norm or PReLU is at its neutral value."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.endswith(("bn.weight", "running_var", "prelu.weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("bias", "running_mean")):
            tensor.uniform_(-0.2, 0.2, generator=generator)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return lively(build_network("mobilefacenet"))


def norm(x, layer, epsilon):
    scale = layer.weight / (layer.running_var + epsilon).sqrt()
    shift = layer.bias - layer.running_mean * scale
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return x * scale.view(shape) + shift.view(shape)


def test_the_layers_are_those_of_the_published_graph():
    network = outline("mobilefacenet")
    layers = []
    for unit in (module for module in network.modules() if isinstance(module, ConvUnit)):
        conv = unit.conv
        assert conv.bias is None and conv.groups in (1, conv.in_channels)
        assert conv.padding == ((1, 1) if conv.kernel_size == (3, 3) else (0, 0))
        layer = (conv.kernel_size[0], conv.in_channels, conv.out_channels, conv.stride[0])
        layers.append((*layer, conv.groups > 1, unit.prelu is not None))
    assert layers == LAYERS
    assert sum(p.numel() for p in network.parameters()) == 1_003_264
    assert len([name for name in network.state_dict() if "tracked" not in name]) == 284
    assert {m.eps for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-3}
    assert network.features.eps == 2e-5 and network.fc.weight.shape == (128, 512)


def test_the_embedding_is_the_graph_written_out(network):
    pixels = (faces(2).float() - 127.5) * 0.0078125
    units = [module for module in network.modules() if isinstance(module, ConvUnit)]
    x, entry = pixels, None
    for number, (unit, (kernel, before, _, stride, depthwise, active)) in enumerate(zip(units, LAYERS, strict=True)):
        in_stage = 2 <= number < len(LAYERS) - 2
        if in_stage and (number - 2) % 3 == 0:
            entry = x
        groups, padding = before if depthwise else 1, 1 if kernel == 3 else 0
        x = norm(F.conv2d(x, unit.conv.weight, stride=stride, padding=padding, groups=groups), unit.bn, 1e-3)
        if active:
            x = torch.where(x > 0, x, x * unit.prelu.weight.view(1, -1, 1, 1))
        if in_stage and (number - 2) % 3 == 2 and LAYERS[number - 1][3] == 1:
            x = x + entry
    assert x.shape == (2, 512, 1, 1)
    expected = norm(x.flatten(1) @ network.fc.weight.T + network.fc.bias, network.features, 2e-5)
    with torch.no_grad():
        assert torch.allclose(network(faces(2)), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_a_halving_bottleneck_adds_nothing_and_a_residual_one_its_input():
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    halving, residual = Bottleneck(4, 8, 6, 2).eval(), Bottleneck(4, 8, 4, 1).eval()
    for unit in (halving, residual):
        torch.nn.init.zeros_(unit.project.bn.weight)
    assert torch.equal(halving(x), torch.zeros(2, 6, 4, 4))
    assert torch.equal(residual(x), x)


def test_a_strided_depthwise_unit_gives_torch_s_values_and_gradients_in_training():
    unit = ConvUnit(6, 6, 3, stride=2, padding=1, groups=6, active=False)
    x = torch.randn(2, 6, 11, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = unit.conv.weight
    ours, theirs = unit._convolved(x), torch.nn.functional.conv2d(x, weight, None, 2, 1, 1, 6)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(y.pow(3).sum(), (x, weight)) for y in (ours, theirs)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_fresh_weights_give_distinct_embeddings_of_pixels_scaled_by_128():
    network = build_network("mobilefacenet", 32, seed=1)
    embeddings = network(faces(8))
    assert embeddings.shape == (8, 32) and torch.allclose(embeddings.std(0), torch.ones(32), atol=0.2)
    assert network.contract.scaled(faces()).max() == 127.5 / 128
