import numpy as np
import pytest
import torch

from maskinv_lib.faces.masks.drawing import KINDS, draw_masks
from maskinv_lib.faces.rendering.synthetic import rendered_set
from maskinv_lib.tools.speed import plain_masks
from maskinv_lib.utils.randomness import key


@pytest.mark.parametrize("kinds", KINDS)
def test_opencv_draws_the_same_masks_within_a_few_grey_levels(kinds):
    pytest.importorskip("cv2")
    faces = rendered_set(3, range(12), 1).images
    keys = key("plain masks", torch.arange(12))
    ours = draw_masks(faces, keys, kinds)[0].permute(0, 2, 3, 1).numpy().astype(int)
    clean = faces.permute(0, 2, 3, 1).contiguous().numpy()
    plain = plain_masks.prepare(faces, keys, kinds).draw_all(clean).astype(int)
    assert np.abs(ours - clean).mean() > 10  # masks were drawn
    difference = np.abs(ours - plain)
    assert difference.mean() < 0.5
    assert np.quantile(difference, 0.99) <= 4
    assert np.abs(ours - np.roll(plain, 1, axis=0)).mean() > 5  # of another face


def test_without_opencv_there_is_no_baseline(monkeypatch):
    monkeypatch.delattr(plain_masks, "cv2", raising=False)
    assert not plain_masks.installed()
    plain_masks.set_threads(1)
