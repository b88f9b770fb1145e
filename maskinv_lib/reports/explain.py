"""What a mask hides, in pictures and numbers: the small measurements behind the teaching notebook."""

import dataclasses

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from maskinv_lib.evaluation.benchmarks.rendered import RenderedBenchmark
from maskinv_lib.evaluation.metrics import equal_error_rate, error_curve
from maskinv_lib.faces import Faces
from maskinv_lib.faces.masks.drawing import draw_masks, mask_kind, mask_opacity
from maskinv_lib.utils.randomness import key


def some(faces: Faces, people: int, views: int) -> Faces:
    """Return the first ``views`` views of the first ``people`` people, person by person."""
    chosen = [(faces.identity == person).nonzero().squeeze(1)[:views] for person in range(people)]
    return _at(faces, torch.cat(chosen))


def _at(faces: Faces, index: Tensor) -> Faces:
    return dataclasses.replace(faces, images=faces.images[index], identity=faces.identity[index])


def _keys(faces: Faces, kinds: str) -> Tensor:
    return key("explain", kinds, torch.arange(len(faces)))


def masked(faces: Faces, kinds: str, count: int) -> Faces:
    """Return the first views of ``count`` people, again from the first when they run out, each with a mask."""
    first = torch.stack([(faces.identity == person).nonzero()[0, 0] for person in faces.identity.unique()])
    chosen = _at(faces, first[torch.arange(count) % len(first)])
    images, _ = draw_masks(chosen.images, _keys(chosen, kinds), kinds)
    return dataclasses.replace(chosen, images=images)


def coverage(faces: Faces, kinds: str, count: int = 512) -> pd.DataFrame:
    """Return the covered share of the picture for ``count`` drawn masks: columns kinds, kind, coverage."""
    chosen = _at(faces, torch.arange(count) % len(faces))
    keys = _keys(chosen, kinds)
    _, covered = draw_masks(chosen.images, keys, kinds)
    return pd.DataFrame({"kinds": kinds, "kind": mask_kind(keys, kinds), "coverage": covered.numpy()})


def identity_signal(faces: Faces) -> np.ndarray:
    """Return each pixel's Fisher ratio, [112, 112]: variance between people over mean variance between their views.

    Pixels are luminance after a light blur; each person counts alike.
    """
    grey = F.avg_pool2d(faces.images.float().mean(1, keepdim=True), 5, stride=1, padding=2).squeeze(1)  # [N, H, W]
    people = [grey[faces.identity == person] for person in faces.identity.unique()]
    between = torch.stack([views.mean(0) for views in people]).var(0)
    within = torch.stack([views.var(0) for views in people]).mean(0)
    return (between / within.clamp_min(1e-6)).numpy()


def cover_map(faces: Faces, kinds: str, count: int = 512) -> np.ndarray:
    """Return how often a drawn mask covers each pixel, [112, 112], from 0 to 1."""
    keys = _keys(_at(faces, torch.arange(count) % len(faces)), kinds)
    return mask_opacity(keys, kinds).mean(0).numpy()


def hidden_share(signal: np.ndarray, covered: np.ndarray) -> float:
    """Return the share of the identity signal that lies under the mask, from the two maps."""
    return float((signal * covered).sum() / signal.sum())


def pixel_templates(images: Tensor) -> Tensor:
    """Return the pixels themselves as templates, float32 [N, 588]: 14 x 14 blocks less their mean, unit length."""
    blocks = F.avg_pool2d(images.float(), 8).flatten(1)
    return F.normalize(blocks - blocks.mean(1, keepdim=True), dim=1)


def pixel_errors(benchmark: RenderedBenchmark) -> pd.DataFrame:
    """Return the EER in % of ``pixel_templates`` under every condition of a benchmark."""
    rows = [
        {
            "condition": condition,
            "masks": kinds,
            "EER in %": round(100 * equal_error_rate(error_curve(comparisons))[0], 1),
        }
        for condition, kinds, comparisons in benchmark.comparisons(benchmark.templates(pixel_templates))
        if condition != "all"
    ]
    return pd.DataFrame(rows).set_index(["condition", "masks"])
