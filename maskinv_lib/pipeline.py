"""What the notebooks call to train a run and to evaluate it: the glue between the rooms, and nothing else."""

import contextlib
import dataclasses
import hashlib
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskinv_lib import checkpoints, files, fingerprints, study
from maskinv_lib.benchmarks.rendered import CONDITIONS, RenderedBenchmark, masked_copy
from maskinv_lib.evaluation import evaluate
from maskinv_lib.faces import Faces
from maskinv_lib.faces.synthetic import Rendering, rendered_set
from maskinv_lib.metrics import error_curve
from maskinv_lib.networks import Network
from maskinv_lib.networks.weights import load_network, read_tensors, save_network, write_tensors
from maskinv_lib.recipes import Profile
from maskinv_lib.records import Evaluated, read_evaluation, write_evaluation
from maskinv_lib.resampling import identity_weights
from maskinv_lib.study import Run
from maskinv_lib.templates import NetworkRecogniser, cached_templates, teacher_templates
from maskinv_lib.training import Training, Views

BENCHMARK = "rendered-test"


def device_and_threads(profile: Profile) -> torch.device:
    """Choose the device, a GPU where there is one, and give torch the profile's number of threads."""
    torch.set_num_threads(profile.threads)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def faces_of(profile: Profile, split: str, progress: Callable[[int, int], None] | None = None) -> Faces:
    """Return the rendered faces of a split ("train", "validation", "test"), from the cache where they are."""
    identities, views = profile.faces.split(split)
    rendering = Rendering(**profile.faces.rendering)
    where = {"cache": study.runs() / ".cache", "device": "cuda" if torch.cuda.is_available() else "cpu"}
    return rendered_set(profile.faces.seed, identities, views, rendering, progress=progress, **where)


def teacher_of(run: Run, faces: Faces, device: torch.device) -> Tensor | None:
    """Return the teacher's templates of ``faces`` and of their mirror images, float32 [2, N, D]; None without one."""
    if run.teacher is None:
        return None
    path = run.teacher.folder / "model.safetensors"
    network = _ancestor(run, run.teacher, path)
    code = fingerprints.code_hash("templates", "faces.synthetic", "networks.iresnet")
    key = files.content_hash([weights_hash(network), run.config["faces"], device.type, code])
    return cached_templates(
        study.runs() / ".cache" / "templates",
        key,
        lambda: teacher_templates(NetworkRecogniser(network, device), faces),
    )


def weights_hash(network: Network) -> str:
    """Return 16 hexadecimal digits that stand for a network's tensors; the bytes of its file vary in their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def start_of(run: Run) -> dict[str, Tensor] | None:
    """Return the backbone that ``run`` starts from, as a state dict; None for random weights."""
    return None if run.milestone is None else _ancestor(run, run.parent, run.milestone).state_dict()


def _ancestor(run: Run, other: Run, path: Path) -> Network:
    needs = "its own model" if other is run else f"{other.name}, seed {other.seed}"
    who = f"{run.name}, seed {run.seed}, needs {needs}."
    try:
        network, facts = load_network(path)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{who} {error} Make it with: {other.command}") from None
    if facts.get("key") != other.key:
        made = f"{path} was made by other code or settings (key {facts.get('key')}, now {other.key})."
        raise ValueError(f"{who} {made} Make it with: {other.command}")
    return network


def example_views(run: Run, count: int = 8) -> Faces:
    """Return the first ``count`` faces of the run's first batch, clean, and then the same as the student sees them."""
    faces = faces_of(run.profile, "train")
    views = Views(faces=faces, plan=run.plan, seed=run.draws_seed, device=torch.device("cpu"))
    images, batch = views.batch(0, ("clean", "masked"), 0.0)
    shown = torch.cat([images["clean"][:count], images["masked"][:count]])
    return dataclasses.replace(faces, images=shown, identity=batch.labels[:count].repeat(2))


