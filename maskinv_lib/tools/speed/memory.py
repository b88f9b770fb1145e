"""Peak memory of the main parts, each in a process of its own: ``python -m maskinv_lib.tools.speed.memory PART``.

The peak is that of the resident memory, which includes what torch allocates. Linux keeps it for each program that a
process runs (VmHWM); the ``getrusage`` of a child would there include what its parent used.
"""

import dataclasses
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from maskinv_lib.faces import SIZE, Faces
from maskinv_lib.tools.speed.measuring import Row
from maskinv_lib.tools.speed.sizes import Sizes, Trained
from maskinv_lib.tools.speed.tasks import SEED, Setting, Task, in_words, rendered, threads

GROUP, UNIT = "memory", "MiB"


def tasks(setting: Setting) -> list[Task]:
    """Return the measurements of this module."""
    if not setting.sizes.memory:
        return []
    return [Task(group=GROUP, name=name, run=partial(peak, setting, name)) for name in PARTS]


def peak(setting: Setting, part: str) -> list[Row]:
    """Return the peak memory of a part, measured in a process that does nothing else."""
    sizes = json.dumps(dataclasses.asdict(setting.sizes))
    command = [sys.executable, "-m", "maskinv_lib.tools.speed.memory", part, sizes]
    library = [str(Path(__file__).resolve().parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(library)}
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if process.returncode:
        raise RuntimeError(process.stderr.strip().splitlines()[-1] if process.stderr.strip() else "killed")
    against = "the whole process, with the libraries" if part != BARE else "what every process here has"
    name, value = f"{part}, {in_words(1)}", float(process.stdout.split()[-1])
    return [Row(group=GROUP, name=name, value=value, unit=UNIT, repeats=1, against=against)]


def highest() -> float:
    """Return the highest resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text()).group(1)) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


# Each part imports only what it needs, as the memory of libraries counts too.


def _masks(setting: Setting) -> None:
    from maskinv_lib.tools.speed import faces

    faces.draw_masks(*faces.batch_of(setting))


def _training(setting: Setting) -> None:
    from maskinv_lib.tools.speed import training

    one = setting.sizes.trained[0]
    options = {"precision": "fp32", "device": torch.device("cpu"), "folder": setting.folder, "draw": None}
    prepared = training.prepare(training.plan_of(one), training.faces_for(setting, one.batch), **options)
    training.steps_of(prepared.ours, 1)()


def _templates(setting: Setting) -> None:
    from maskinv_lib.networks import build_network
    from maskinv_lib.networks.templates import NetworkRecogniser

    NetworkRecogniser(build_network("compact", seed=SEED)).templates(setting.faces.images[:64])


def _evaluation(setting: Setting) -> None:
    from maskinv_lib.evaluation.benchmarks.rendered import RenderedBenchmark
    from maskinv_lib.evaluation.conditions import evaluate_conditions
    from maskinv_lib.networks import build_network
    from maskinv_lib.networks.templates import NetworkRecogniser

    people, views = setting.sizes.test_people, setting.sizes.test_views
    benchmark = RenderedBenchmark(name="speed", faces=_unrendered(people, views), views=views)
    recogniser = NetworkRecogniser(build_network("compact", seed=SEED))
    few = recogniser.templates(benchmark.faces.images[:64]).numpy()  # all templates take long, and no more memory
    rows = np.random.default_rng(SEED).standard_normal((len(benchmark.faces), few.shape[1]), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    evaluate_conditions(benchmark, dict.fromkeys(("none", "seen", "unseen"), rows), resamples=setting.sizes.resamples)


def _unrendered(people: int, views: int) -> Faces:
    """Return black faces: as large as rendered ones, and made at once."""
    images = torch.zeros(people * views, 3, SIZE, SIZE, dtype=torch.uint8)
    identity = torch.arange(people).repeat_interleave(views)
    return Faces(images=images, identity=identity, source="black", publishable=True)


def _all_pairs(setting: Setting) -> None:
    from maskinv_lib.tools.speed import all_pairs

    all_pairs.measured(*all_pairs.random_templates(setting.sizes.templates, setting.sizes.width))


BARE = "imports alone"

PARTS: dict[str, Callable[[Setting], None]] = {
    BARE: lambda setting: None,
    "rendering": lambda setting: rendered(setting.sizes.people, setting.sizes.views, 1),
    "mask drawing": _masks,
    "training step, compact": _training,
    "templates, compact": _templates,
    "evaluation of a stage": _evaluation,
    "all-pairs metrics": _all_pairs,
}
"""Name of a part -> what does it."""


def main(part: str, sizes: str) -> None:
    """Do one part with sizes as JSON, and print the highest memory of this process in MiB."""
    values = json.loads(sizes)
    trained = {name: tuple(Trained(**one) for one in values[name]) for name in ("trained", "on_gpu")}
    with tempfile.TemporaryDirectory() as folder, threads(1):
        PARTS[part](Setting(sizes=Sizes(**{**values, **trained}), folder=Path(folder), cores=1))
    print(f"{highest():.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
