"""RKD: distances and angles among templates in plain code, what they leave free, and safety where templates meet."""

import math

import pytest
import torch

from maskinv_lib.training.objectives import Batch, build_objective
from maskinv_lib.training.objectives.rkd import RKD, angles, relative_distances, spread

torch.set_num_threads(1)


def batch(student, teacher, view="masked"):
    labels = torch.zeros(len(student), dtype=torch.int64)
    empty = {"labels": labels, "masked": labels.bool(), "keys": labels, "progress": 0.0}
    return Batch(**empty, embeddings={view: student}, teacher=teacher)


def vectors(count, size, seed):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def unit(x):
    return x / x.square().sum(1, keepdim=True).sqrt()


def smooth_l1(gap):
    return gap * gap / 2 if abs(gap) < 1 else abs(gap) - 0.5


def plain_distances(x):
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
    lengths = {(i, j): math.dist(x[i], x[j]) for i, j in pairs}
    mean = sum(lengths.values()) / len(lengths)
    return {pair: length / mean for pair, length in lengths.items()}


def plain_angles(x):
    found = {}
    for i in range(len(x)):
        for j in range(len(x)):
            for k in range(len(x)):
                if len({i, j, k}) == 3:
                    a, b = ([p - q for p, q in zip(x[end], x[j], strict=True)] for end in (i, k))
                    found[i, j, k] = sum(p * q for p, q in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
    return found


def mean_gap(student, teacher):
    return sum(smooth_l1(student[place] - teacher[place]) for place in student) / len(student)


def losses(student, teacher, **settings):
    return {name: value.item() for name, value in RKD(**settings)(batch(student, teacher)).items()}


@pytest.mark.parametrize("settings, weights", [({}, (25, 50)), ({"distance_weight": 2, "angle_weight": 3}, (2, 3))])
def test_it_is_the_papers_two_losses(settings, weights):
    student, teacher = unit(vectors(6, 3, 0)), unit(vectors(6, 5, 1))
    student[1] = unit(student[:1] + 0.01)[0]  # a near pair: a relative distance off by more than 1
    s, t = student.tolist(), teacher.tolist()
    far, wide = (mean_gap(plain(s), plain(t)) for plain in (plain_distances, plain_angles))
    found = losses(4 * student, teacher, **settings)
    assert found == pytest.approx({"rkd_distance": weights[0] * far, "rkd_angle": weights[1] * wide}, rel=1e-3)


def test_the_tables_of_distances_and_angles():
    x = unit(vectors(5, 4, 2))
    far, wide = relative_distances(x), angles(x)
    for (i, j), value in plain_distances(x.tolist()).items():
        assert far[i, j].item() == pytest.approx(value, rel=1e-4)
    for (i, j, k), value in plain_angles(x.tolist()).items():
        assert wide[j, i, k].item() == pytest.approx(value, abs=1e-5)
    assert far.diagonal().tolist() == [0.0] * 5 and far.sum().item() == pytest.approx(5 * 4, rel=1e-5)
    assert (wide.abs() > 0).sum() == 5 * 4 * 3


def test_places_are_free_as_long_as_relations_hold():
    teacher = unit(vectors(7, 6, 3))
    turn, _ = torch.linalg.qr(vectors(6, 6, 4))
    wide = torch.cat([9 * teacher @ turn, torch.zeros(7, 2)], dim=1)
    assert max(losses(wide, teacher).values()) < 1e-6
    assert min(losses(vectors(7, 6, 5), teacher).values()) > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_loss_and_gradient_are_finite_where_templates_meet(count, dtype):
    teacher = unit(vectors(count, 8, 6))
    near = torch.ones(count, 8) + 1e-7 * vectors(count, 8, 7)
    halves = vectors(count, 8, 8)
    halves[count // 2 :] = halves[0]
    for start in (torch.zeros(count, 8), torch.ones(count, 8), near, halves, teacher):
        for other in (teacher, torch.zeros(count, 8), unit(torch.ones(count, 8))):
            student = start.to(dtype, copy=True).requires_grad_()
            found = RKD()(batch(student, other))
            sum(found.values()).backward()
            assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in found.values())
            assert student.grad.isfinite().all() and student.grad.abs().max() < 1e8
            assert count > 1 or found["rkd_distance"] == 0
            assert count > 2 or found["rkd_angle"] == 0


@pytest.mark.parametrize("gap", [0.0, 1e-6, 1e-4])
def test_two_templates_in_one_place_do_not_disturb_the_step(gap):
    student = unit(vectors(6, 8, 9))
    student[3] = student[2] + gap * vectors(1, 8, 18)[0]
    student.requires_grad_()
    sum(RKD()(batch(student, unit(vectors(6, 8, 10)))).values()).backward()
    assert student.grad.norm(dim=1).max() < 100


def test_gradients_match_finite_differences():
    x = unit(vectors(4, 3, 11)).double().requires_grad_()
    assert torch.autograd.gradcheck(relative_distances, x, eps=1e-6)
    assert torch.autograd.gradcheck(angles, x, eps=1e-6)


def test_large_batches_compare_the_angles_of_128_samples_spread_evenly():
    assert spread(5, 8).tolist() == [0, 1, 2, 3, 4]
    assert spread(7, 3).tolist() == [0, 2, 4] and spread(256, 128).tolist() == list(range(0, 256, 2))
    student, teacher = unit(vectors(200, 4, 12)), unit(vectors(200, 4, 13))
    some = [i * 200 // 128 for i in range(128)]
    found = losses(student, teacher)
    assert found["rkd_angle"] == pytest.approx(losses(student[some], teacher[some])["rkd_angle"], rel=1e-5)
    gap = mean_gap(plain_distances(student.tolist()), plain_distances(teacher.tolist()))
    assert found["rkd_distance"] == pytest.approx(25 * gap, rel=1e-3)


def test_steps_lower_the_loss_and_leave_the_teacher():
    student, teacher = vectors(8, 16, 14).requires_grad_(), unit(vectors(8, 16, 15)).requires_grad_()
    optimizer, totals = torch.optim.SGD([student], lr=1.0), []
    for _ in range(20):
        optimizer.zero_grad()
        total = sum(RKD()(batch(student, teacher)).values())
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert teacher.grad is None and totals[-1] < 0.5 * totals[0]


def test_autocast_does_not_reach_it():
    inputs = batch(vectors(5, 64, 16), unit(vectors(5, 64, 17)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = RKD()(inputs)
    assert under == RKD()(inputs)


def test_it_is_built_by_name_and_refuses_what_it_cannot_use():
    build = {"embedding_size": 8, "classes": 2, "seed": 0}
    objective = build_objective("rkd.RKD", {"angle_weight": 0}, **build)
    assert (objective.distance_weight, objective.angle_weight) == (25.0, 0.0)
    assert objective.views == ("masked",) and objective.needs_teacher and list(objective.state_dict()) == []
    assert RKD(view="clean")(batch(vectors(3, 8, 0), vectors(3, 8, 1), "clean"))["rkd_angle"].isfinite()
    with pytest.raises(ValueError, match="RKD needs teacher templates"):
        objective(batch(vectors(2, 8, 0), None))
    with pytest.raises(ValueError, match="2 samples, 3"):
        objective(batch(vectors(2, 8, 0), vectors(3, 8, 0)))
    with pytest.raises(ValueError, match="Did you mean 'angle_weight'"):
        build_objective("rkd.RKD", {"angle_weigth": 1}, **build)
    for name in ("distance_weight", "angle_weight"):
        for value in (-1, float("inf"), "25", True):
            with pytest.raises(ValueError, match=f"{name} must be a number from 0 up"):
                RKD(**{name: value})
