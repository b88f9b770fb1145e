"""The upper-face network: blind below its row, otherwise the network that it is built around."""

import pytest
import torch

from maskinv_lib.faces.masks.drawing import draw_masks, mask_opacity
from maskinv_lib.networks import NETWORKS, build_network, outline
from maskinv_lib.networks.upper_face import ROW, upper_part
from maskinv_lib.utils import randomness
from tests.networks.samples import faces, same_tensors, trained

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network():
    return trained("upper-face:compact").eval()


@pytest.mark.parametrize("inner", NETWORKS)
def test_its_tensors_are_the_inner_ones(inner):
    assert list(outline(f"upper-face:{inner}").state_dict()) == [f"inner.{key}" for key in outline(inner).state_dict()]


def test_first_weights_are_those_of_the_inner_network_alone():
    assert same_tensors(build_network("upper-face:compact", 32, seed=1).inner, build_network("compact", 32, seed=1))


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
def test_no_mask_covers_a_pixel_above_the_row_and_the_highest_begin_near_it(geometry, kinds):
    opacity = mask_opacity(randomness.key(8, torch.arange(300)), kinds, geometry=geometry)
    first = (opacity > 0.5).any(2).float().argmax(1)
    assert ROW <= first.min() <= ROW + 6
    grey = torch.full((64, 3, 112, 112), 128, dtype=torch.uint8)
    drawn, _ = draw_masks(grey, randomness.key(8, torch.arange(64)), kinds, geometry=geometry)
    assert (drawn[:, :, : ROW - 8] == 128).all()  # rim and shadow, as its docstring says


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


def test_it_starts_from_a_network_for_whole_faces():
    whole, upper = build_network("compact", 16, seed=1), build_network("upper-face:compact", 16, seed=2)
    upper.start_from(whole.state_dict())
    assert same_tensors(upper.inner, whole)
