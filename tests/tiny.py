"""A profile so small that every rung trains in about a second, for tests of the whole library."""

import dataclasses
from pathlib import Path

import pytest

from maskinv_lib.study.ablation import ABLATION
from maskinv_lib.study.data import RenderedFaces
from maskinv_lib.study.profiles import PROFILES, STAGES
from maskinv_lib.study.recipes import Profile, Schedule
from maskinv_lib.study.runs import FACTS, LOG, METRICS, RESAMPLES, RESTORE, Run, open_run
from maskinv_lib.utils import files

STEPS, BATCH = 13, 4
RUNGS = tuple(stage.name for stage in ABLATION)


def profile() -> Profile:
    """Every rung, thirteen steps of four faces; MaskInv-HG gets seven, after five of MaskInv-LG."""
    faces = RenderedFaces(train=4, train_views=4, validation=2, validation_views=2, test=20, test_views=2)
    return dataclasses.replace(
        PROFILES["smoke"](),
        name="tiny",
        faces=faces,
        embedding_size=16,
        schedule=Schedule(budget=STEPS * BATCH, batch=BATCH, learning_rate=0.01),
        stages=RUNGS,
        resamples=20,
        precision="fp32",
    )


def register(monkeypatch: pytest.MonkeyPatch, runs: Path, results: Path | None = None) -> None:
    """Register the profile under its name, and set the folders of runs (and results)."""
    monkeypatch.setitem(PROFILES, "tiny", profile)
    monkeypatch.setenv("MASKINV_RUNS", str(runs))
    if results:
        monkeypatch.setenv("MASKINV_RESULTS", str(results))


def archive(runs: Path, results: Path, stage: str, seeds: int = 1) -> None:
    """Publish the numbers of a stage with seed 0 below ``runs`` as if they were those of several seeds."""
    folder, names = runs / "tiny/seed-0" / stage, (LOG, FACTS, METRICS, RESAMPLES)
    contents = {f"seed-{seed}/{name}": (folder / name).read_bytes() for seed in range(seeds) for name in names}
    files.write_archive(results / "tiny" / RESTORE / f"{stage}.zip", contents)


def run_of(stage: str, seed: int = 0, overrides: str = "") -> Run:
    """Return a run of the tiny profile."""
    return open_run(profile="tiny", stage=stage, seed=seed, overrides=overrides)


def method_run(stage: str) -> Run:
    """Return a run of the tiny profile of any stage; the half-balanced sampler needs a batch of eight."""
    return run_of(stage, overrides="batch=8" if STAGES[stage].sampler != "shuffled" else "")
