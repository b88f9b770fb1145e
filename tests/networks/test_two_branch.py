"""The two-branch network: where each branch looks, how their embeddings join, and the contract of a network."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.faces import TEMPLATE
from maskinv_lib.networks import build_network, map_shape, outline
from maskinv_lib.networks.onnx import export_onnx
from maskinv_lib.networks.two_branch import EYE_ROWS, eye_region
from maskinv_lib.networks.weights import load_network, save_network

torch.set_num_threads(1)

INNER = {"compact": (384, 4, 4), "iresnet18": (1024, 7, 7), "mobilefacenet": (1024, 7, 7)}


def faces(count: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 112, 112), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def network():
    """An odd size; batch norms have seen faces."""
    network = build_network("two-branch:compact", 33, seed=4)
    with torch.no_grad():
        network(faces(16, seed=9))
    return network.eval()


def test_the_eye_region_is_rows_28_to_72_stretched_bilinearly():
    column = torch.rand(112, generator=torch.Generator().manual_seed(0))
    picture = column[None, None, :, None].expand(1, 3, 112, 112)
    found = eye_region(picture)
    assert found.shape == (1, 3, 112, 112)
    for row in range(112):
        place = min(max((row + 0.5) * 44 / 112 - 0.5, 0.0), 43.0)  # pixel centres; the edge rows repeat
        low = int(place)
        share, high = place - low, min(low + 1, 43)
        expected = (1 - share) * column[28 + low].item() + share * column[28 + high].item()
        assert found[0, :, row].flatten().tolist() == pytest.approx([expected] * 336, abs=1e-5)


def test_the_eye_region_holds_both_eyes_near_its_middle_and_every_column():
    for _, y in TEMPLATE[:2]:
        assert abs((EYE_ROWS.start + EYE_ROWS.stop) / 2 - y) < 4
    assert all(y >= EYE_ROWS.stop for _, y in TEMPLATE[3:])
    columns = torch.arange(112.0).expand(1, 3, 112, 112)
    assert torch.allclose(eye_region(columns), columns)


@torch.no_grad()
def test_each_part_of_the_embedding_sees_its_own_region(network):
    clean, noise = faces(), faces(seed=1)
    changed = clean.clone()
    changed[:, :, EYE_ROWS.stop :] = noise[:, :, EYE_ROWS.stop :]
    before, after = network(clean), network(changed)
    assert before.shape == (4, 33)
    assert torch.equal(before[:, 16:], after[:, 16:])
    assert not torch.allclose(before[:, :16], after[:, :16], atol=1e-3)
    changed = clean.clone()
    changed[:, :, 50] = noise[:, :, 50]
    after = network(changed)
    for part in (slice(0, 16), slice(16, 33)):
        assert not torch.allclose(before[:, part], after[:, part], atol=1e-4)


@torch.no_grad()
def test_it_is_two_networks_side_by_side(network):
    pixels = (faces().float() - 127.5) / 127.5
    enlarged = F.interpolate(pixels[:, :, 28:72], (112, 112), mode="bilinear")
    embeddings, maps = network.with_maps(faces())
    expected = torch.cat([network.face.embed(pixels), network.eyes.embed(enlarged)], 1)
    assert torch.allclose(embeddings, expected, atol=1e-4)
    assert torch.allclose(maps, torch.cat([network.face.maps(pixels), network.eyes.maps(enlarged)], 1), atol=1e-4)
    assert torch.equal(network(faces()), embeddings)


@pytest.mark.parametrize("inner", INNER)
def test_shapes_keys_and_contract(inner):
    name = f"two-branch:{inner}"
    network, plain = outline(name), outline(inner)
    assert map_shape(name) == INNER[inner]
    keys = list(plain.state_dict())
    assert list(network.state_dict()) == [f"{branch}.{key}" for branch in ("face", "eyes") for key in keys]
    assert (network.name, network.embedding_size, network.contract) == (name, plain.embedding_size, plain.contract)
    assert network.face.embedding_size == network.eyes.embedding_size == plain.embedding_size // 2
    frozen = [key for key, parameter in network.named_parameters() if not parameter.requires_grad]
    assert frozen == ["face.features.weight", "eyes.features.weight"]


@pytest.mark.parametrize("size, halves", [(2, (1, 1)), (3, (1, 2)), (128, (64, 64)), (513, (256, 257))])
def test_odd_sizes_are_split_without_loss(size, halves):
    network = outline("two-branch:compact", size)
    assert (network.face.embedding_size, network.eyes.embedding_size) == halves
    assert network.embedding_size == size


@pytest.mark.parametrize("size", [2, 3])
def test_the_smallest_sizes_embed_and_send_gradients_to_both_branches(size):
    network = build_network("two-branch:compact", size)
    embeddings = network(faces(2))
    assert embeddings.shape == (2, size)
    embeddings[:, 0].square().sum().backward(retain_graph=True)
    assert network.face.conv1.weight.grad is not None and network.eyes.conv1.weight.grad.abs().sum() == 0
    embeddings[:, -1].square().sum().backward()
    assert network.eyes.conv1.weight.grad.isfinite().all()


@pytest.mark.parametrize("size", [1, 0, 2.0])
def test_a_size_that_cannot_be_split_is_refused(size):
    with pytest.raises(ValueError, match="embedding_size of two branches must be a whole number from 2 up"):
        build_network("two-branch:compact", size)


def test_weights_are_a_function_of_the_seed_and_differ_between_the_branches():
    state = torch.get_rng_state()
    one, same, other = (build_network("two-branch:compact", 32, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(one.state_dict().values(), same.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(one.face.conv1.weight, one.eyes.conv1.weight)
    for branch in ("face", "eyes"):
        first, second = getattr(one, branch), getattr(other, branch)
        assert not torch.equal(first.conv1.weight, second.conv1.weight)
        assert first.layer4[0].conv2.weight.std().item() == pytest.approx(0.1, rel=0.03)
        assert first.prelu.weight.unique().tolist() == [0.25]


@torch.no_grad()
def test_it_comes_back_from_a_file(tmp_path, network):
    save_network(tmp_path / "two.safetensors", network, {"seed": 4})
    loaded, metadata = load_network(tmp_path / "two.safetensors")
    assert metadata["network"] == loaded.name == "two-branch:compact" and loaded.embedding_size == 33
    assert torch.equal(loaded.eval()(faces()), network(faces()))


@pytest.mark.parametrize("autocast", [False, True])
def test_it_learns_in_fp32_and_bf16_channels_last(autocast):
    network = build_network("two-branch:compact", 16).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    target = F.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(0)))
    losses = []
    for _ in range(5):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            embeddings, maps = network.with_maps(faces(8).to(memory_format=torch.channels_last))
        assert embeddings.dtype == torch.float32 and maps.shape == (8, 384, 4, 4)
        assert maps.dtype == (torch.bfloat16 if autocast else torch.float32)
        loss = (1 - (F.normalize(embeddings) * target).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_an_exported_graph_gives_torch_s_embeddings(tmp_path, network):
    for needed in ("onnx", "onnxscript"):
        pytest.importorskip(needed)
    runtime = pytest.importorskip("onnxruntime")
    path = export_onnx(network, tmp_path / "two.onnx")
    run = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        (found,) = run.run(None, {"pixels": faces(batch).numpy().astype(np.float32)})
        with torch.no_grad():
            assert np.allclose(found, network(faces(batch)).numpy(), atol=1e-4)
