"""Opening every set of a profile before anything trains: what cannot train or be judged is refused or named here."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskinv_lib.evaluation.benchmarks.drawn import DrawnSet
from maskinv_lib.evaluation.benchmarks.real_masks import OneProtocol
from maskinv_lib.faces import Faces, recordio
from maskinv_lib.faces.masks.drawing import draw_masks
from maskinv_lib.networks.published import import_weights
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.pipeline.sources import AnyBenchmark, benchmark_of, device_and_threads, faces_of, real_people
from maskinv_lib.study.data import RealFaces
from maskinv_lib.study.recipes import Profile
from maskinv_lib.study.runs import planned_runs
from maskinv_lib.training.loop import choose_precision
from maskinv_lib.utils import files, machine
from maskinv_lib.utils.randomness import key

Show = Callable[[str], None]


def open_all(profile: Profile, path: Path, threads: int | None, show: Show) -> None:
    """Render or read every set of a profile and check it before any training; list the sets in ``path``.

    threads: None takes all cores. show: called with the progress as text, at most every ten seconds, with what is
    unusual about the data, and for real people with the expected time. Raises ValueError naming set, number and remedy
    for sets that cannot train or be judged.
    """
    cores = threads or machine.usable_cores()
    torch.set_num_threads(cores)
    started = time.time()
    sets, tests = checked_sets(profile, show)
    if isinstance(profile.faces, RealFaces):
        show(_expected(profile, tests, cores))
    files.write_json(path, {"sets": sets, "seconds": round(time.time() - started, 1)})


def checked_sets(profile: Profile, show: Show) -> tuple[dict[str, object], list[AnyBenchmark]]:
    """Open and check every set of a profile; return (name -> what it holds, the benchmarks that were read from files).

    show and errors: those of ``open_all``.
    """
    sets: dict[str, object] = {}
    for split in profile.faces.splits:
        faces = faces_of(profile, split, _slowly(split, show))
        sets[split] = {"faces": len(faces), "source": faces.source}
        if split == "train":
            _check_batches(profile, faces)
    tests = {test.name: benchmark_of(profile, test) for test in profile.benchmarks if test.path}
    for benchmark in tests.values():
        check_sides(benchmark, show)
    if isinstance(profile.faces, RealFaces):
        check_sides(benchmark_of(profile, split="validation"), show)
        check_people(profile.faces, show)
    return sets | {name: benchmark.in_words for name, benchmark in tests.items()}, list(tests.values())


def _slowly(split: str, show: Show) -> Callable[[int, int], None]:
    last = time.time()

    def progress(done: int, count: int) -> None:
        nonlocal last
        if time.time() - last > 10:
            last = time.time()
            show(f"{split}: {done:,} of {count:,}")

    return progress


# What cannot train or be judged


def _check_batches(profile: Profile, faces: Faces) -> None:
    batch = max((run.plan.schedule.batch for run in planned_runs(profile, range(1)) if run.stage.trained), default=2)
    if batch > len(faces):
        remedy = "Set a smaller batch in maskinv.toml, or add faces"
        raise ValueError(f"{faces.source}: {len(faces)} faces are fewer than a batch of {batch}. {remedy}.")


def check_sides(benchmark: AnyBenchmark, show: Show) -> None:
    """Refuse a benchmark without genuine or without impostor pairs; name its conditions of which this is true."""
    counts = {name: pairs for name, pairs in _sides(benchmark) if sum(pairs)}
    words = [f"{name} {genuine:,} genuine, {others:,} impostor" for name, (genuine, others) in counts.items()]
    one_sided = [text for text, pairs in zip(words, counts.values(), strict=True) if 0 in pairs]
    if len(one_sided) == len(counts):
        remedy = "Error rates need both kinds of pairs: name other people or pairs in maskinv.toml"
        raise ValueError(f"{benchmark.name} cannot be judged: {'; '.join(words) or 'no pairs'}. {remedy}.")
    if one_sided:
        show(f"{benchmark.name}: left out, because error rates need both kinds of pairs: {'; '.join(one_sided)}")


def _sides(benchmark: AnyBenchmark) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield (condition, numbers of genuine and impostor pairs); drawn masks change no pair."""
    if isinstance(benchmark, OneProtocol):
        yield from benchmark.of.counts(benchmark.protocol).items()
    elif isinstance(benchmark, DrawnSet):
        pictures, total = np.bincount(benchmark.faces.identity.numpy()), len(benchmark.faces)
        genuine = int((pictures * (pictures - 1) // 2).sum())
        yield "pairs:", (genuine, total * (total - 1) // 2 - genuine)
    else:
        first, second = benchmark.faces.identity[benchmark.index].reshape(-1, 2).T
        genuine = int((first == second).sum())
        yield "pairs:", (genuine, len(first) - genuine)


def check_people(of: RealFaces, show: Show) -> None:
    """Refuse a picture that is under two people, and a person of one repeated picture; count other repetitions."""
    faces = real_people(of)
    records = recordio.open_records(of.path(of.training))
    numbers = _opened(records, of, len(faces))
    labels = records.labels[numbers]
    groups = _equal(faces.images)
    across = [group for group in groups if len(set(labels[group].tolist())) > 1]
    texts = "; ".join(_in_words(records.keys[numbers], labels, group) for group in across[:5])
    if across:
        remedy = "Correct the set, or leave labels out of it: without = [...] in maskinv.toml"
        raise ValueError(f"{records.path}: {len(across)} pictures are under two people: {texts}. {remedy}.")
    within = [group for group in groups if len(group) > 1]
    for group in within:
        label = int(labels[group[0]])
        if len(group) == int((labels == label).sum()):
            remedy = f"Add others, or leave the label out: without = [{label}] in maskinv.toml"
            raise ValueError(f"{records.path}: all {len(group)} pictures of label {label} are the same. {remedy}.")
    if within:
        texts = "; ".join(_in_words(records.keys[numbers], labels, group) for group in within[:5])
        show(f"pictures that occur more than once: {len(within)}, such as {texts}")


def _opened(records: recordio.RecordFile, of: RealFaces, count: int) -> Tensor:
    """Return the numbers, int64 [count], of the pictures of a record file that were opened as faces."""
    numbers = np.flatnonzero(~np.isin(records.labels.numpy(), of.without)).tolist()
    if len(numbers) > count:  # skip_bad left some out
        numbers = [number for number in numbers if _decodes(records, number)]
    return torch.tensor(numbers)


def _decodes(records: recordio.RecordFile, number: int) -> bool:
    try:
        return records.image(number) is not None
    except ValueError:
        return False


def _equal(images: Tensor) -> list[list[int]]:
    """Return the groups of two or more equal images, uint8 [N, 3, H, W], as their numbers."""
    groups = defaultdict(list)
    for number, image in enumerate(images):
        groups[hashlib.blake2b(image.contiguous().numpy(), digest_size=16).digest()].append(number)
    return [group for group in groups.values() if len(group) > 1]


def _in_words(keys: Tensor, labels: Tensor, group: list[int]) -> str:
    return ", ".join(f"record {keys[number]} (label {labels[number]})" for number in group[:5])


# The expected time


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Faces per second of one job: in training steps, and as masked faces of which templates are made."""

    training: float
    templates: float


def _expected(profile: Profile, benchmarks: list[AnyBenchmark], cores: int) -> str:
    """Return in words how long one seed of the ablation takes here: speeds are measured, the rest is estimated."""
    speeds = _measured(profile)
    seconds = expected_seconds(profile, speeds, [benchmark.pictures for benchmark in benchmarks])
    jobs = 1 if profile.gpus else max(1, cores // profile.threads)
    minutes = f"about {max(1, round(seconds / jobs / 60)):,} min on {cores} core(s)"
    speed = f"{speeds.training:.0f} faces/s in training, {speeds.templates:.0f} in tests"
    return f"expected: each seed takes {minutes} (measured with one job at a time: {speed})"


NOTEBOOK = 10.0
"""Seconds for the start of a notebook and for its figures."""


def expected_seconds(profile: Profile, speeds: Speeds, pictures: list[int]) -> float:
    """Return the seconds of one core for one seed: trainings, evaluations, and the notebooks of both.

    pictures: the number of faces of each benchmark, masked ones included.
    """
    seconds = 0.0
    for run in planned_runs(profile, range(1)):
        tests = zip(profile.benchmarks, pictures, strict=True)
        tested = [count for benchmark, count in tests if benchmark.all_methods or run.is_rung]
        training = run.faces_spent if run.stage.trained else 0
        seconds += training / speeds.training + sum(tested) / speeds.templates + NOTEBOOK * (1 + len(tested))
    return seconds


def _measured(profile: Profile) -> Speeds:
    """Measure the speeds with the teacher's network and random pictures."""
    device = device_and_threads(profile)
    network = import_weights(profile.faces.path(profile.faces.teacher))[0].to(device)
    dtype, batch = choose_precision(profile.precision, device), profile.schedule.batch
    images = torch.randint(0, 256, (batch, 3, 112, 112), dtype=torch.uint8)
    keys = key("speed", torch.arange(batch))
    recogniser = NetworkRecogniser(network, device)

    def masked() -> Tensor:
        return draw_masks(images, keys, "seen")[0]

    def step() -> None:
        network.train()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = network(masked().to(device)).float().square().mean()
        loss.backward()
        loss.item()  # waits for a GPU

    tested = batch / _seconds(lambda: recogniser.templates(masked()))
    return Speeds(training=batch / _seconds(step), templates=tested)


def _seconds(call: Callable[[], object], at_least: float = 1.0) -> float:
    """Return the mean seconds of a call, repeated for a second after one call that warms up."""
    call()
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < at_least or not calls:
        call()
        calls += 1
    return (time.perf_counter() - started) / calls
