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
from maskinv_lib.benchmarks import Comparisons
from maskinv_lib.benchmarks.bins import read_bin
from maskinv_lib.benchmarks.drawn import DrawnPairs, DrawnSet
from maskinv_lib.benchmarks.people import OneProtocol
from maskinv_lib.benchmarks.real_sets import read_mfr2, read_mfrc, read_rmfrd
from maskinv_lib.benchmarks.rendered import RenderedBenchmark, masked_copy
from maskinv_lib.evaluation import UNMASKED, evaluate
from maskinv_lib.faces import Faces, recordio
from maskinv_lib.faces.synthetic import Rendering, rendered_set
from maskinv_lib.metrics import error_curve, measure
from maskinv_lib.networks import Network
from maskinv_lib.networks.published import import_weights
from maskinv_lib.networks.weights import load_network, read_tensors, save_network, write_tensors
from maskinv_lib.recipes import Benchmark, Profile, RealFaces
from maskinv_lib.records import Evaluated, read_evaluation, write_evaluation
from maskinv_lib.resampling import identity_weights
from maskinv_lib.study import Run
from maskinv_lib.templates import NetworkRecogniser, cached_templates, teacher_templates
from maskinv_lib.training import Training, Views

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
    where = {"cache": study.runs() / ".cache", "device": "cuda" if torch.cuda.is_available() else "cpu"}
    return rendered_set(profile.faces.seed, identities, views, rendering, progress=progress, **where)


def _real_faces(of: RealFaces, split: str) -> Faces:
    """Return the people that real training, or validation, sees: drawn by the set's seed, nobody in both."""
    if split not in ("train", "validation"):
        raise ValueError(f"Real faces are split into train and validation, not {split!r}; tests are sets of their own.")
    path = of.path(of.training)
    how = {"without": of.without, "skip_bad": of.skip_bad, "cache": study.runs() / ".cache"}
    found = recordio.faces(recordio.open_records(path), source=path.name, **how)
    if not 2 <= of.validation < found.identities:
        raise ValueError(
            f"validation={of.validation} of {found.identities} people of {path}: choose 2 or more, not all."
        )
    chosen = recordio.held_back(found.identity, of.validation, of.seed) == (split == "validation")
    identity = recordio.dense(found.identity[chosen])
    return dataclasses.replace(found, images=found.images[chosen], identity=identity, source=f"{path.name} {split}")


def teacher_of(run: Run, faces: Faces, device: torch.device) -> Tensor | None:
    """Return the teacher's templates of ``faces`` and of their mirror images, float32 [2, N, D]; None without one."""
    if run.teacher is None:
        return None
    path = run.teacher.folder / "model.safetensors"
    network = _ancestor(run, run.teacher, path)
    code = fingerprints.code_hash("templates", *(name for name in run.train_code if "faces" in name or "netw" in name))
    return cached_templates(
        study.runs() / ".cache" / "templates",
        files.content_hash([weights_hash(network), run.config["faces"], device.type, code]),
        lambda: teacher_templates(NetworkRecogniser(network, device), faces),
    )


def weights_hash(network: Network) -> str:
    """Return 16 hexadecimal digits that stand for a network's tensors; the bytes of its file vary in their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def start_of(run: Run) -> Network | None:
    """Return the backbone that ``run`` starts from; None for random weights."""
    return None if run.milestone is None else _ancestor(run, run.parent, run.milestone)


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


def pairs_in_words(run: Run) -> str:
    """Return what a run's benchmark compares with what, or that its data are not at hand."""
    try:
        return benchmark_of(run.profile, run.benchmark).in_words
    except FileNotFoundError as error:
        return f"The pairs of {run.measured_on.name} are not at hand here: {error}"


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
    if run.stage.imported:
        return _imported(run, device)
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
            start=start and start.state_dict(),
            on_log=on_log,
        )
        if start is not None:  # how pixels are scaled belongs to the weights, and these are where the student begins
            training.network.contract = start.contract
        facts = _facts(run, device, training.dtype)
        finished = _finished(run, facts["precision"])
        with _status(run, facts):
            training.run()
            facts |= finished or _totals(training)
            _save_models(run, training)
    if finished:
        print(f"{run.name}, seed {run.seed}: trained before with the same key {run.key}, reused.")
    return Trained(run=run, records=training.records, facts=facts)


def _imported(run: Run, device: torch.device) -> Trained:
    """Write the profile's published network as the run's model; nothing is trained."""
    faces = run.profile.faces
    network, facts = import_weights(faces.path(faces.teacher), faces.contract or None)
    found, wanted = (network.name, network.embedding_size), (run.plan.network, run.plan.embedding_size)
    if found != wanted:
        remedy = "Set network and embedding_size in maskinv.toml of the data folder"
        raise ValueError(f"{faces.teacher} holds {found[0]}, {found[1]}-D, not {wanted[0]}. {remedy}.")
    with files.only_process(run.folder / "lock", f"{run.name}, seed {run.seed}"):
        said = _facts(run, device, torch.float32) | {"faces": 0, "seconds": 0.0, "faces_per_second": 0.0}
        with _status(run, said):
            about = {"profile": run.profile.name, "stage": run.name, "seed": run.seed, "key": run.key}
            save_network(run.folder / "model.safetensors", network, {**about, "file_sha256": facts["file_sha256"]})
            files.write_text(run.folder / "log.jsonl", "")
    return Trained(run=run, records=[], facts=said)


