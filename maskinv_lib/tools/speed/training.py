"""A training step: the whole pipeline, the same step on data already in place, and an obvious PyTorch loop.

Steps run in blocks, ours, the two others, ours again, ...; the first step of a block is not counted, nor, if steps are
quick, the second step of all, which still takes new memory. A step ends when the last optimiser has done its step,
which a hook of torch tells: whatever ``Training.run`` does counts. A GPU is waited for only at the start and the end of
a block, because a training does not wait for it either: it prepares the next step meanwhile.
"""

import contextlib
import copy
import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from maskinv_lib.faces import Faces
from maskinv_lib.networks import build_network
from maskinv_lib.networks.templates import NetworkRecogniser, teacher_templates
from maskinv_lib.study.plan import Plan, plan
from maskinv_lib.study.profiles import get_profile, known_stages
from maskinv_lib.tools.speed import chips, plain_masks
from maskinv_lib.tools.speed.measuring import Clock, Row, Way, alternate, nothing, rate_row, speed
from maskinv_lib.tools.speed.plain_training import Draw, PlainLoop
from maskinv_lib.tools.speed.sizes import Trained
from maskinv_lib.tools.speed.tasks import NO_OPENCV, SEED, Setting, Task, threads, waiting, where
from maskinv_lib.training.loop import Training, choose_precision
from maskinv_lib.training.objectives import Batch
from maskinv_lib.training.views import Views
from maskinv_lib.utils.randomness import key

UNIT, GROUP = "faces/s", "training"

STAGE = "maskinv-lg"
"""The method whose steps are measured: margin loss and template distillation, half of the faces masked."""

ENDLESS = 10_000
"""Steps of a measured training: more than any measurement runs, so that none comes to its end."""

STOCK = 64
"""Masks that the obvious loop has prepared, as pictures, to choose from."""


def tasks(setting: Setting) -> list[Task]:
    """Return the measurements: each training on each device, in float32 and in what the machine would choose."""
    found = []
    for device in setting.devices:
        trained = setting.sizes.trained if device.type == "cpu" else setting.sizes.on_gpu
        chosen = str(choose_precision("auto", device)).removeprefix("torch.")
        precisions = ["fp32"] if chosen == "float32" else ["bf16", "fp32"]
        for one, precision in itertools.product(trained, precisions):
            name = f"{one.network}, batch {one.batch}, {precision}, {where(device, _threads(setting, one))}"
            run = partial(measure, setting, one, precision, device, name)
            found.append(Task(group=GROUP, name=name, run=run))
    return found


def _threads(setting: Setting, one: Trained) -> int:
    return setting.cores if one.all_cores else min(setting.cores, get_profile(one.profile).threads)


def plan_of(one: Trained) -> Plan:
    """Return the plan of ``STAGE`` at a profile's scale, with another network and batch."""
    profile = get_profile(one.profile)
    schedule = dataclasses.replace(profile.schedule, batch=one.batch, budget=ENDLESS * one.batch)
    size = 512 if one.network.startswith("iresnet") else profile.embedding_size
    return plan(
        known_stages(profile)[STAGE],
        dataclasses.replace(profile, network=one.network, embedding_size=size, schedule=schedule),
    )


class _BlockEndedError(Exception):
    """Ends a training after a block of steps."""


