"""The faces and benchmarks of a run: rendered, or read from a folder of real data, and cached."""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from maskinv_lib.evaluation.benchmarks.drawn import DrawnPairs, DrawnSet
from maskinv_lib.evaluation.benchmarks.opening import open_set
from maskinv_lib.evaluation.benchmarks.real_masks import OneProtocol
from maskinv_lib.evaluation.benchmarks.rendered import RenderedBenchmark
from maskinv_lib.faces import Faces, recordio
from maskinv_lib.faces.rendering.synthetic import Rendering, rendered_set
from maskinv_lib.study.data import MASK_KINDS, VALIDATION_KINDS, Benchmark, RealFaces
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import Run
from maskinv_lib.utils import paths

AnyBenchmark = RenderedBenchmark | DrawnPairs | DrawnSet | OneProtocol
"""Each has name, identities, templates(recogniser) and comparisons(templates)."""


def device_and_threads(profile: Profile) -> torch.device:
    """Choose the device, a GPU where there is one, and give torch the profile's number of threads."""
    torch.set_num_threads(profile.threads)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def faces_of(profile: Profile, split: str, progress: Callable[[int, int], None] | None = None) -> Faces:
    """Return the faces of a split ("train", "validation", and of rendered people "test"), from the cache."""
    if isinstance(profile.faces, RealFaces):
        return _real_faces(profile.faces, split)
    identities, views = profile.faces.split(split)
    rendering = Rendering(**profile.faces.rendering)
    options = {"cache": paths.runs() / ".cache", "device": "cuda" if torch.cuda.is_available() else "cpu"}
    return rendered_set(profile.faces.seed, identities, views, rendering, progress=progress, **options)


def training_faces(run: Run) -> Faces:
    """Return the faces that a run is trained on: its profile's, or those of as many people as an override sets."""
    return faces_of(dataclasses.replace(run.profile, faces=run.training_faces), "train")


def real_people(of: RealFaces) -> Faces:
    """Return the faces of all real people of a training set but those left out, in the order of its records.

    A picture that cannot be decoded raises ValueError, which names the setting that leaves it out.
    """
    path = of.path(of.training)
    records = recordio.open_records(path)
    options = {"without": of.without, "skip_bad": of.skip_bad, "cache": paths.runs() / ".cache"}
    try:
        return recordio.faces(records, source=path.name, **options)
    except ValueError as error:
        of_a_picture = str(error).startswith(f"{records.path}, record ")
        hint = " Or set skip_bad = true in maskinv.toml, which leaves out all such pictures." if of_a_picture else ""
        raise ValueError(f"{error}{hint}") from None


def _real_faces(of: RealFaces, split: str) -> Faces:
    """Return the training or validation faces of real people: disjoint people, drawn by the set's seed."""
    if split not in ("train", "validation"):
        raise ValueError(f"Real faces are split into train and validation, not {split!r}; tests are benchmarks.")
    faces = real_people(of)
    _check_split(of, faces.identities)
    selected = recordio.held_back(faces.identity, of.validation, of.seed) == (split == "validation")
    identity = recordio.dense(faces.identity[selected])
    return dataclasses.replace(
        faces, images=faces.images[selected], identity=identity, source=f"{faces.source} {split}"
    )


def _check_split(of: RealFaces, people: int) -> None:
    """Raise ValueError unless two people or more remain for training, and as many for validation."""
    path = of.path(of.training)
    if people < 4:
        left_out = f" besides those left out ({len(of.without)} labels)" if of.without else ""
        raise ValueError(f"{path} holds {people} people{left_out}: training needs two, validation another two.")
    if not 2 <= of.validation <= people - 2:
        remedy = f"Set validation in maskinv.toml to 2 or more, at most {people - 2}: training needs two people too"
        raise ValueError(f"validation={of.validation} of {people} people of {path}. {remedy}.")


def benchmark_of(profile: Profile, benchmark: Benchmark | None = None, split: str = "test") -> AnyBenchmark:
    """Return a verification benchmark of a profile (None: its first), or that of its "validation" people.

    The masks of the validation people are those of a family of their own.
    """
    if split == "validation" and isinstance(profile.faces, RealFaces):
        return DrawnSet(name="validation", faces=faces_of(profile, split), kinds=VALIDATION_KINDS)
    benchmark = benchmark or profile.benchmarks[0]
    if benchmark.path:
        options = {"kinds": benchmark.kinds, "protocol": benchmark.protocol, "released": True}
        return open_set(profile.faces.path(benchmark.path), name=benchmark.name, **options)
    _, views = profile.faces.split(split)
    kinds = VALIDATION_KINDS if split == "validation" else MASK_KINDS
    return RenderedBenchmark(name=f"rendered-{split}", faces=faces_of(profile, split), views=views, kinds=kinds)


def wears_masks(benchmark: AnyBenchmark, templates: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return mask kinds -> bool [N]: the truth about which faces of a benchmark's templates wear a mask."""
    if isinstance(benchmark, OneProtocol):
        return {"none": benchmark.of.masked}
    return {kinds: np.full(len(rows), kinds != "none") for kinds, rows in templates.items()}
