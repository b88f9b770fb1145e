"""RKD: distances and angles among templates in plain code, and finite gradients where templates coincide."""

import math

import pytest
import torch

from maskinv_lib.training.objectives.rkd import RKD, angles, relative_distances, spread
from tests.training.batches import batch, unit, vectors

torch.set_num_threads(1)


def smooth_l1(gap):
    return gap * gap / 2 if abs(gap) < 1 else abs(gap) - 0.5


def plain_distances(x):
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
    lengths = {(i, j): math.dist(x[i], x[j]) for i, j in pairs}
    mean = sum(lengths.values()) / len(lengths)
    return {pair: length / mean for pair, length in lengths.items()}


def plain_angles(x):
    cosines = {}
    for i in range(len(x)):
        for j in range(len(x)):
            for k in range(len(x)):
                if len({i, j, k}) == 3:
                    a, b = ([p - q for p, q in zip(x[end], x[j], strict=True)] for end in (i, k))
                    cosines[i, j, k] = sum(p * q for p, q in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
    return cosines


def mean_gap(student, teacher):
    return sum(smooth_l1(student[key] - teacher[key]) for key in student) / len(student)


def losses_of(student, teacher, **settings):
    return {name: value.item() for name, value in RKD(**settings)(batch(student, teacher)).items()}


@pytest.mark.parametrize("settings, weights", [({}, (25, 50)), ({"distance_weight": 2, "angle_weight": 3}, (2, 3))])
def test_it_is_the_papers_two_losses(settings, weights):
    student, teacher = unit(vectors(6, 3, seed=0)), unit(vectors(6, 5, seed=1))
    student[1] = unit(student[:1] + 0.01)[0]  # a near pair: a relative distance off by more than 1
    s, t = student.tolist(), teacher.tolist()
    far, wide = (mean_gap(plain(s), plain(t)) for plain in (plain_distances, plain_angles))
    losses = losses_of(4 * student, teacher, **settings)
    assert losses == pytest.approx({"rkd_distance": weights[0] * far, "rkd_angle": weights[1] * wide}, rel=1e-3)


def test_the_tables_of_distances_and_angles():
    x = unit(vectors(5, 4, seed=2))
    far, wide = relative_distances(x), angles(x)
    for (i, j), value in plain_distances(x.tolist()).items():
        assert far[i, j].item() == pytest.approx(value, rel=1e-4)
    for (i, j, k), value in plain_angles(x.tolist()).items():
        assert wide[j, i, k].item() == pytest.approx(value, abs=1e-5)
    assert far.diagonal().tolist() == [0.0] * 5 and far.sum().item() == pytest.approx(5 * 4, rel=1e-5)
    assert (wide.abs() > 0).sum() == 5 * 4 * 3


def test_templates_may_move_as_long_as_their_relations_hold():
    teacher = unit(vectors(7, 6, seed=3))
    turn, _ = torch.linalg.qr(vectors(6, 6, seed=4))
    wide = torch.cat([9 * teacher @ turn, torch.zeros(7, 2)], dim=1)
    assert max(losses_of(wide, teacher).values()) < 1e-6
    assert min(losses_of(vectors(7, 6, seed=5), teacher).values()) > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_gradients_stay_small_where_templates_coincide(count, dtype):
    teacher = unit(vectors(count, 8, seed=6))
    near = torch.ones(count, 8) + 1e-7 * vectors(count, 8, seed=7)
    halves = vectors(count, 8, seed=8)
    halves[count // 2 :] = halves[0]
    for start in (torch.zeros(count, 8), torch.ones(count, 8), near, halves, teacher):
        for other in (teacher, torch.zeros(count, 8), unit(torch.ones(count, 8))):
            student = start.to(dtype, copy=True).requires_grad_()
            losses = RKD()(batch(student, other))
            sum(losses.values()).backward()
            assert all(loss.isfinite() for loss in losses.values())
            assert student.grad.isfinite().all() and student.grad.abs().max() < 1e8
            assert count > 1 or losses["rkd_distance"] == 0
            assert count > 2 or losses["rkd_angle"] == 0


@pytest.mark.parametrize("gap", [0.0, 1e-6, 1e-4])
def test_two_equal_templates_do_not_disturb_the_step(gap):
    student = unit(vectors(6, 8, seed=9))
    student[3] = student[2] + gap * vectors(1, 8, seed=18)[0]
    student.requires_grad_()
    sum(RKD()(batch(student, unit(vectors(6, 8, seed=10)))).values()).backward()
    assert student.grad.norm(dim=1).max() < 100


def test_gradients_match_finite_differences():
    x = unit(vectors(4, 3, seed=11)).double().requires_grad_()
    assert torch.autograd.gradcheck(relative_distances, x, eps=1e-6)
    assert torch.autograd.gradcheck(angles, x, eps=1e-6)


def test_large_batches_compare_the_angles_of_128_samples_spread_evenly():
    assert spread(5, 8).tolist() == [0, 1, 2, 3, 4]
    assert spread(7, 3).tolist() == [0, 2, 4] and spread(256, 128).tolist() == list(range(0, 256, 2))
    student, teacher = unit(vectors(200, 4, seed=12)), unit(vectors(200, 4, seed=13))
    samples = [i * 200 // 128 for i in range(128)]
    losses = losses_of(student, teacher)
    assert losses["rkd_angle"] == pytest.approx(losses_of(student[samples], teacher[samples])["rkd_angle"], rel=1e-5)
    gap = mean_gap(plain_distances(student.tolist()), plain_distances(teacher.tolist()))
    assert losses["rkd_distance"] == pytest.approx(25 * gap, rel=1e-3)
