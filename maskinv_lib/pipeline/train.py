"""Train one run: a network, a head on frozen templates, an imported network, or nothing where parts are combined."""

import contextlib
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from maskinv_lib.faces.masks.drawing import draw_masks
from maskinv_lib.networks import heads
from maskinv_lib.networks.published import import_weights
from maskinv_lib.networks.weights import save_network
from maskinv_lib.pipeline import models
from maskinv_lib.pipeline.records import Trained
from maskinv_lib.pipeline.sources import device_and_threads, training_faces
from maskinv_lib.study import made
from maskinv_lib.study.runs import FACTS, LOG, MODEL, Run
from maskinv_lib.training import checkpoints
from maskinv_lib.training.frozen_heads import fit_mask_classifier, train_eum
from maskinv_lib.training.loop import Training
from maskinv_lib.training.views import Views
from maskinv_lib.utils import files, paths
from maskinv_lib.utils.randomness import key


def train(run: Run, *, on_log: Callable[[dict], None] = lambda record: None) -> Trained:
    """Train ``run``, or continue from its last checkpoint; write ``model.safetensors`` and ``run.json``.

    A head is trained on its base's frozen templates; an imported network is copied; a combination trains nothing.
    A missing or stale ancestor raises an error that names the command for it, before anything is written. A second
    process on the same run is refused. If training fails, ``run.json`` states it and no model is written. At the end it
    is noted what was made (``study.made``).
    """
    device = device_and_threads(run.profile)
    if not run.stage.trained:
        return _without_network(run, device)
    start, live = models.start_of(run), models.live_teacher(run, device)
    faces = training_faces(run)
    teacher = models.teacher_of(run, faces, device)
    views = Views(faces=faces, plan=run.plan, seed=run.draws_seed, device=device, teacher=teacher, live=live)
    with files.only_process(run.folder / "lock", run.label()):
        training = Training(
            run.plan,
            views,
            seed=run.weights_seed,
            folder=run.folder,
            key=run.key,
            precision=run.plan.precision,
            start=start and start.state_dict(),
            on_log=on_log,
        )
        if start is not None:  # the scaling of pixels must fit the weights from which the student starts
            training.network.contract = start.contract
        facts = _facts(run, device, training.dtype)
        finished = _finished(run, facts["precision"])
        with made.training(run).making(), _status(run, facts):
            training.run()
            facts |= finished or _sums(training.records)
            teacher = run.teacher and models.weights_hash(models.model_of(run.teacher))
            save_network(run.folder / MODEL, training.network, {**_metadata(run), "teacher": teacher})
    if finished:
        print(f"{run.label()}: trained before with the same key {run.key}, reused.")
    return Trained(run=run, records=training.records, facts=facts)


def _without_network(run: Run, device: torch.device) -> Trained:
    """Run a stage that trains no network of its own: import a network, train a head, or check the parts."""
    step = _import if run.stage.imported else _train_head if run.stage.base else _check_parts
    with files.only_process(run.folder / "lock", run.label()):
        facts = _facts(run, device, torch.float32) | {"faces": 0, "seconds": 0.0, "faces_per_second": 0.0}
        with made.training(run).making(), _status(run, facts):
            records = step(run, device)
            facts |= _sums(records) if records else {}
            files.write_text(run.folder / LOG, "".join(json.dumps(record) + "\n" for record in records))
    return Trained(run=run, records=records, facts=facts)


def _metadata(run: Run) -> dict:
    return {"profile": run.profile.name, "stage": run.name, "seed": run.seed, "key": run.key}


