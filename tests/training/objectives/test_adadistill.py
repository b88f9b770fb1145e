"""AdaDistill: centres that follow the teacher in plain code, before the loss, without gradient, and over a resume."""

import math

import pytest
import torch

from maskinv_lib.training.objectives.adadistill import AdaDistill, keeping_weights
from maskinv_lib.training.objectives.margins import ArcFace, CosFace
from maskinv_lib.training.objectives.template_kd import TemplateKD
from tests.training.batches import batch, context, unit, vectors

torch.set_num_threads(1)


def head(size=6, classes=4, seed=0, **settings):
    return AdaDistill(context(size, classes, seed), **settings)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a, b):
    return dot(a, b) / math.hypot(*a) / math.hypot(*b)


def within(value, low=1e-6):
    return min(max(value, low), 1.0)


def plain_step(centres, student, teacher, labels):
    """Each class: the mean of what its samples make of its old centre."""
    moved = {}
    for s, t, label in zip(student, teacher, labels, strict=True):
        c = centres[label]
        alpha = within(cosine(s, t) * within(cosine(c, t)))
        moved.setdefault(label, []).append([alpha * x + (1 - alpha) * y for x, y in zip(c, t, strict=True)])
    means = {label: [sum(column) / len(rows) for column in zip(*rows, strict=True)] for label, rows in moved.items()}
    return [means.get(label, centre) for label, centre in enumerate(centres)]


def plain_loss(centres, student, labels, kind, margin, scale):
    total = 0.0
    for s, label in zip(student, labels, strict=True):
        logits = [scale * cosine(s, c) for c in centres]
        theta = math.acos(logits[label] / scale)
        logits[label] = scale * (math.cos(theta + margin) if kind == "arc" else math.cos(theta) - margin)
        top = max(logits)
        total += top + math.log(sum(math.exp(x - top) for x in logits)) - logits[label]
    return total / len(labels)


@pytest.mark.parametrize("kind, margin", [("arc", 0.3), ("cos", 0.2)])
def test_centres_and_losses_of_several_steps_in_plain_python(kind, margin):
    objective = head(kind=kind, margin=margin, scale=8.0)
    centres = objective.centres.tolist()
    people = unit(vectors(4, 6, seed=1))
    for step, labels in enumerate(([0, 1, 2, 3, 1], [1, 1, 1, 0, 2], [2, 0, 0, 2, 2])):
        teacher = unit(people[labels] + 0.3 * vectors(5, 6, seed=10 + step))
        student = 3 * unit(teacher + 0.4 * vectors(5, 6, seed=20 + step))
        centres = plain_step(centres, student.tolist(), teacher.tolist(), labels)
        loss = objective(batch(student, teacher, labels))["margin"].item()
        assert loss == pytest.approx(plain_loss(centres, student.tolist(), labels, kind, margin, 8.0), rel=1e-4)
        for centre, expected in zip(objective.centres.tolist(), centres, strict=True):
            assert centre == pytest.approx(expected, abs=1e-5)


def test_a_beginner_learns_from_single_templates_and_an_expert_from_their_mean():
    centre, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[math.cos(0.5), math.sin(0.5)]])
    for angle, alpha in ((0.5, math.cos(0.5)), (1.5, math.cos(1.0) * math.cos(0.5)), (3.0, 1e-6)):
        objective = head(size=2, classes=1)
        objective.centres.copy_(centre)
        objective(batch(torch.tensor([[math.cos(angle), math.sin(angle)]]), teacher, [0]))
        expected = alpha * centre + (1 - alpha) * teacher
        assert objective.centres[0].tolist() == pytest.approx(expected[0].tolist(), abs=1e-6)


def test_two_opposite_directions_do_not_make_one_agreement():
    teacher = unit(torch.tensor([[1.0, 0.0]]))
    away = unit(torch.tensor([[-1.0, 0.2]]))  # of the student and of the centre: the product of both is near 1
    assert keeping_weights(away, teacher, away).item() == pytest.approx(1e-6)
    assert keeping_weights(teacher, teacher, away).item() == pytest.approx(1e-6)


