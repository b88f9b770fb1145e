"""Where a run's faces and test sets come from: rendered, or read from a folder of real data, and kept in the cache."""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from maskinv_lib.evaluation.benchmarks.bins import read_bin
from maskinv_lib.evaluation.benchmarks.drawn import DrawnPairs, DrawnSet
from maskinv_lib.evaluation.benchmarks.real_masks import OneProtocol
from maskinv_lib.evaluation.benchmarks.real_sets import read_mfr2, read_mfrc, read_rmfrd
from maskinv_lib.evaluation.benchmarks.rendered import RenderedBenchmark, masked_copy
from maskinv_lib.faces import Faces, recordio
from maskinv_lib.faces.rendering.synthetic import Rendering, rendered_set
from maskinv_lib.study.data import Benchmark, RealFaces
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import Run
from maskinv_lib.training.views import Views
from maskinv_lib.utils import paths

AnyBenchmark = RenderedBenchmark | DrawnPairs | DrawnSet | OneProtocol
"""What every benchmark has: name, identities, templates(recogniser), comparisons(templates)."""


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
    where = {"cache": paths.runs() / ".cache", "device": "cuda" if torch.cuda.is_available() else "cpu"}
    return rendered_set(profile.faces.seed, identities, views, rendering, progress=progress, **where)


def training_faces(run: Run) -> Faces:
    """Return the faces that a run is trained on: its profile's, or those of as many people as an override says."""
    return faces_of(dataclasses.replace(run.profile, faces=run.training_faces), "train")


def _real_faces(of: RealFaces, split: str) -> Faces:
    """Return the people that real training, or validation, sees: drawn by the set's seed, nobody in both."""
    if split not in ("train", "validation"):
        raise ValueError(f"Real faces are split into train and validation, not {split!r}; tests are sets of their own.")
    path = of.path(of.training)
    how = {"without": of.without, "skip_bad": of.skip_bad, "cache": paths.runs() / ".cache"}
    found = recordio.faces(recordio.open_records(path), source=path.name, **how)
    if not 2 <= of.validation < found.identities:
        raise ValueError(
            f"validation={of.validation} of {found.identities} people of {path}: choose 2 or more, not all."
        )
    chosen = recordio.held_back(found.identity, of.validation, of.seed) == (split == "validation")
    identity = recordio.dense(found.identity[chosen])
    return dataclasses.replace(found, images=found.images[chosen], identity=identity, source=f"{path.name} {split}")


def benchmark_of(profile: Profile, benchmark: Benchmark | None = None, split: str = "test") -> AnyBenchmark:
    """Return a verification benchmark of a profile (None: its first), or all pairs of its "validation" people."""
    if split == "validation" and isinstance(profile.faces, RealFaces):
        return DrawnSet(name="validation", faces=faces_of(profile, split), kinds=("unseen",))
    benchmark = benchmark or profile.benchmarks[0]
    if benchmark.path:
        return _real_benchmark(profile.faces, benchmark)
    _, views = profile.faces.split(split)
    return RenderedBenchmark(name=f"rendered-{split}", faces=faces_of(profile, split), views=views)


def _real_benchmark(of: RealFaces, benchmark: Benchmark) -> DrawnPairs | OneProtocol:
    """Open a set of verification pairs (.bin), or of real masks: a session protocol (.csv), RMFRD by its images.csv,
    else MFR2.
    """
    path = of.path(benchmark.path)
    if path.suffix == ".csv":
        points = path.parent / "landmarks.csv"
        return read_mfrc(path, path.parent, points if points.exists() else None, benchmark.name).only(
            benchmark.protocol, benchmark.name
        )
    if path.is_file():
        found = read_bin(path)
        faces = Faces(images=found.images, identity=found.components, source=benchmark.name, publishable=False)
        return DrawnPairs(name=benchmark.name, faces=faces, index=found.index, kinds=benchmark.kinds, released=True)
    read = read_rmfrd if (path / "images.csv").exists() else read_mfr2
    return read(path).only(benchmark.protocol, benchmark.name)


def wears_masks(benchmark: AnyBenchmark, templates: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return mask kinds -> bool [N], which of the faces behind a benchmark's templates wear a mask: the truth."""
    if isinstance(benchmark, OneProtocol):
        return {"none": benchmark.of.masked}
    return {kinds: np.full(len(found), kinds != "none") for kinds, found in templates.items()}


def example_views(run: Run, count: int = 8) -> Faces:
    """Return the first ``count`` faces of the run's first batch, clean, and then the same as the student sees them."""
    faces = training_faces(run)
    views = Views(faces=faces, plan=run.plan, seed=run.draws_seed, device=torch.device("cpu"))
    batch = views.batch(0)
    shown = torch.cat([batch.images[view][:count] for view in ("clean", "masked")])
    return dataclasses.replace(faces, images=shown, identity=batch.labels[:count].repeat(2))


def pairs_in_words(run: Run) -> str:
    """Return what a run's benchmark compares with what, or that its data are not at hand."""
    try:
        return benchmark_of(run.profile, run.benchmark).in_words
    except FileNotFoundError as error:
        return f"The pairs of {run.tested_on.name} are not at hand here: {error}"


def example_pairs(benchmark: RenderedBenchmark, people: int = 6) -> Faces:
    """Return three rows of test faces: a reference, the same person's probe with a seen and with an unseen mask."""
    half = benchmark.views // 2
    first = torch.arange(people) * benchmark.views
    rows = [benchmark.faces.images[first]]
    rows += [masked_copy(benchmark.faces, kinds)[first + half] for kinds in ("seen", "unseen")]
    identity = benchmark.faces.identity[first].repeat(3)
    return dataclasses.replace(benchmark.faces, images=torch.cat(rows), identity=identity)
