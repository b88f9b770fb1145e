"""Rows of the benchmark, and the timer behind them: ours and the baseline in turn, in one process."""

import dataclasses
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Clock = Callable[[], float]

Way = Callable[[], Sequence[float]]
"""Does a piece of work once or several times and returns the seconds of each."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the benchmark.

    group: what is measured ("masks"); name: the measurement. value, baseline: in ``unit``; a description of the machine
    is a text. ratio: above 1 means that ours is that many times as fast as the baseline. repeats: how often ours was
    timed after the warm-up; ``value`` is the median. against: what the baseline is, or why there is none. error: why
    the row failed, "" if it did not.
    """

    group: str
    name: str
    value: float | str | None = None
    unit: str = ""
    baseline: float | None = None
    ratio: float | None = None
    repeats: int = 0
    against: str = ""
    error: str = ""

    def as_json(self) -> dict:
        """Return the fields as JSON-serialisable data, numbers rounded to five digits."""
        return {name: _rounded(value) for name, value in dataclasses.asdict(self).items()}


def _rounded(value: object) -> object:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def nothing() -> None:
    """Wait for nothing: a processor has done its work when a call returns."""


def once(call: Callable[[], object], wait: Callable[[], None] = nothing, clock: Clock = time.perf_counter) -> Way:
    """Return the way that calls ``call`` once and then ``wait``, which waits for a GPU."""

    def way() -> list[float]:
        wait()
        started = clock()
        call()
        wait()
        return [clock() - started]

    return way


def alternate(
    ways: Sequence[Way],
    *,
    repeats: int,
    seconds: float,
    least: int = 1,
    warm_up: bool = True,
    clock: Clock = time.perf_counter,
) -> list[list[float]]:
    """Return each way's seconds: all ways in turn, again and again, until ``repeats`` or ``seconds`` are spent.

    A disturbance from outside so meets all ways alike. Each round begins with the next way, so that none always follows
    the same other one. Each way runs until it has ``least`` repeats, after one run that is not counted (``warm_up``).
    """
    if warm_up:
        for way in ways:
            way()
    measured: list[list[float]] = [[] for _ in ways]
    order, started = deque(range(len(ways))), clock()
    while len(measured[0]) < repeats and (len(measured[0]) < least or clock() - started < seconds):
        for number in order:
            measured[number] += ways[number]()
        order.rotate(-1)
    return measured


def speed(amount: float, seconds: Sequence[float]) -> float:
    """Return the amount per second at the median of the repeats."""
    return amount / statistics.median(seconds)


def rate_row(
    measured: Sequence[Sequence[float]], amounts: Sequence[float], *, group: str, name: str, unit: str, against: str
) -> Row:
    """Return a row with a speed: the amount of each way divided by its median seconds. A second way is the baseline."""
    speeds = [speed(amount, seconds) for amount, seconds in zip(amounts, measured, strict=True)]
    compared = {"baseline": speeds[1], "ratio": speeds[0] / speeds[1]} if len(speeds) > 1 else {}
    return Row(
        group=group, name=name, value=speeds[0], unit=unit, repeats=len(measured[0]), against=against, **compared
    )


def seconds_row(measured: Sequence[Sequence[float]], *, group: str, name: str, against: str = "") -> Row:
    """Return a row with median seconds. A second way is the baseline."""
    medians = [statistics.median(seconds) for seconds in measured]
    compared = {"baseline": medians[1], "ratio": medians[1] / medians[0]} if len(medians) > 1 else {}
    return Row(
        group=group, name=name, value=medians[0], unit="s", repeats=len(measured[0]), against=against, **compared
    )