def example_pairs(benchmark: RenderedBenchmark, people: int = 6) -> Faces:
    """Return three rows of test faces: a reference, the same person's probe with a seen and with an unseen mask."""
    half = benchmark.views // 2
    first = torch.arange(people) * benchmark.views
    rows = [benchmark.faces.images[first]]
    rows += [masked_copy(benchmark.faces, kinds)[first + half] for kinds in ("seen", "unseen")]
    identity = benchmark.faces.identity[first].repeat(3)
    return dataclasses.replace(benchmark.faces, images=torch.cat(rows), identity=identity)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished training: its run, the records of its log and the facts in its ``run.json``."""

    run: Run
    records: list[dict]
    facts: dict


def train(run: Run, *, on_log: Callable[[dict], None] = lambda record: None) -> Trained:
    """Train ``run``, or take up its last checkpoint, and write ``model.safetensors``, milestones and ``run.json``.

    A missing or unfit ancestor raises an error that names the command which makes it, before anything is written.
    A second process on the same run is refused. If training fails, ``run.json`` says so and no model appears.
    """
    device = device_and_threads(run.profile)
    start = start_of(run)
    faces = faces_of(run.profile, "train")
    teacher = teacher_of(run, faces, device)
    views = Views(faces=faces, plan=run.plan, seed=run.draws_seed, device=device, teacher=teacher)
    with files.only_process(run.folder / "lock", f"{run.name}, seed {run.seed}"):
        training = Training(
            run.plan,
            views,
            seed=run.weights_seed,
            folder=run.folder,
            key=run.key,
            precision=run.plan.precision,
            start=start,
            on_log=on_log,
        )
        facts = _facts(run, training)
        finished = _finished(run, facts["precision"])
        with _status(run, facts):
            training.run()
            facts |= finished or _totals(training)
            _save_models(run, training)
    if finished:
        print(f"{run.name}, seed {run.seed}: trained before with the same key {run.key}, reused.")
    return Trained(run=run, records=training.records, facts=facts)


def _finished(run: Run, precision: str) -> dict | None:
    """Return the facts of an earlier training that ended with this key and precision, if its checkpoint is there."""
    path = run.folder / "run.json"
    if path.exists() and checkpoints.load(run.folder / "checkpoints" / "last.safetensors", run.key):
        with contextlib.suppress(ValueError):
            facts = files.read_json(path)
            same = {"status": "finished", "key": run.key, "precision": precision}
            return facts if same.items() <= facts.items() else None
    return None


def _facts(run: Run, training: Training) -> dict:
    device = training.views.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    return {
        "key": run.key,
        "config": run.config,
        "device": f"{device.type} ({name})",
        "precision": str(training.dtype).removeprefix("torch."),
        "threads": run.profile.threads,
        "versions": versions,
        "commit": _commit(),
    }


def _commit() -> str:
    command = ["git", "-C", str(study.root()), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _totals(training: Training) -> dict:
    seconds = sum(record["seconds"] for record in training.records)
    faces = training.records[-1]["faces"]
    return {"faces": faces, "seconds": round(seconds, 1), "faces_per_second": round(faces / seconds, 1)}


@contextlib.contextmanager
def _status(run: Run, facts: dict) -> Iterator[None]:
    """Keep ``run.json`` true: running, then finished with the facts gathered meanwhile, or failed with the error."""
    path, started = run.folder / "run.json", time.time()
    files.write_json(path, {"status": "running", **facts})
    try:
        yield
    except BaseException as error:
        files.write_json(path, {"status": "failed", "error": f"{type(error).__name__}: {error}", **facts})
        raise
    facts.setdefault("wall_seconds", round(time.time() - started, 1))
    files.write_json(path, {**facts, "status": "finished"})


def _save_models(run: Run, training: Training) -> None:
    teacher = run.teacher and weights_hash(model_of(run.teacher))
    facts = {"profile": run.profile.name, "stage": run.name, "seed": run.seed, "key": run.key, "teacher": teacher}
    final = {name: value.clone() for name, value in training.network.state_dict().items()}
    for at, state in training.milestones.items():
        training.network.load_state_dict(state)
        save_network(study.milestone(run, at), training.network, {**facts, "milestone": at})
    training.network.load_state_dict(final)
    save_network(run.folder / "model.safetensors", training.network, facts)


def spent(run: Run) -> int:
    """Return the budget of ``run``: faces that passed forward through the student, its ancestors' share included."""
    own = run.plan.schedule.steps * run.plan.schedule.batch
    if run.parent is None:
        return own
    parent = run.parent.plan.schedule
    return own + round(run.stage.start.at * parent.steps) * parent.batch


def benchmark_of(profile: Profile, split: str = "test") -> RenderedBenchmark:
    """Return the verification benchmark on the rendered people of a split."""
    _, views = profile.faces.split(split)
    return RenderedBenchmark(name=f"rendered-{split}", faces=faces_of(profile, split), views=views)


def templates_of(run: Run, benchmark: RenderedBenchmark) -> dict[str, np.ndarray]:
    """Return the run's templates of the test faces by mask kinds, kept beside the model under the evaluation's key."""
    kept = run.folder / "checkpoints" / "test-templates.safetensors"
    with contextlib.suppress(FileNotFoundError, ValueError):
        tensors, facts = read_tensors(kept)
        if facts.get("key") == run.evaluation_key:
            return {kinds: tensor.numpy() for kinds, tensor in tensors.items()}
    recogniser = NetworkRecogniser(model_of(run), device_and_threads(run.profile))
    templates = benchmark.templates(recogniser.templates)
    write_tensors(
        kept, {kinds: torch.from_numpy(value) for kinds, value in templates.items()}, {"key": run.evaluation_key}
    )
    return templates


def model_of(run: Run) -> Network:
    """Return the run's trained network; one that is missing, damaged or stale raises an error naming the remedy."""
    return _ancestor(run, run, run.folder / "model.safetensors")


def score(run: Run, benchmark: RenderedBenchmark | None = None) -> Iterator[tuple[str, str, object]]:
    """Yield (condition, mask kinds, comparisons) of a run on its profile's test people."""
    benchmark = benchmark or benchmark_of(run.profile)
    yield from benchmark.comparisons(templates_of(run, benchmark))


def evaluate_run(run: Run) -> Evaluated:
    """Measure ``run`` on the test people and write ``metrics.json`` and ``resamples.npz``."""
    model_of(run)  # a run that was not trained says so before any face is rendered
    benchmark = benchmark_of(run.profile)
    weights = identity_weights(benchmark.identities, run.profile.resamples)
    scored = {(condition, kinds): comparisons for condition, kinds, comparisons in score(run, benchmark)}
    evaluations, curves = {}, {}
    for place, comparisons in scored.items():
        curves[place] = error_curve(comparisons)
        unmasked = evaluations.get(CONDITIONS[0])
        evaluations[place] = evaluate(comparisons, weights, unmasked=unmasked, curve=curves[place])
    found = Evaluated(run=run, evaluations=evaluations, curves=curves, comparisons=scored)
    write_evaluation(found, benchmark.name)
    return found


def open_evaluation(run: Run) -> Evaluated:
    """Evaluate ``run`` if it was trained; else read what ``results`` holds of it, whatever made that, and say so."""
    if (run.folder / "model.safetensors").exists() or not study.published(run).exists():
        return evaluate_run(run)
    return read_evaluation(run, study.published(run))
