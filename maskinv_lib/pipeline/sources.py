"""The faces and test sets of a run: rendered, or read from a folder of real data, and kept in the cache."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from maskinv_lib.evaluation.benchmarks.bins import read_bin
from maskinv_lib.evaluation.benchmarks.drawn import DrawnPairs, DrawnSet
from maskinv_lib.evaluation.benchmarks.real_masks import OneProtocol
from maskinv_lib.evaluation.benchmarks.real_sets import read_mfr2, read_mfrc, read_rmfrd
from maskinv_lib.evaluation.benchmarks.rendered import RenderedBenchmark
from maskinv_lib.faces import Faces, recordio
from maskinv_lib.faces.rendering.synthetic import Rendering, rendered_set
from maskinv_lib.study.data import Benchmark, RealFaces
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import Run
from maskinv_lib.utils import files, paths

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


def open_all(profile: Profile, path: Path, threads: int | None, show: Callable[[str], None]) -> None:
    """Render or read every set of a profile, so that bad data are found before any training; list them in ``path``.

    threads: None takes all cores. show: called with the progress in words, at most every ten seconds.
    """
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    started, shown, sets = time.time(), [time.time()], {}

    def progress(done: int, count: int) -> None:
        if time.time() - shown[0] > 10:
            shown[0] = time.time()
            show(f"{split}: {done:,} of {count:,}")

    for split in profile.faces.splits:
        faces = faces_of(profile, split, progress)
        sets[split] = {"faces": len(faces), "source": faces.source}
    tests = {test.name: benchmark_of(profile, test).in_words for test in profile.benchmarks if test.path}
    files.write_json(path, {"sets": sets | tests, "seconds": round(time.time() - started, 1)})


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
