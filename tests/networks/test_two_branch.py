"""The two-branch network: the region of each branch, and the concatenation of their embeddings."""

import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.faces import TEMPLATE
from maskinv_lib.networks import NETWORKS, build_network, outline
from maskinv_lib.networks.two_branch import EYE_ROWS, eye_region
from tests.networks.samples import faces, trained

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network():
    return trained("two-branch:compact", 33).eval()


@pytest.mark.parametrize("inner", NETWORKS)
def test_its_tensors_are_those_of_two_inner_networks(inner):
    network, keys = outline(f"two-branch:{inner}"), list(outline(inner).state_dict())
    assert list(network.state_dict()) == [f"{branch}.{key}" for branch in ("face", "eyes") for key in keys]
    assert network.face.embedding_size == network.eyes.embedding_size == outline(inner).embedding_size // 2


def test_the_branches_share_no_first_weights():
    network = build_network("two-branch:compact", 32, seed=1)
    assert not torch.equal(network.face.conv1.weight, network.eyes.conv1.weight)


def test_the_eye_region_is_rows_28_to_72_stretched_bilinearly():
    column = torch.rand(112, generator=torch.Generator().manual_seed(0))
    picture = column[None, None, :, None].expand(1, 3, 112, 112)
    region = eye_region(picture)
    assert region.shape == (1, 3, 112, 112)
    for row in range(112):
        position = min(max((row + 0.5) * 44 / 112 - 0.5, 0.0), 43.0)  # pixel centres; the edge rows repeat
        low = int(position)
        share, high = position - low, min(low + 1, 43)
        expected = (1 - share) * column[28 + low].item() + share * column[28 + high].item()
        assert region[0, :, row].flatten().tolist() == pytest.approx([expected] * 336, abs=1e-5)


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
def test_it_is_two_parallel_networks(network):
    pixels = (faces().float() - 127.5) / 127.5
    enlarged = F.interpolate(pixels[:, :, 28:72], (112, 112), mode="bilinear")
    embeddings, maps = network.with_maps(faces())
    expected = torch.cat([network.face.embed(pixels), network.eyes.embed(enlarged)], 1)
    assert torch.allclose(embeddings, expected, atol=1e-4)
    assert torch.allclose(maps, torch.cat([network.face.maps(pixels), network.eyes.maps(enlarged)], 1), atol=1e-4)


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
