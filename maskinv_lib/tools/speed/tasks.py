"""What every measurement shares: its place in the list, its sizes, its folder, its threads and its devices."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from maskinv_lib.faces import Faces
from maskinv_lib.faces.rendering.synthetic import Rendering, rendered_set
from maskinv_lib.study.profiles import RENDERING
from maskinv_lib.tools.speed import plain_masks
from maskinv_lib.tools.speed.measuring import Row, Way, alternate, nothing, once, rate_row
from maskinv_lib.tools.speed.sizes import Sizes

SEED = 2021
"""Seed of all faces and weights of the benchmark."""

NO_OPENCV = "no baseline: OpenCV is not installed"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How the benchmark measures. folder: for temporary files. cores: those that may be used. done: the rows so far."""

    sizes: Sizes
    folder: Path
    cores: int
    done: list[Row] = field(default_factory=list)

    @property
    def devices(self) -> list[torch.device]:
        """The processor and, where there is one, the GPU."""
        return [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]

    @property
    def faces(self) -> Faces:
        """The rendered faces of the measurements, of ``people`` people with ``views`` views each."""
        return rendered(self.sizes.people, self.sizes.views, self.cores)

    @property
    def threads(self) -> list[int]:
        """One thread, as the profiles for processors use, and all cores."""
        return sorted({1, self.cores})

    def measure(
        self, ours: Callable[[], object], plain: Callable[[], object] | None = None, device: torch.device | None = None
    ) -> list[list[float]]:
        """Return the seconds of ours and, if there is one, of the baseline, in turn."""
        wait = waiting(device or torch.device("cpu"))
        ways: list[Way] = [once(call, wait) for call in (ours, plain) if call is not None]
        limits = {"repeats": self.sizes.repeats, "seconds": self.sizes.seconds}
        return alternate(ways, warm_up=self.sizes.warm_up, **limits)

    def rate(
        self,
        ours: Callable[[], object],
        plain: Callable[[], object] | None = None,
        *,
        amounts: Sequence[float],
        device: torch.device | None = None,
        **names: str,
    ) -> Row:
        """Return the row with the speeds of ours and, if there is one, of the baseline. names: of ``rate_row``."""
        measured = self.measure(ours, plain, device)
        return rate_row(measured, amounts[: len(measured)], **names)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A part of the benchmark that may fail without the others. run: returns its rows."""

    group: str
    name: str
    run: Callable[[], list[Row]]


@functools.lru_cache(maxsize=4)
def rendered(people: int, views: int, cores: int) -> Faces:
    """Return rendered faces, as difficult as those of the study; kept for the other measurements."""
    with threads(cores):
        return rendered_set(SEED, range(people), views, Rendering(**RENDERING))


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch and, where it is installed, OpenCV compute with ``count`` threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    plain_masks.set_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def variables(**values: str | None) -> Iterator[None]:
    """Set variables of the environment in the block, None for unset; afterwards the whole environment is as before."""
    before = dict(os.environ)
    try:
        for name, value in values.items():
            os.environ.pop(name, None)
            os.environ |= {} if value is None else {name: value}
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def waiting(device: torch.device) -> Callable[[], None]:
    """Return the function that waits until a device has done its work."""
    return functools.partial(torch.cuda.synchronize, device) if device.type == "cuda" else nothing


def in_words(count: int) -> str:
    """Return a number of threads in words: ``1 thread``."""
    return f"{count} thread{'s' if count != 1 else ''}"


def where(device: torch.device, count: int) -> str:
    """Return what computes, for the name of a row: ``GPU`` or the number of threads."""
    return "GPU" if device.type == "cuda" else in_words(count)