def _finished(run: Run, precision: str) -> dict | None:
    """Return the facts of an earlier training that ended with this key and precision, if its checkpoint is there."""
    path = run.folder / "run.json"
    if path.exists() and checkpoints.load(run.folder / "checkpoints" / "last.safetensors", run.key):
        with contextlib.suppress(ValueError):
            facts = files.read_json(path)
            same = {"status": "finished", "key": run.key, "precision": precision}
            return facts if same.items() <= facts.items() else None
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
    if run.stage.imported:
        return 0
    own = run.plan.schedule.steps * run.plan.schedule.batch
    if run.parent is None or run.parent.stage.imported:
        return own
    parent = run.parent.plan.schedule
    return own + round(run.stage.start.at * parent.steps) * parent.batch


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


def templates_of(run: Run, benchmark: AnyBenchmark) -> dict[str, np.ndarray]:
    """Return the run's templates of the test faces by mask kinds, kept under the evaluation's key.

    Those of a network that was imported are the same in every seed, and kept for all of them.
    """
    place = study.runs() / ".cache" / "templates" if run.stage.imported else run.folder / "checkpoints"
    kept = place / f"templates-{benchmark.name}.safetensors"
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


def score(run: Run, benchmark: AnyBenchmark | None = None) -> Iterator[tuple[str, str, Comparisons]]:
    """Yield (condition, mask kinds, comparisons) of a run on the benchmark that it is evaluated on."""
    benchmark = benchmark or benchmark_of(run.profile, run.benchmark)
    yield from benchmark.comparisons(templates_of(run, benchmark))


def evaluate_run(run: Run) -> Evaluated:
    """Measure ``run`` on its benchmark and write ``metrics.json`` and ``resamples.npz``."""
    model_of(run)  # a run that was not trained says so before any face is rendered
    benchmark = benchmark_of(run.profile, run.benchmark)
    if isinstance(run.profile.faces, RealFaces):
        _note_opening(run)
    found = _evaluated(run, benchmark, score(run, benchmark))
    write_evaluation(found, benchmark.name)
    return found


def _evaluated(run: Run, benchmark: AnyBenchmark, scored: Iterator[tuple[str, str, Comparisons]]) -> Evaluated:
    weights = identity_weights(benchmark.identities, run.profile.resamples)
    compared = {(condition, kinds): comparisons for condition, kinds, comparisons in scored}
    evaluations, curves = {}, {}
    for place, comparisons in compared.items():
        curves[place] = error_curve(comparisons)
        unmasked = evaluations.get((UNMASKED, "none"))
        evaluations[place] = evaluate(comparisons, weights, unmasked=unmasked, curve=curves[place])
    return Evaluated(run=run, evaluations=evaluations, curves=curves, comparisons=compared)


def _note_opening(run: Run) -> None:
    """Append to ``openings.csv`` that a test set was opened: when, for which run, with which commit."""
    path = study.runs() / run.profile.name / "openings.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.only_process(path.with_suffix(".lock"), str(path), wait=True), path.open("a", encoding="utf-8") as file:
        if file.tell() == 0:
            file.write("date,benchmark,stage,seed,commit,key\n")
        date = time.strftime("%Y-%m-%d", time.gmtime())
        file.write(f"{date},{run.measured_on.name},{run.name},{run.seed},{_commit()},{run.key}\n")


def on_validation(run: Run) -> dict[str, float]:
    """Return condition -> EER of a trained run on the people held back from its training, with unseen mask kinds."""
    benchmark = benchmark_of(run.profile, split="validation")
    recogniser = NetworkRecogniser(model_of(run), device_and_threads(run.profile))
    compared = benchmark.comparisons(benchmark.templates(recogniser.templates))
    return {condition: measure(found)["eer"].value for condition, _, found in compared}


def trial(run: Run) -> dict:
    """Train ``run``, judge it on the validation people and write ``validation.json``: EER by condition."""
    facts = train(run).facts
    found = {
        "stage": run.stage.name,
        "learning_rate": None if run.stage.imported else run.plan.schedule.learning_rate,
        "faces": spent(run),
        "seconds": facts["seconds"],
        "eer": on_validation(run),
    }
    files.write_json(run.folder / "validation.json", found)
    return found


def open_evaluation(run: Run) -> Evaluated:
    """Evaluate ``run`` if it was trained; else read what ``results`` holds of it, whatever made that, and say so."""
    if (run.folder / "model.safetensors").exists() or not study.published(run).exists():
        return evaluate_run(run)
    return read_evaluation(run, study.published(run))
