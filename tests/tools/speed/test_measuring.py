import dataclasses
import json

import pytest

from maskinv_lib.tools.speed.measuring import Row, alternate, once, rate_row, seconds_row


class FakeClock:
    """A clock that only work moves on."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, []

    def __call__(self) -> float:
        return self.now

    def work(self, name, *seconds):
        """Return a call that takes these seconds, one after the other, and then the last one."""
        left = list(seconds)

        def call():
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


def test_ours_and_the_baseline_run_in_turn_after_a_warm_up_of_both():
    clock = FakeClock()
    ways = [once(clock.work("a", 9, 1, 2, 30), clock=clock), once(clock.work("b", 9, 4), clock=clock)]
    measured = alternate(ways, repeats=3, seconds=1e9, clock=clock)
    assert "".join(clock.log) == "ababbaab"
    assert measured == [[1, 2, 30], [4, 4, 4]]


def test_a_slow_measurement_stops_after_its_seconds_but_never_without_a_repeat():
    clock = FakeClock()
    measured = alternate([once(clock.work("a", 10), clock=clock)], repeats=9, seconds=25, clock=clock)
    assert measured == [[10, 10, 10]]
    assert len(alternate([once(clock.work("a", 10), clock=clock)], repeats=9, seconds=0, clock=clock)[0]) == 1
    assert len(alternate([once(clock.work("a", 10), clock=clock)], repeats=9, seconds=0, least=3, clock=clock)[0]) == 3


def test_without_a_warm_up_every_run_counts():
    clock = FakeClock()
    way = once(clock.work("a", 7, 1), clock=clock)
    assert alternate([way], repeats=2, seconds=99, warm_up=False, clock=clock) == [[7, 1]]


def test_a_gpu_is_waited_for_before_the_start_and_before_the_end():
    clock = FakeClock()
    assert once(clock.work("call", 1), wait=clock.work("wait", 5), clock=clock)() == [6]
    assert clock.log == ["wait", "call", "wait"]


def test_rows_are_made_of_medians_and_a_ratio_above_one_is_faster():
    names = {"group": "masks", "name": "batch 8", "against": "one by one"}
    row = rate_row([[1, 2, 60], [4, 4, 4]], [8, 8], unit="faces/s", **names)
    assert (row.value, row.baseline, row.ratio, row.repeats) == (4.0, 2.0, 2.0, 3)
    row = rate_row([[2.0], [2.0]], [100, 10], unit="pairs/s", **names)  # the baseline does a tenth of the work
    assert (row.value, row.baseline, row.ratio) == (50, 5, 10)
    row = seconds_row([[1, 2, 60], [5, 6, 7]], **names)
    assert (row.value, row.unit, row.baseline, row.ratio) == (2, "s", 6, 3)
    row = rate_row([[2.0]], [8], unit="faces/s", **names)
    assert (row.baseline, row.ratio) == (None, None)


def test_a_row_has_the_promised_fields():
    row = Row(group="masks", name="batch 8", value=1 / 3, unit="faces/s", repeats=2)
    assert {"name", "value", "unit", "baseline", "ratio", "repeats"} <= row.as_json().keys()
    assert json.loads(json.dumps(row.as_json()))["value"] == pytest.approx(1 / 3, rel=1e-4)
    assert Row(**row.as_json()) == dataclasses.replace(row, value=row.as_json()["value"])