def test_the_first_batch_of_a_class_puts_its_centre_near_the_teachers_template():
    objective, teacher = head(size=64, classes=40), unit(vectors(40, 64, seed=2))
    objective(batch(vectors(40, 64, seed=3), teacher, list(range(40))))
    assert (unit(objective.centres) * teacher).sum(1).min() > 0.99


def test_the_order_of_the_samples_does_not_matter():
    first, second = head(), head()
    student, teacher, labels = vectors(7, 6, seed=4), unit(vectors(7, 6, seed=5)), [2, 0, 2, 1, 2, 0, 2]
    order = [6, 2, 5, 0, 3, 1, 4]
    first(batch(student, teacher, labels))
    second(batch(student[order], teacher[order], [labels[i] for i in order]))
    assert torch.allclose(first.centres, second.centres, atol=1e-6)
    assert torch.equal(first.centres[3], head().centres[3]) and not torch.equal(first.centres[0], head().centres[0])


def test_centres_are_a_buffer_that_no_optimiser_holds_and_no_gradient_reaches():
    objective = head(seed=3)
    assert list(objective.parameters()) == [] and list(objective.state_dict()) == ["centres"]
    assert torch.equal(objective.centres, ArcFace(context(6, 4, 3)).centres)
    objective(batch(vectors(4, 6, seed=6).requires_grad_(), unit(vectors(4, 6, seed=7)), [0, 1, 2, 3]))[
        "margin"
    ].backward()
    assert not objective.centres.requires_grad


def test_in_eval_mode_the_centres_stay():
    objective = head().eval()
    before = objective.centres.clone()
    objective(batch(vectors(4, 6, seed=6), unit(vectors(4, 6, seed=7)), [0, 1, 2, 3]))
    assert torch.equal(objective.centres, before)


@pytest.mark.parametrize("kind, plain", [("arc", ArcFace), ("cos", CosFace)])
def test_in_eval_mode_it_is_the_plain_head(kind, plain):
    inputs = batch(vectors(5, 6, seed=8), unit(vectors(5, 6, seed=9)), [0, 3, 1, 1, 2])
    expected = plain(context(6, 4, 1))(inputs)["margin"]
    assert torch.equal(head(kind=kind, seed=1).eval()(inputs)["margin"], expected)


def test_lambda_adds_template_kd_of_the_same_strength():
    inputs = batch(vectors(4, 6, seed=10), unit(vectors(4, 6, seed=11)), [0, 1, 2, 3])
    alone, both = head()(inputs), head(lambda_=300.0)(inputs)
    assert list(alone) == ["margin"] and list(both) == ["margin", "template_kd"]
    assert torch.equal(alone["margin"], both["margin"])
    assert torch.equal(both["template_kd"], TemplateKD(lambda_=300.0)(inputs)["template_kd"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["arc", "cos"])
def test_loss_and_gradient_are_finite_at_the_edges(kind, dtype):
    for classes, count in ((1, 1), (1, 4), (3, 4)):
        labels, teacher = [i % classes for i in range(count)], unit(vectors(count, 6, seed=12))
        for start in (torch.zeros(count, 6), teacher, -teacher, torch.full((count, 6), 1e-30)):
            objective = head(classes=classes, kind=kind, lambda_=100.0)
            for _ in range(3):
                student = start.to(dtype, copy=True).requires_grad_()
                losses = objective(batch(student, teacher, labels))
                sum(losses.values()).backward()
                assert all(x.dtype == torch.float32 and x.isfinite() for x in losses.values())
                assert student.grad.isfinite().all() and objective.centres.isfinite().all()


def test_a_student_learns_the_teacher_s_templates():
    teacher, student = unit(vectors(8, 16, seed=13)), vectors(8, 16, seed=14).requires_grad_()
    objective = head(size=16, classes=8, scale=16.0)
    optimizer, losses = torch.optim.SGD([student], lr=0.5), []
    for _ in range(30):
        optimizer.zero_grad()
        loss = objective(batch(student, teacher, list(range(8))))["margin"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert (unit(student.detach()) * teacher).sum(1).mean() > 0.6 + (unit(vectors(8, 16, seed=14)) * teacher).sum(
        1
    ).mean()
