import itertools

import pytest
import torch

from maskinv_lib.tools.speed import faces, networks, training
from maskinv_lib.tools.speed.sizes import Trained
from tests.tools.speed import small

ONE = Trained(network="compact", profile="laptop", batch=4)


def prepared(tmp_path, faces):
    options = {"precision": "fp32", "device": torch.device("cpu"), "folder": tmp_path, "draw": None}
    return training.prepare(training.plan_of(ONE), faces, **options)


class FakeSteps:
    """Steps that take the given seconds, on a clock that only they move on."""

    def __init__(self, *seconds):
        self.seconds, self.now, self.waits = list(seconds), 0.0, []

    def run(self):
        while True:
            self.now += self.seconds.pop(0)
            self.steps.ended()

    def way(self, count, **limits):
        if limits.pop("gpu", False):
            limits["wait"] = lambda: self.waits.append(self.now)
        self.steps = training.Steps(self.run, count, clock=lambda: self.now, **limits)
        return self.steps


def test_the_first_step_of_a_block_is_not_counted_nor_the_second_of_all():
    fake = FakeSteps(100, 50, 1, 2, 3, 100, 4, 5, 6)
    way = fake.way(3)
    assert (way(), way(), fake.seconds) == ([1, 2, 3], [4, 5, 6], [])


def test_a_slow_block_ends_early_but_not_without_a_step():
    fake = FakeSteps(9, 8, 7, 6, 5)
    way = fake.way(3, seconds=10)
    assert (way(), way(), fake.seconds) == ([8], [6], [5])


def test_a_gpu_is_waited_for_at_the_start_and_the_end_of_a_block():
    fake = FakeSteps(100, 50, 1, 2, 3)
    assert fake.way(3, gpu=True, seconds=1)() == [2]
    assert fake.waits == [150, 156]


def test_a_step_ends_with_that_of_the_last_optimiser(patterned, tmp_path):
    made, clock = prepared(tmp_path, patterned), itertools.count()
    way = training.steps_of(made.ours, 2, clock=lambda: next(clock))
    assert way() == [1, 1] and made.ours.step == 3  # of four steps, the last one was cut short at its end


def test_blocks_train_on_and_the_next_one_continues(patterned, tmp_path):
    made = prepared(tmp_path, patterned)
    weights = made.ours.network.fc.weight.detach().clone()
    steps = training.steps_of(made.ours, 2)
    steps()
    first = made.ours.step
    steps()
    assert 0 < first < made.ours.step
    assert not torch.equal(weights, made.ours.network.fc.weight)


def test_data_in_place_are_the_batches_of_the_training(patterned, tmp_path):
    made = prepared(tmp_path, patterned)
    for step in range(2):
        ours, placed = made.ours.views.batch(step), made.in_place.views.batch(step)
        assert torch.equal(ours.images["masked"], placed.images["masked"])
        assert torch.equal(ours.teacher, placed.teacher)
    assert made.in_place.views.batch(7).images["clean"] is made.in_place.views.batch(1).images["clean"]
    assert made.in_place.views.batch(1, 0.5).progress == 0.5


def test_there_are_faces_for_two_batches(tmp_path):
    setting = small.setting(tmp_path)
    faces = training.faces_for(setting, 20)
    assert len(faces) >= 40 and faces.identities == setting.sizes.people


def test_rows_name_network_batch_precision_and_threads(tmp_path):
    setting = small.setting(tmp_path)
    (task,) = training.tasks(setting) if not torch.cuda.is_available() else training.tasks(setting)[:1]
    rows = task.run()
    assert task.name.startswith("compact, batch 4, ") and task.name.endswith("1 thread")
    assert [row.name for row in rows] == [task.name, f"{task.name}: share of the limit"]
    assert all(row.value > 0 and row.repeats == 1 for row in rows)


def test_only_a_gpu_in_bf16_has_a_share_of_its_peak():
    for device, precision in (("cpu", "bf16"), ("cuda", "fp32")):
        one = Trained(network="iresnet50", profile="laptop", batch=256)
        assert training._share_of_peak(one, torch.device(device), precision, 1.0, "") == []


@pytest.mark.gpu
def test_a_gpu_is_measured_too(tmp_path):
    setting, device = small.setting(tmp_path), torch.device("cuda")
    for precision in ("fp32", "bf16"):
        rows = training.measure(setting, ONE, precision, device, f"compact, {precision}, GPU")
        assert len(rows) == 2 and all(row.value > 0 for row in rows)
    for module in (faces, networks):
        rows = [row for task in module.tasks(setting) if "GPU" in task.name for row in task.run()]
        assert rows and all("GPU" in row.name and row.value > 0 for row in rows)
