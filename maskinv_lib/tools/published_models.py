"""Weights for everybody: the rungs of a study of rendered people, seed 0, in half the bytes, with their thresholds.

They were trained on nobody's face, so they may be published; on photographs they decide badly.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from maskinv_lib.networks.weights import read_tensors, write_tensors
from maskinv_lib.pipeline.sources import benchmark_of, device_and_threads
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import MODEL, Run, planned_runs
from maskinv_lib.tools.benchmark import calibrate
from maskinv_lib.tools.recogniser import open_recogniser
from maskinv_lib.tools.thresholds import CALIBRATED, thresholds_json
from maskinv_lib.utils import files, paths

ABOUT = {
    "licence": "MIT",
    "trained_on": "rendered people, no photograph of anybody: on photographs it makes many errors",
}
"""What each published file says about itself, beside its run's facts."""


def models_folder(profile: Profile) -> Path:
    """Return the folder of a profile's published weights, a folder for each rung in it."""
    return paths.results() / "models" / profile.name


def publish_models(profile: Profile, show: Callable[[str], None] = print) -> list[Path]:
    """Write the rungs of seed 0 with their thresholds to ``models_folder``; return the folders.

    The weights are rounded to bfloat16, and the thresholds are those of the rounded weights on the profile's test
    people. A rung that was not trained here, or with other code or settings, is left as it was published, and named.
    Raises ValueError for a profile of real people.
    """
    if not profile.faces.publishable:
        raise ValueError(f"The weights of {profile.name} were trained on real people: they are not published.")
    runs = [run for run in planned_runs(profile, range(1)) if run.stage.question == "ablation"]
    current = [run for run in runs if _is_current(run)]
    if not current:
        command = f"make study PROFILE={profile.name}"
        raise ValueError(f"No rung of {profile.name} was trained here with today's code. Train them with: {command}")
    for run in runs:
        if run not in current:
            show(f"{run.label()} was not trained here with today's code: its published weights stay as they are.")
    return [_publish(run) for run in current]


def _is_current(run: Run) -> bool:
    return run.model_file.is_file() and read_tensors(run.model_file)[1].get("key") == run.key


def _publish(run: Run) -> Path:
    tensors, facts = read_tensors(run.model_file)
    rounded = {name: t.to(torch.bfloat16) if t.is_floating_point() else t for name, t in tensors.items()}
    folder = models_folder(run.profile) / run.name
    write_tensors(folder / MODEL, rounded, facts | ABOUT)
    (folder / CALIBRATED).unlink(missing_ok=True)  # those of the weights before
    device = device_and_threads(run.profile)
    model = open_recogniser(folder, device=device)
    thresholds = calibrate(model, benchmark_of(run.profile))
    files.write_json(folder / CALIBRATED, thresholds_json(model.name, model.sha256, thresholds))
    return folder
