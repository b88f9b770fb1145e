"""Covered pixels and identity signal, on synthetic faces with a known answer."""

import numpy as np
import pytest
import torch

from maskinv_lib.evaluation.benchmarks.rendered import RenderedBenchmark
from maskinv_lib.faces import Faces
from maskinv_lib.faces.rendering.synthetic import Rendering, rendered_set
from maskinv_lib.reports import explain
from maskinv_lib.study.profiles import RENDERING


def halves() -> Faces:
    """Twenty people whose upper half is their own and whose lower half is noise; four views each."""
    generator = torch.Generator().manual_seed(0)
    identity = torch.arange(20).repeat_interleave(4)
    own = torch.randint(0, 255, (20, 3, 7, 14), generator=generator, dtype=torch.uint8)[identity]
    noise = torch.randint(0, 255, (80, 3, 7, 14), generator=generator, dtype=torch.uint8)
    images = torch.cat([own, noise], dim=2).repeat_interleave(8, 2).repeat_interleave(8, 3)
    return Faces(images=images, identity=identity, source="halves", publishable=True)


def test_first_views_come_person_by_person():
    views = explain.first_views(halves(), people=3, views=2)
    assert views.identity.tolist() == [0, 0, 1, 1, 2, 2]


def test_masked_faces_differ_only_under_their_mask_and_begin_again():
    faces = halves()
    views = explain.masked_faces(faces, "seen", 24)
    plain = faces.images[::4][torch.arange(24) % 20]
    assert views.identity.tolist() == [*range(20), 0, 1, 2, 3]
    assert torch.equal(views.images[:, :, :30], plain[:, :, :30]) and not torch.equal(views.images, plain)


def test_the_identity_signal_lies_where_people_differ():
    signal = explain.identity_signal(halves())
    assert signal[:50].mean() > 100 * signal[62:].mean()
    assert explain.hidden_share(signal, np.ones_like(signal)) == 1
    lower = np.zeros_like(signal)
    lower[60:] = 1
    assert explain.hidden_share(signal, lower) < 0.05


@pytest.mark.parametrize("kinds", ["seen", "unseen"])
def test_two_fifths_of_the_identity_of_rendered_people_lie_under_the_mask(kinds):
    faces = rendered_set(2026, range(1_000_000, 1_000_060), 6, Rendering(**RENDERING))
    assert explain.hidden_share(explain.identity_signal(faces), explain.cover_map(faces, kinds)) > 0.4


def test_masks_cover_the_lower_face_and_coverage_counts_it():
    faces = halves()
    covered = explain.cover_map(faces, "unseen", 64)
    assert covered[:40].max() == 0 and covered[95, 56] > 0.9
    frame = explain.mask_coverage(faces, "unseen", 64)
    assert list(frame.columns) == ["kinds", "kind", "coverage"] and len(frame) == 64
    assert abs(frame["coverage"].mean() - covered.mean()) < 0.03


def test_pixels_recognise_what_is_not_covered():
    errors = explain.pixel_errors(RenderedBenchmark(name="halves", faces=halves(), views=4))["EER in %"]
    assert errors["unmasked-unmasked", "none"] < 5
    assert len(errors) == 6
    blocks = explain.pixel_templates(halves().images)
    assert blocks.shape == (80, 588) and torch.allclose(blocks.norm(dim=1), torch.ones(80))