def _import(run: Run, device: torch.device) -> list[dict]:
    faces = run.profile.faces
    network, facts = import_weights(faces.path(faces.teacher), faces.contract or None)
    if (network.name, network.embedding_size) != (run.plan.network, run.plan.embedding_size):
        remedy = "Set network and embedding_size in maskinv.toml of the data folder"
        expected = f"{run.plan.network}, {run.plan.embedding_size}-D"
        actual = f"{network.name}, {network.embedding_size}-D"
        raise ValueError(f"{faces.teacher} holds {actual}, not {expected}. {remedy}.")
    save_network(run.folder / MODEL, network, {**_metadata(run), "file_sha256": facts["file_sha256"]})
    return []


COPIES = 2
"""Masked copies of each training face for the training of a head on frozen templates."""


def _train_head(run: Run, device: torch.device) -> list[dict]:
    faces, plan = training_faces(run), run.plan
    clean = models.base_templates(run, "clean", lambda: faces.images, device)

    def masked(copy: int) -> torch.Tensor:
        keys = key(run.draws_seed, "head's mask", copy, torch.arange(len(faces)))
        return draw_masks(faces.images, keys, plan.mask_kinds)[0]

    names = [f"masked {plan.mask_kinds} {copy} {run.draws_seed}" for copy in range(COPIES)]
    copies = [models.base_templates(run, name, partial(masked, copy), device) for copy, name in enumerate(names)]
    head, records = _fitted(run, torch.stack(copies), clean, faces.identity)
    heads.save_head(run.folder / MODEL, head.cpu(), _metadata(run))
    return records


def _fitted(run: Run, masked: torch.Tensor, clean: torch.Tensor, labels: torch.Tensor) -> tuple:
    if run.stage.head == "mask-classifier":
        return fit_mask_classifier(masked, clean), []
    names = ("budget", "batch", "learning_rate", "momentum", "weight_decay", "warm_up")
    schedule = {name: getattr(run.plan.schedule, name) for name in names}
    return train_eum(masked, clean, labels, seed=run.weights_seed, **schedule)


def _check_parts(run: Run, device: torch.device) -> list[dict]:
    models.check_models(run)
    return []


def _finished(run: Run, precision: str) -> dict | None:
    """Return the facts of an earlier training that finished with this key and precision and has a checkpoint.

    None if they are not what that training noted.
    """
    path, faults = run.folder / FACTS, made.training(run).faults()
    if (
        faults is not None
        and path not in faults
        and checkpoints.load(run.folder / "checkpoints" / "last.safetensors", run.key)
    ):
        with contextlib.suppress(ValueError):
            facts = files.read_json(path)
            expected = {"status": "finished", "key": run.key, "precision": precision}
            return facts if expected.items() <= facts.items() else None
    return None


def _facts(run: Run, device: torch.device, dtype: torch.dtype) -> dict:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    return {
        "key": run.key,
        "config": run.config,
        "device": f"{device.type} ({name})",
        "precision": str(dtype).removeprefix("torch."),
        "threads": run.profile.threads,
        "versions": versions,
        "commit": git_commit(),
    }


def git_commit() -> str:
    """Return the commit of the project, with "-dirty" where files were changed; "unknown" without git."""
    command = ["git", "-C", str(paths.root()), "describe", "--always", "--dirty", "--abbrev=12"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    return process.stdout.strip() or "unknown"


def _sums(records: list[dict]) -> dict:
    seconds, faces = sum(record["seconds"] for record in records), records[-1]["faces"]
    return {"faces": faces, "seconds": round(seconds, 1), "faces_per_second": round(faces / max(seconds, 1e-9), 1)}


@contextlib.contextmanager
def _status(run: Run, facts: dict) -> Iterator[None]:
    """Write the status to ``run.json``: running, then finished with the facts of the run, or failed with the error."""
    path, started = run.folder / FACTS, time.time()
    files.write_json(path, {"status": "running", **facts})
    try:
        yield
    except BaseException as error:
        files.write_json(path, {"status": "failed", "error": f"{type(error).__name__}: {error}", **facts})
        raise
    facts.setdefault("wall_seconds", round(time.time() - started, 1))
    files.write_json(path, {**facts, "status": "finished"})
