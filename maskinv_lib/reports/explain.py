"""Examples and explanations for the notebooks: covered pixels, views of training and test faces, caveats."""

import dataclasses

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from maskinv_lib.evaluation.benchmarks.rendered import RenderedBenchmark, masked_copy
from maskinv_lib.evaluation.metrics import equal_error_rate, error_curve
from maskinv_lib.faces import Faces
from maskinv_lib.faces.masks.drawing import draw_masks, mask_kind, mask_opacity
from maskinv_lib.pipeline.sources import benchmark_of, training_faces
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import Run
from maskinv_lib.training.views import Views
from maskinv_lib.utils.randomness import key


def first_views(faces: Faces, people: int, views: int) -> Faces:
    """Return the first ``views`` views of the first ``people`` people, person by person."""
    index = [(faces.identity == person).nonzero().squeeze(1)[:views] for person in range(people)]
    return _at(faces, torch.cat(index))


def _at(faces: Faces, index: Tensor) -> Faces:
    return dataclasses.replace(faces, images=faces.images[index], identity=faces.identity[index])


def _keys(count: int, kinds: str) -> Tensor:
    return key("explain", kinds, torch.arange(count))


def masked_faces(faces: Faces, kinds: str, count: int) -> Faces:
    """Return ``count`` faces with a mask each: the first view of each person, repeated when there are fewer people."""
    first = torch.stack([(faces.identity == person).nonzero()[0, 0] for person in faces.identity.unique()])
    clean = _at(faces, first[torch.arange(count) % len(first)])
    images, _ = draw_masks(clean.images, _keys(count, kinds), kinds)
    return dataclasses.replace(clean, images=images)


def mask_coverage(faces: Faces, kinds: str, count: int = 512) -> pd.DataFrame:
    """Return the covered share of the picture for ``count`` drawn masks: columns kinds, kind, coverage."""
    keys = _keys(count, kinds)
    _, coverage = draw_masks(faces.images[torch.arange(count) % len(faces)], keys, kinds)
    return pd.DataFrame({"kinds": kinds, "kind": mask_kind(keys, kinds), "coverage": coverage.numpy()})


def identity_signal(faces: Faces) -> np.ndarray:
    """Return each pixel's Fisher ratio, [112, 112]: variance between people over mean variance between their views.

    Pixels are luminance after a light blur; all people have the same weight.
    """
    grey = F.avg_pool2d(faces.images.float().mean(1, keepdim=True), 5, stride=1, padding=2).squeeze(1)  # [N, H, W]
    people = [grey[faces.identity == person] for person in faces.identity.unique()]
    between = torch.stack([views.mean(0) for views in people]).var(0)
    within = torch.stack([views.var(0) for views in people]).mean(0)
    return (between / within.clamp_min(1e-6)).numpy()


def cover_map(faces: Faces, kinds: str, count: int = 512) -> np.ndarray:
    """Return how often a drawn mask covers each pixel, [112, 112], from 0 to 1."""
    return mask_opacity(_keys(count, kinds), kinds).mean(0).numpy()


def hidden_share(signal: np.ndarray, covered: np.ndarray) -> float:
    """Return the share of the identity signal that lies under the mask, from the two maps."""
    return float((signal * covered).sum() / signal.sum())


def pixel_templates(images: Tensor) -> Tensor:
    """Return the pixels as templates, float32 [N, 588]: 14 x 14 blocks less their mean, normalised to length 1."""
    blocks = F.avg_pool2d(images.float(), 8).flatten(1)
    return F.normalize(blocks - blocks.mean(1, keepdim=True), dim=1)


def pixel_errors(benchmark: RenderedBenchmark) -> pd.DataFrame:
    """Return the EER in % of ``pixel_templates`` under every condition of a benchmark."""
    errors = {
        (condition, kinds): round(100 * equal_error_rate(error_curve(comparisons))[0], 1)
        for condition, kinds, comparisons in benchmark.comparisons(benchmark.templates(pixel_templates))
        if condition != "all"
    }
    return pd.Series(errors, name="EER in %").rename_axis(["condition", "masks"]).to_frame()


# Examples of training and test faces, and texts about a study


def example_views(run: Run, count: int = 8) -> Faces:
    """Return the first ``count`` faces of the run's first batch: clean, then in the student's view."""
    faces = training_faces(run)
    views = Views(faces=faces, plan=run.plan, seed=run.draws_seed, device=torch.device("cpu"))
    batch = views.batch(0)
    images = torch.cat([batch.images[view][:count] for view in ("clean", "masked")])
    return dataclasses.replace(faces, images=images, identity=batch.labels[:count].repeat(2))


def pairs_in_words(run: Run) -> str:
    """Return the pairs of a run's benchmark in words, or that its data are not available."""
    try:
        return benchmark_of(run.profile, run.benchmark).in_words
    except FileNotFoundError as error:
        return f"The pairs of {run.tested_on.name} are not available here: {error}"


def example_pairs(benchmark: RenderedBenchmark, people: int = 6) -> Faces:
    """Return three rows of test faces: references, and probes of the same people with a seen and an unseen mask."""
    half = benchmark.views // 2
    first = torch.arange(people) * benchmark.views
    few = _at(benchmark.faces, torch.arange(people * benchmark.views))  # the same masks as among all faces
    rows = [few.images[first], *(masked_copy(few, kinds)[first + half] for kinds in ("seen", "unseen"))]
    identity = benchmark.faces.identity[first].repeat(3)
    return dataclasses.replace(benchmark.faces, images=torch.cat(rows), identity=identity)


def caveat(profile: Profile) -> str:
    """Return the limits of a profile's results, in words."""
    if profile.faces.publishable:
        return (
            "These are rendered people and drawn masks: the study shows what the method does under conditions that are"
            " fully known, not how well it works on photographs."
        )
    teacher = profile.faces.config()["teacher"]
    hashed = "" if teacher == "missing" else f" The SHA-256 of the teacher's file begins with {teacher}."
    absent = f" Not at hand when this ran: {', '.join(profile.absent)}." if profile.absent else ""
    return (
        "Every student starts from one published network, and every interval is conditional on it. That teacher was"
        " trained by others, probably on many of the same people: people of the training, the validation *and* the test"
        " sets. Only the identities on which the students are trained are not in the test sets. MaskInv-LG and"
        f" MaskInv-HG differ only in lambda here.{hashed}{absent}"
    )