class Steps:
    """A way: runs steps in a block and returns the seconds of each that counts, or of a GPU their mean.

    run: runs steps and calls ``ended`` after each until that raises. count: steps that count in a block. seconds: a
    block that takes longer on a processor ends earlier, with one step or more. wait: waits for a GPU.
    """

    def __init__(
        self,
        run: Callable[[], object],
        count: int,
        *,
        seconds: float = math.inf,
        wait: Callable[[], None] = nothing,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.run, self.count, self.seconds, self.wait, self.clock = run, count, seconds, wait, clock
        self.skipped = 2  # steps before those that count: two in the first block, one in the others

    def ended(self) -> None:
        """Note that a step ended; end the block if it was the last one."""
        number = len(self.ends) + 1
        if number in (self.skipped, self.skipped + self.count):
            self.wait()
        self.ends.append(self.clock())
        spent = self.ends[-1] - self.started if self.wait is nothing else 0.0
        if number == 1 and spent > self.seconds / 2:
            self.skipped = 1
        if number == self.skipped + self.count or (number > self.skipped and spent > self.seconds):
            raise _BlockEndedError

    def __call__(self) -> list[float]:
        self.ends: list[float] = []
        self.started = self.clock()
        with contextlib.suppress(_BlockEndedError):  # the next block continues where this one stopped
            self.run()
        ends, self.skipped = self.ends[self.skipped - 1 :], 1
        if self.wait is not nothing:
            return [(ends[-1] - ends[0]) / self.count]
        return [after - before for before, after in itertools.pairwise(ends)]


def steps_of(training: Training, count: int, **limits: object) -> Steps:
    """Return the way that runs steps of a training; a step ends with that of its last optimiser."""
    steps = Steps(training.run, count, **limits)
    list(training.optimizers.values())[-1].register_step_post_hook(lambda *_: steps.ended())
    return steps


def plain_steps(loop: PlainLoop, count: int, **limits: object) -> Steps:
    """Return the way that runs steps of the obvious loop."""

    def run() -> None:
        while True:
            loop.step()
            steps.ended()

    steps = Steps(run, count, **limits)
    return steps


class InPlace(Views):
    """Views whose batches were made before: what is left of a step is computing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.made = [super(InPlace, self).batch(step) for step in range(2)]

    def batch(self, step: int, progress: float = 0.0) -> Batch:
        """Return one of two batches, whatever the step."""
        return dataclasses.replace(self.made[step % 2], progress=progress, embeddings={}, maps={})


def faces_for(setting: Setting, batch: int) -> Faces:
    """Return the training faces, repeated until there are two batches."""
    faces = setting.faces
    times = -(-2 * batch // len(faces))
    images, identity = faces.images.repeat(times, 1, 1, 1), faces.identity.repeat(times)
    return dataclasses.replace(faces, images=images, identity=identity)


def stock_of_masks(faces: Faces) -> Draw | None:
    """Return a function that draws the next of some prepared masks with OpenCV; None without OpenCV."""
    if not plain_masks.installed():
        return None
    count = min(STOCK, len(faces))
    masks = plain_masks.prepare(faces.images[:count], key(SEED, "stock of masks", torch.arange(count)))
    numbers = itertools.cycle(range(count))
    return lambda face: masks.draw(face, next(numbers))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """The three kinds of training of one plan: ours, ours on data in place, and the obvious loop, or None."""

    ours: Training
    in_place: Training
    plain: PlainLoop | None


def prepare(
    plan: Plan, faces: Faces, *, precision: str, device: torch.device, folder: Path, draw: Draw | None
) -> Prepared:
    """Build the trainings of a plan with a teacher of random weights. draw: draws the masks of the obvious loop."""
    teacher = build_network(plan.network, plan.embedding_size, seed=SEED)
    templates = teacher_templates(NetworkRecogniser(copy.deepcopy(teacher), device), faces)

    def training(kind: type[Views]) -> Training:
        views = kind(faces=faces, plan=plan, seed=SEED, device=device, teacher=templates)
        options = {"folder": folder / kind.__name__, "key": "speed", "precision": precision}
        return Training(plan, views, seed=SEED, **options)

    ours, plain = training(Views), None
    if draw is not None:
        networks = {"student": ours.network, "teacher": teacher, "objectives": list(ours.objectives)}
        plain = PlainLoop(plan, faces, **networks, draw=draw, device=device)
    return Prepared(ours=ours, in_place=training(InPlace), plain=plain)


def measure(setting: Setting, one: Trained, precision: str, device: torch.device, name: str) -> list[Row]:
    """Return the rows of one training: against the obvious loop, against data in place, and of a GPU's peak."""
    faces, wait = faces_for(setting, one.batch), waiting(device)
    with threads(_threads(setting, one)):
        folder = setting.folder / name.replace(" ", "").replace(",", "-")
        options = {"precision": precision, "device": device, "folder": folder, "draw": stock_of_masks(faces)}
        prepared = prepare(plan_of(one), faces, **options)
        count = setting.sizes.block if device.type == "cpu" else setting.sizes.gpu_block
        limits = {"seconds": setting.sizes.seconds, "wait": wait}
        ways: list[Way] = [steps_of(made, count, **limits) for made in (prepared.ours, prepared.in_place)]
        ways += [plain_steps(prepared.plain, count, **limits)] if prepared.plain else []
        repeats = {"repeats": 3 * setting.sizes.repeats, "least": setting.sizes.least_steps}
        measured = alternate(ways, **repeats, seconds=setting.sizes.seconds, warm_up=False)
    rows = [_against_plain(measured, one.batch, name), _against_in_place(measured, one.batch, name)]
    return rows + _share_of_peak(one, device, precision, statistics.median(measured[0]), name)


def _against_plain(measured: list[list[float]], batch: int, name: str) -> Row:
    against = "obvious PyTorch loop: fp32, channels first, teacher in the loop, masks one by one with OpenCV"
    ways = measured[::2]  # ours and, with OpenCV, the obvious loop
    against = against if len(ways) > 1 else NO_OPENCV
    return rate_row(ways, [batch] * len(ways), group=GROUP, name=name, unit=UNIT, against=against)


def _against_in_place(measured: list[list[float]], batch: int, name: str) -> Row:
    against = "the same step on data already in place, the limit that computing sets"
    names = {"group": GROUP, "name": f"{name}: share of the limit", "unit": UNIT, "against": against}
    return rate_row(measured[:2], [batch] * 2, **names)


def _share_of_peak(one: Trained, device: torch.device, precision: str, seconds: float, name: str) -> list[Row]:
    """Return the share of a GPU's peak in bf16, for the networks whose operations are known."""
    if device.type != "cuda" or precision != "bf16" or one.network not in chips.GFLOP:
        return []
    achieved = chips.GFLOP[one.network] * speed(one.batch, [seconds]) / 1000
    return [chips.share_of_peak(achieved, torch.cuda.get_device_name(device), group=GROUP, name=f"{name}: operations")]
