"""The degradations of the camera: known kernels, white noise, and the block transform of JPEG."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import fft

from maskinv_lib.faces.rendering.camera import _blocks, _blur, _noise, photograph
from maskinv_lib.utils.randomness import key
from tests.faces.rendering.samples import column


def test_blocks_match_a_plain_dct():
    image = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    luma = 0.299 * image[0, 0] + 0.587 * image[0, 1] + 0.114 * image[0, 2]
    planes = torch.stack([luma, image[0, 2] - luma, image[0, 0] - luma])
    step = 0.05
    quanta = step * (1 + 0.4 * np.add.outer(np.arange(8), np.arange(8)))
    for plane, quantum in zip(planes, (quanta, 1.5 * quanta, 1.5 * quanta), strict=True):
        for top in (0, 56):
            block = plane[top : top + 8, 16:24]
            spectrum = fft.dctn(block.numpy(), norm="ortho")
            block.copy_(torch.from_numpy(fft.idctn(np.round(spectrum / quantum) * quantum, norm="ortho")))
    red, blue = planes[0] + planes[2], planes[0] + planes[1]
    result = _blocks(image, column(step))[0]
    for rows in (slice(0, 8), slice(56, 64)):
        torch.testing.assert_close(result[0, rows, 16:24], red[rows, 16:24], atol=1e-4, rtol=0)
        torch.testing.assert_close(result[2, rows, 16:24], blue[rows, 16:24], atol=1e-4, rtol=0)


def test_blur_keeps_the_mean_and_spreads_a_point():
    image = torch.zeros(1, 3, 112, 112)
    image[:, :, 50, 60] = 1
    sigma = 0.8
    blurred = _blur(image, column(sigma))[0, 0]
    offset = torch.arange(112.0) - 60
    assert blurred.sum().item() == pytest.approx(1, abs=1e-5)
    assert (blurred.sum(0) * offset**2).sum().item() == pytest.approx(sigma**2, abs=1e-4)
    assert torch.equal(_blur(image, column(0)), image)


def test_noise_is_white_and_standard():
    noise = _noise(key(0, "test", torch.arange(3)))
    assert noise.shape == (3, 3, 112, 112)
    flat = noise.reshape(9, -1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(9), atol=0.04, rtol=0)
    torch.testing.assert_close(torch.corrcoef(flat), torch.eye(9), atol=0.05, rtol=0)
    torch.testing.assert_close(flat.std(1), torch.ones(9), atol=0.03, rtol=0)


def test_a_perfect_camera_only_rounds():
    image = torch.tensor([-0.2, 0.0, 0.5, 0.7, 1.0, 1.3]).reshape(1, 1, 1, 6).repeat(1, 3, 112, 19)[..., :112]
    taken = photograph(SimpleNamespace(), image, key(0, "test", torch.zeros(1, dtype=torch.int64)), 0.0)
    assert taken.dtype == torch.uint8
    assert taken[0, 0, 0, :6].tolist() == [0, 0, 128, 179, 255, 255]


def test_a_stronger_camera_does_more_damage():
    ramp = torch.linspace(0.2, 0.8, 112).expand(2, 3, 112, 112).contiguous()
    keys = key(0, "test", torch.arange(2))
    clean = photograph(SimpleNamespace(), ramp, keys, 0.0).float()
    damage = []
    for blur, noise, blocks in ((0.0, 0.0, 0.0), (0.5, 0.01, 0.4), (1.0, 0.02, 1.0)):
        p = SimpleNamespace(blur=column(blur, 2), noise=column(noise, 2), blocks=column(blocks, 2))
        damage.append((photograph(p, ramp, keys, 1.0).float() - clean).abs().mean().item())
    assert 0 < damage[0] < damage[1] < damage[2] < 12
    assert not torch.equal(*photograph(p, ramp, keys, 1.0))  # the noise of two keys differs
