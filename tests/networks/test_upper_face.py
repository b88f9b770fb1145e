"""The upper-face network: blind below its row, otherwise the network that it is built around."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.faces.masks.drawing import draw_masks, mask_opacity
from maskinv_lib.networks import build_network, map_shape, outline
from maskinv_lib.networks.onnx import export_onnx
from maskinv_lib.networks.upper_face import ROW, upper_part
from maskinv_lib.networks.weights import load_network, save_network
from maskinv_lib.utils import randomness

torch.set_num_threads(1)

INNER = {"compact": (192, 4, 4), "iresnet18": (512, 7, 7), "mobilefacenet": (512, 7, 7)}


def faces(count: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 112, 112), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def network():
    """Batch norms have seen faces, so that no template is a constant."""
    network = build_network("upper-face:compact", 32, seed=4)
    with torch.no_grad():
        network(faces(16, seed=9))
    return network.eval()


@torch.no_grad()
def test_noise_below_the_row_changes_nothing_and_above_it_does(network):
    clean, noise = faces(), faces(seed=1)
    below, above = clean.clone(), clean.clone()
    below[:, :, ROW:] = noise[:, :, ROW:]
    above[:, :, ROW - 1] = noise[:, :, ROW - 1]
    assert torch.equal(network(below), network(clean))
    assert not torch.allclose(network(above), network(clean), atol=1e-4)
    assert not torch.allclose(network.inner(below), network.inner(clean), atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("kinds", ["seen", "unseen"])
def test_the_fabric_of_published_masks_changes_no_template(network, kinds):
    clean, keys = faces(), randomness.key(3, torch.arange(4))
    masked, coverage = draw_masks(clean, keys, kinds, geometry="published")
    opacity = mask_opacity(keys, kinds, geometry="published")[:, None] > 0.5
    fabric = torch.where(opacity, masked, clean)
    assert coverage.min() > 0.15 and not torch.equal(fabric, clean)
    assert torch.equal(network(fabric), network(clean))
    drawn_below = torch.cat([clean[:, :, :ROW], masked[:, :, ROW:]], dim=2)
    assert torch.equal(network(drawn_below), network(clean))


@pytest.mark.parametrize("geometry", ["published", "natural"])
@pytest.mark.parametrize("kinds", ["seen", "unseen"])
def test_no_mask_covers_a_pixel_above_the_row_and_some_begin_near_it(geometry, kinds):
    opacity = mask_opacity(randomness.key(8, torch.arange(300)), kinds, geometry=geometry)
    first = (opacity > 0.5).any(2).float().argmax(1)
    assert ROW <= first.min() <= ROW + 6
    grey = torch.full((64, 3, 112, 112), 128, dtype=torch.uint8)
    drawn, _ = draw_masks(grey, randomness.key(8, torch.arange(64)), kinds, geometry=geometry)
    assert (drawn[:, :, : ROW - 8] == 128).all()  # rim and shadow: what the docstring admits, and no more


def test_the_upper_part_stays_in_place_over_blank():
    pixels = torch.randn(2, 3, 112, 112)
    pixels[0, 0, 80, 3] = float("nan")
    upper = upper_part(pixels.to(memory_format=torch.channels_last))
    assert torch.equal(upper[:, :, :ROW], pixels[:, :, :ROW])
    assert upper.shape == pixels.shape and (upper[:, :, ROW:] == 0).all()


@torch.no_grad()
def test_it_is_the_inner_network_on_blanked_faces(network):
    blanked = (faces().float() - 127.5) / 127.5
    blanked[:, :, ROW:] = 0
    embeddings, maps = network.with_maps(faces())
    assert torch.allclose(embeddings, network.inner.embed(blanked), atol=1e-4)
    assert torch.allclose(maps, network.inner.maps(blanked), atol=1e-4)
    assert torch.equal(embeddings, network(faces()))


@pytest.mark.parametrize("inner", INNER)
def test_shapes_keys_and_contract_are_the_inner_ones(inner):
    name = f"upper-face:{inner}"
    network, plain = outline(name), outline(inner)
    assert map_shape(name) == map_shape(inner) == INNER[inner]
    assert list(network.state_dict()) == [f"inner.{key}" for key in plain.state_dict()]
    assert (network.name, network.embedding_size, network.contract) == (name, plain.embedding_size, plain.contract)
    assert outline(name, 48).embedding_size == 48
    frozen = [key for key, parameter in network.named_parameters() if not parameter.requires_grad]
    assert frozen == ["inner.features.weight"]


def test_weights_are_a_function_of_the_seed_and_reach_the_inner_network():
    state = torch.get_rng_state()
    one, same, other = (build_network("upper-face:compact", 32, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    plain = build_network("compact", 32, seed=1).state_dict()
    for key, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[key]) and torch.equal(tensor, plain[key.removeprefix("inner.")])
    assert not torch.equal(one.inner.conv1.weight, other.inner.conv1.weight)


@torch.no_grad()
def test_it_comes_back_from_a_file(tmp_path, network):
    save_network(tmp_path / "upper.safetensors", network, {"seed": 4})
    loaded, metadata = load_network(tmp_path / "upper.safetensors")
    assert metadata["network"] == loaded.name == "upper-face:compact"
    assert torch.equal(loaded.eval()(faces()), network(faces()))


@pytest.mark.parametrize("autocast", [False, True])
def test_it_learns_in_fp32_and_bf16_channels_last(autocast):
    network = build_network("upper-face:compact", 16).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    target = F.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(0)))
    losses = []
    for _ in range(5):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            embeddings, maps = network.with_maps(faces(8).to(memory_format=torch.channels_last))
        assert embeddings.dtype == torch.float32 and maps.shape == (8, 192, 4, 4)
        loss = (1 - (F.normalize(embeddings) * target).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_an_exported_graph_is_as_blind(tmp_path, network):
    for needed in ("onnx", "onnxscript"):
        pytest.importorskip(needed)
    runtime = pytest.importorskip("onnxruntime")
    path = export_onnx(network, tmp_path / "upper.onnx")
    run = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    below = faces(3)
    below[:, :, ROW:] = 7
    found = [run.run(None, {"pixels": x.numpy().astype(np.float32)})[0] for x in (faces(3), below)]
    assert np.array_equal(*found)
    with torch.no_grad():
        assert np.allclose(found[0], network(faces(3)).numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "name, words",
    [
        ("uper-face:compact", "Did you mean 'upper-face'"),
        ("upper-face:compct", "Did you mean 'compact'"),
        ("upper-face:", "Unknown network ''"),
    ],
)
def test_misspelt_names_are_refused(name, words):
    with pytest.raises(ValueError) as caught:
        build_network(name)
    assert words in str(caught.value)


def test_it_takes_over_a_whole_face_network_s_tensors_and_its_own():
    whole, upper = build_network("compact", 16, seed=1), build_network("upper-face:compact", 16, seed=2)
    upper.start_from(whole.state_dict())
    assert all(torch.equal(value, upper.inner.state_dict()[name]) for name, value in whole.state_dict().items())
    other = build_network("upper-face:compact", 16, seed=3)
    upper.start_from(other.state_dict())
    assert all(torch.equal(value, upper.state_dict()[name]) for name, value in other.state_dict().items())
