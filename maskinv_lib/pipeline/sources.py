"""The faces and benchmarks of a run: rendered, or read from a folder of real data, and cached."""

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


def open_all(profile: Profile, path: Path, threads: int | None, show: Callable[[str], None]) -> None:
    """Render or read every set of a profile, so that bad data are found before any training; list them in ``path``.

    threads: None takes all cores. show: called with the progress as text, at most every ten seconds.
    """
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    started, sets = time.time(), {}
    last = started

    def progress(done: int, count: int) -> None:
        nonlocal last
        if time.time() - last > 10:
            last = time.time()
            show(f"{split}: {done:,} of {count:,}")

    for split in profile.faces.splits:
        faces = faces_of(profile, split, progress)
        sets[split] = {"faces": len(faces), "source": faces.source}
    tests = {test.name: benchmark_of(profile, test).in_words for test in profile.benchmarks if test.path}
    files.write_json(path, {"sets": sets | tests, "seconds": round(time.time() - started, 1)})


def training_faces(run: Run) -> Faces:
    """Return the faces that a run is trained on: its profile's, or those of as many people as an override sets."""
    return faces_of(dataclasses.replace(run.profile, faces=run.training_faces), "train")


def _real_faces(of: RealFaces, split: str) -> Faces:
    """Return the training or validation faces of real people: disjoint people, drawn by the set's seed."""
    if split not in ("train", "validation"):
        raise ValueError(f"Real faces are split into train and validation, not {split!r}; tests are benchmarks.")
    path = of.path(of.training)
    options = {"without": of.without, "skip_bad": of.skip_bad, "cache": paths.runs() / ".cache"}
    faces = recordio.faces(recordio.open_records(path), source=path.name, **options)
    if not 2 <= of.validation < faces.identities:
        people = f"{faces.identities} people of {path}"
        raise ValueError(f"validation={of.validation} of {people}: choose 2 or more, not all.")
    selected = recordio.held_back(faces.identity, of.validation, of.seed) == (split == "validation")
    identity = recordio.dense(faces.identity[selected])
    return dataclasses.replace(faces, images=faces.images[selected], identity=identity, source=f"{path.name} {split}")


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
    """Open a set of verification pairs (.bin) or of real masks: a session protocol (.csv), RMFRD (a folder with
    images.csv) or MFR2 (another folder).
    """
    path = of.path(benchmark.path)
    if path.is_file() and path.suffix != ".csv":
        pairs = read_bin(path)
        faces = Faces(images=pairs.images, identity=pairs.components, source=benchmark.name, publishable=False)
        return DrawnPairs(name=benchmark.name, faces=faces, index=pairs.index, kinds=benchmark.kinds, released=True)
    if path.suffix == ".csv":
        landmarks = path.parent / "landmarks.csv"
        masked = read_mfrc(path, path.parent, landmarks if landmarks.exists() else None, benchmark.name)
    else:
        masked = read_rmfrd(path) if (path / "images.csv").exists() else read_mfr2(path)
    return masked.only(benchmark.protocol, benchmark.name)


def wears_masks(benchmark: AnyBenchmark, templates: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return mask kinds -> bool [N]: the truth about which faces of a benchmark's templates wear a mask."""
    if isinstance(benchmark, OneProtocol):
        return {"none": benchmark.of.masked}
    return {kinds: np.full(len(rows), kinds != "none") for kinds, rows in templates.items()}
