"""The networks of finished runs, and the templates that a run computes: by its own network or from its parts."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskinv_lib.faces import Faces
from maskinv_lib.networks import Network, heads
from maskinv_lib.networks.combining import combined
from maskinv_lib.networks.templates import NetworkRecogniser, cached_templates, teacher_templates
from maskinv_lib.networks.weights import load_network, read_tensors, write_tensors
from maskinv_lib.pipeline.sources import AnyBenchmark, device_and_threads, wears_masks
from maskinv_lib.study.runs import MODEL, Run
from maskinv_lib.utils import files, fingerprints, paths


def weights_hash(network: Network) -> str:
    """Return 16 hexadecimal digits that stand for a network's tensors; the bytes of its file vary in their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def start_of(run: Run) -> Network | None:
    """Return the backbone that ``run`` starts from; None for random weights."""
    return None if run.start_file is None else _ancestor(run, run.parent, run.start_file)


def _ancestor(run: Run, other: Run, path: Path, load: Callable = load_network) -> nn.Module:
    needs = f"{run.label()}, needs {'its own model' if other is run else other.label()}."
    try:
        model, facts = load(path)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{needs} {error} Make it with: {other.command()}") from None
    if facts.get("key") != other.key:
        reason = f"{path} was made by other code or settings (key {facts.get('key')}, now {other.key})."
        raise ValueError(f"{needs} {reason} Make it with: {other.command()}")
    return model


def model_of(run: Run) -> Network:
    """Return the run's trained network; one that is missing, damaged or stale raises an error naming the remedy."""
    return _ancestor(run, run, run.folder / MODEL)


def head_of(run: Run) -> nn.Module:
    """Return the run's trained head on frozen templates; errors are those of ``model_of``."""
    return _ancestor(run, run, run.folder / MODEL, heads.load_head)


def check_models(run: Run) -> None:
    """Raise what ``model_of`` raises unless every network and head that ``run`` computes templates with exists."""
    for part in run.parts or (run,):
        if part.parts:
            check_models(part)
            continue
        _ancestor(run, part, part.folder / MODEL, heads.load_head if part.stage.base else load_network)
        if part.base:
            _ancestor(run, part.base, part.base.folder / MODEL)


def teacher_of(run: Run, faces: Faces, device: torch.device) -> Tensor | None:
    """Return the teacher's templates of ``faces`` and of their mirror images, float32 [2, N, D].

    None where there is no teacher, or where it sees masks and so must compute its templates in every step.
    """
    if run.teacher is None or run.plan.teacher_view == "masked":
        return None
    network = _ancestor(run, run.teacher, run.teacher.folder / MODEL)
    recogniser = NetworkRecogniser(network, device)
    return _cached(run, network, device, "both flips", lambda: teacher_templates(recogniser, faces))


def live_teacher(run: Run, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """Return the teacher itself, images -> unit templates, where it sees the student's mask; else None."""
    if run.teacher is None or run.plan.teacher_view != "masked":
        return None
    network = _ancestor(run, run.teacher, run.teacher.folder / MODEL)
    recogniser = NetworkRecogniser(network, device)
    return lambda images: F.normalize(recogniser.embeddings(images, flip=False), dim=1)


def base_templates(run: Run, what: str, images: Callable[[], Tensor], device: torch.device) -> Tensor:
    """Return the flip-summed templates, float32 [N, D], of pictures by the frozen network under a run's head; cached.

    what: a text that names the pictures among those made from the run's training faces.
    """
    network = _ancestor(run, run.base, run.base.folder / MODEL)
    return _cached(run, network, device, what, lambda: NetworkRecogniser(network, device).templates(images()))


def _cached(run: Run, network: Network, device: torch.device, what: str, compute: Callable[[], Tensor]) -> Tensor:
    decides = [name for name in run.train_code if name.startswith(("faces", "networks"))]
    code = fingerprints.code_hash("networks.templates", *decides)
    name = files.content_hash([weights_hash(network), run.config["faces"], device.type, code, what])
    return cached_templates(paths.runs() / ".cache" / "templates", name, compute)


def templates_of(run: Run, benchmark: AnyBenchmark) -> dict[str, np.ndarray]:
    """Return the run's templates of the test faces by mask kinds, kept under the evaluation's key.

    Those of a network that was imported are the same in every seed, and kept for all of them.
    """
    folder = paths.runs() / ".cache" / "templates" if run.stage.imported else run.folder / "checkpoints"
    path = folder / f"templates-{benchmark.name}.safetensors"
    with contextlib.suppress(FileNotFoundError, ValueError):
        tensors, facts = read_tensors(path)
        if facts.get("key") == run.evaluation_key:
            return {kinds: tensor.numpy() for kinds, tensor in tensors.items()}
    templates = _computed(run, benchmark)
    tensors = {kinds: torch.from_numpy(array) for kinds, array in templates.items()}
    write_tensors(path, tensors, {"key": run.evaluation_key})
    return templates


def _computed(run: Run, benchmark: AnyBenchmark) -> dict[str, np.ndarray]:
    if run.parts:
        return _combined(run, benchmark)
    if run.stage.base:
        head, base = head_of(run), templates_of(_on(run.base, run), benchmark)
        return {kinds: heads.apply_head(head, templates) for kinds, templates in base.items()}
    recogniser = NetworkRecogniser(model_of(run), device_and_threads(run.profile))
    return benchmark.templates(recogniser.templates)


def _on(part: Run, run: Run) -> Run:
    return dataclasses.replace(part, benchmark=run.benchmark)


def _combined(run: Run, benchmark: AnyBenchmark) -> dict[str, np.ndarray]:
    """Return the parts' templates combined as the stage says; the last of three parts predicts who wears a mask."""
    parts = [_on(part, run) for part in run.parts]
    wears = None
    if run.stage.how == "by predicted mask":
        classifier = parts.pop()
        base = templates_of(_on(classifier.base, run), benchmark)
        wears = {kinds: head_of(classifier).predicts(templates) for kinds, templates in base.items()}
    templates = [templates_of(part, benchmark) for part in parts]
    if run.stage.how == "by true mask":
        wears = wears_masks(benchmark, templates[0])
    return combined(run.stage.how, templates, wears)


def trial_templates(run: Run, benchmark: AnyBenchmark) -> dict[str, np.ndarray]:
    """Return the templates by which a trial is evaluated: a head is applied to masked faces only."""
    if not run.stage.base:
        return _computed(run, benchmark)
    base = _computed(run.base, benchmark)
    head = head_of(run)
    moved = {kinds: heads.apply_head(head, templates) for kinds, templates in base.items()}
    return combined("by true mask", [base, moved], wears_masks(benchmark, base))
