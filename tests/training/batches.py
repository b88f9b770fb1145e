"""Vectors, batches and objectives for the tests of this package."""

import torch
import torch.nn.functional as F

from maskinv_lib.training.objectives import Batch, Context, Objective, build_objective
from maskinv_lib.utils import randomness

SIZE = 8
MAP_SHAPE = (6, 2, 2)
VIEWS = ("clean", "masked", "masked-2")


def vectors(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(x):
    return x / x.square().sum(-1, keepdim=True).sqrt()


def context(size=SIZE, classes=3, seed=0) -> Context:
    return Context(embedding_size=size, classes=classes, seed=seed, map_shape=MAP_SHAPE)


def objective(name, size=SIZE, classes=3, seed=0, **settings) -> Objective:
    return build_objective(name, settings, embedding_size=size, classes=classes, seed=seed, map_shape=MAP_SHAPE)


def batch(student, teacher=None, labels=None, *, view="masked", masked=None, **others) -> Batch:
    """Return a batch of embeddings [B, D] of one view, or of several by name; labels: all 0 where None."""
    embeddings = student if isinstance(student, dict) else {view: student}
    count = len(next(iter(embeddings.values())))
    fixed = {
        "labels": torch.as_tensor([0] * count if labels is None else labels),
        "masked": torch.as_tensor([False] * count if masked is None else masked),
        "keys": randomness.key(7, torch.arange(count)),
        "progress": 0.0,
    }
    return Batch(**(fixed | others), embeddings=embeddings, teacher=teacher)


def full_batch(student, classes=3, *, masked=None, seed=0) -> Batch:
    """Return a batch with all that an objective may need, and embeddings ``student`` [B, D] in every view."""
    count = len(student)
    masked = torch.arange(count) % 2 == 0 if masked is None else torch.as_tensor(masked)
    clean = F.interpolate(vectors(count, 3, 2, 2, seed=seed + 2).sigmoid(), size=(112, 112), mode="bilinear")
    clean = (255 * clean).to(torch.uint8)
    drawn = clean.clone()
    drawn[masked, :, 60:] = 200
    return batch(
        dict.fromkeys(VIEWS, student),
        unit(vectors(count, student.shape[1], seed=seed + 3)),
        torch.arange(count) % classes,
        masked=masked,
        progress=1.0,
        coverage=masked * 0.3,
        images={"clean": clean, "masked": drawn},
        maps={view: vectors(count, *MAP_SHAPE, seed=seed + 10 + i).to(student.dtype) for i, view in enumerate(VIEWS)},
        embed=lambda faces: faces.flatten(1)[:, : student.shape[1]],
    )
