"""The networks and heads of finished runs, and the templates that a run computes with them or from its parts."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable

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
    """Return a hash of a network's tensors, 16 hexadecimal digits; a hash of its file would depend on their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def start_of(run: Run) -> Network | None:
    """Return the backbone that ``run`` starts from; None for random weights."""
    return None if run.parent is None else _model(run, run.parent)


def _model(run: Run, other: Run) -> nn.Module:
    """Return the network or head of a run that ``run`` needs, which may be itself."""
    path, load = other.folder / MODEL, heads.load_head if other.stage.base else load_network
    needs = f"{run.label()}, needs {'its own model' if other is run else other.label()}."
    try:
        model, facts = load(path)
    except (FileNotFoundError, ValueError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{needs} {error} Make it with: {other.command()}") from None
    if facts.get("key") != other.key:
        reason = f"{path} was made by other code or settings (key {facts.get('key')}, now {other.key})."
        raise ValueError(f"{needs} {reason} Make it with: {other.command()}")
    return model


def model_of(run: Run) -> nn.Module:
    """Return the run's trained network, or its head on frozen templates.

    A missing, damaged or stale file raises an error that names the remedy.
    """
    return _model(run, run)


def check_models(run: Run) -> None:
    """Raise the error of ``model_of`` if a network or head is missing with which ``run`` computes templates."""
    for part in run.parts or (run,):
        if part.parts:
            check_models(part)
            continue
        for other in filter(None, (part, part.base)):
            _model(run, other)


def _recogniser(run: Run, other: Run, device: torch.device) -> NetworkRecogniser:
    return NetworkRecogniser(_model(run, other), device)


def teacher_of(run: Run, faces: Faces, device: torch.device) -> Tensor | None:
    """Return the teacher's templates of ``faces`` and of their mirror images, float32 [2, N, D].

    None without a teacher, or if the teacher sees masks and so must compute its templates in every step.
    """
    if run.teacher is None or run.plan.teacher_view == "masked":
        return None
    recogniser = _recogniser(run, run.teacher, device)
    return _cached(run, recogniser, "both flips", lambda: teacher_templates(recogniser, faces))


def live_teacher(run: Run, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """Return the teacher as a function, images -> unit templates, if it sees the student's masks; otherwise None."""
    if run.teacher is None or run.plan.teacher_view != "masked":
        return None
    recogniser = _recogniser(run, run.teacher, device)
    return lambda images: F.normalize(recogniser.embeddings(images, flip=False), dim=1)


def base_templates(run: Run, what: str, images: Callable[[], Tensor], device: torch.device) -> Tensor:
    """Return the flip-summed templates of images by the frozen network below a run's head, float32 [N, D]; cached.

    what: a name for the images, unique among all that are made from the run's training faces.
    """
    recogniser = _recogniser(run, run.base, device)
    return _cached(run, recogniser, what, lambda: recogniser.templates(images()))


def _cached(run: Run, recogniser: NetworkRecogniser, what: str, compute: Callable[[], Tensor]) -> Tensor:
    modules = [name for name in run.train_code if name.startswith(("faces", "networks"))]
    code = fingerprints.code_hash("networks.templates", *modules)
    weights, device = weights_hash(recogniser.network), recogniser.device.type
    name = files.content_hash([weights, run.config["faces"], device, code, what])
    return cached_templates(paths.runs() / ".cache" / "templates", name, compute)


def templates_of(run: Run, benchmark: AnyBenchmark) -> dict[str, np.ndarray]:
    """Return mask kinds -> the run's templates of the test faces, cached under the evaluation's key.

    Those of an imported network are the same for every seed and are cached once.
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
        return _adapted(run, templates_of(dataclasses.replace(run.base, benchmark=run.benchmark), benchmark))
    recogniser = NetworkRecogniser(model_of(run), device_and_threads(run.profile))
    return benchmark.templates(recogniser.templates)


def _adapted(run: Run, base: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    head = model_of(run)
    return {kinds: heads.apply_head(head, templates) for kinds, templates in base.items()}


def _combined(run: Run, benchmark: AnyBenchmark) -> dict[str, np.ndarray]:
    """Return the parts' templates, combined as the stage sets; by predicted mask, the last part predicts the masks."""
    parts = [dataclasses.replace(part, benchmark=run.benchmark) for part in run.parts]
    wears = None
    if run.stage.how == "by predicted mask":
        classifier = parts.pop()
        base = templates_of(dataclasses.replace(classifier.base, benchmark=run.benchmark), benchmark)
        wears = {kinds: model_of(classifier).predicts(templates) for kinds, templates in base.items()}
    templates = [templates_of(part, benchmark) for part in parts]
    if run.stage.how == "by true mask":
        wears = wears_masks(benchmark, templates[0])
    return combined(run.stage.how, templates, wears)


def trial_templates(run: Run, benchmark: AnyBenchmark) -> dict[str, np.ndarray]:
    """Return the templates with which a trial is evaluated: a head is applied only to masked faces."""
    if not run.stage.base:
        return _computed(run, benchmark)
    base = _computed(run.base, benchmark)
    return combined("by true mask", [base, _adapted(run, base)], wears_masks(benchmark, base))
