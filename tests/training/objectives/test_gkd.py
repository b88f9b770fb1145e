"""GKD: grouped divergences against plain loops, the group's size and members, the fitted classifier, the warm-up."""

import math

import pytest
import torch
import torch.nn.functional as F

from maskinv_lib.training.objectives import gkd
from maskinv_lib.training.objectives.gkd import GKD, class_means, group_size, grouped_divergences, primary_group
from maskinv_lib.training.objectives.margins import CosFace
from tests.training.batches import batch, context, vectors

torch.set_num_threads(1)


def objective(size=8, classes=12, centres_seed=9, **settings):
    """Return GKD with drawn, not fitted, classifiers; without the teacher's where centres_seed is None."""
    made = GKD(context(size, classes), **settings)
    if centres_seed is not None:
        made.centres.data = F.normalize(vectors(classes, size, seed=centres_seed), dim=1)
        made.teacher_centres.copy_(F.normalize(vectors(classes, size, seed=centres_seed + 1), dim=1))
    return made


def example(count=6, classes=12, size=8, progress=1.0):
    student, teacher = vectors(count, size, seed=1), F.normalize(vectors(count, size, seed=2), dim=1)
    return batch(student, teacher, torch.arange(count) * 5 % classes, progress=progress)


def people(classes=20, faces=6, size=16, noise=0.15):
    """Return teacher templates [2, N, D] around one direction per person, and their labels [N]."""
    labels = torch.arange(classes * faces) % classes
    centres = F.normalize(vectors(classes, size, seed=3), dim=1)
    return F.normalize(centres[labels] + noise * vectors(2, len(labels), size, seed=4), dim=2), labels


def plain_logits(rows, centres, labels, scale, margin):
    logits = []
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        length = math.sqrt(sum(x * x for x in row))
        cosines = [
            sum(x * y for x, y in zip(row, centre, strict=True)) / length / math.sqrt(sum(y * y for y in centre))
            for centre in centres.tolist()
        ]
        logits.append([scale * (c - margin * (k == label)) for k, c in enumerate(cosines)])
    return logits


def softmax(logits, temperature=1.0):
    powers = [math.exp(x / temperature) for x in logits]
    return [x / sum(powers) for x in powers]


def divergence(q, p):
    return sum(a * math.log(a / b) for a, b in zip(q, p, strict=True) if a > 0)


def plain_group_size(logits, mass, step):
    rows = [softmax(row) for row in logits]
    likely = sorted((sum(column) / len(rows) for column in zip(*rows, strict=True)), reverse=True)
    for size in range(step, len(likely), step):
        if sum(likely[:size]) >= mass:
            return size
    return len(likely)


def plain_losses(student, teacher, labels, size, temperature):
    binary = primary = 0.0
    for s, t, label in zip(student, teacher, labels.tolist(), strict=True):
        others = sorted((k for k in range(len(s)) if k != label), key=lambda k: -s[k])
        group = [label, *others[: size - 1]]
        p, q = softmax(s, temperature), softmax(t, temperature)
        inside = sum(p[k] for k in group), sum(q[k] for k in group)
        if size < len(s):
            binary += divergence([inside[1], 1 - inside[1]], [inside[0], 1 - inside[0]])
        primary += divergence([q[k] / inside[1] for k in group], [p[k] / inside[0] for k in group])
    return temperature**2 * binary / len(student), temperature**2 * primary / len(student)


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": 64.0},
        {"scale": 16.0},
        {"scale": 8.0, "step": 5, "beta": 8.0},
        {"scale": 4.0, "mass": 0.6, "temperature": 1.0, "margin": 0.1},
        {"scale": 4.0, "mass": 1.0},
    ],
)
def test_all_losses_equal_plain_python(settings):
    made, inputs = objective(**settings), example()
    labels = inputs.labels
    own = plain_logits(inputs.embeddings["masked"], made.centres, labels, made.scale, made.margin)
    student = plain_logits(inputs.embeddings["masked"], made.centres, labels, 64, made.margin)
    teacher = plain_logits(inputs.teacher, made.teacher_centres, labels, 64, made.margin)
    size = plain_group_size(student, made.mass, settings.get("step", 1))
    binary, primary = plain_losses(student, teacher, labels, size, made.temperature)
    entropy = sum(-math.log(softmax(row)[label]) for row, label in zip(own, labels.tolist(), strict=True)) / 6
    binary, primary = (made.scale / 64 * loss for loss in (binary, primary))
    losses = made(inputs)
    assert losses["margin"].item() == pytest.approx(entropy, rel=1e-5)
    assert losses["gkd_binary"].item() == pytest.approx(binary, rel=1e-4, abs=1e-6)
    assert losses["gkd_primary"].item() == pytest.approx(settings.get("beta", 4.0) * primary, rel=1e-4)
    assert size == 12 or losses["gkd_binary"] > 0


def test_the_group_is_the_smallest_multiple_that_reaches_the_mass():
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.0625, 0.0625], [0.25, 0.5, 0.0625, 0.125, 0.0625]]).log()
    for mass, step, size in ((0.3, 1, 1), (0.7, 1, 2), (0.76, 1, 3), (0.9, 1, 4), (0.9, 3, 5), (0.3, 3, 3), (1, 1, 5)):
        assert group_size(logits, mass, step).item() == size == plain_group_size(logits.tolist(), mass, step)
    assert group_size(logits, 0.0, 1).item() == 1


def test_the_right_class_is_forced_into_its_group():
    logits = torch.tensor([[5.0, 4.0, 3.0, -9.0], [5.0, 4.0, 3.0, -9.0]])
    group = primary_group(logits, torch.tensor([3, 0]), torch.tensor(2))
    assert group.tolist() == [[True, False, False, True], [True, True, False, False]]
    assert primary_group(logits, torch.tensor([3, 0]), torch.tensor(4)).all()


def test_the_teacher_s_logits_outside_the_group_do_not_matter():
    student, teacher = vectors(3, 6, seed=5), vectors(3, 6, seed=6)
    group = torch.zeros(3, 6, dtype=torch.bool)
    group[:, :3] = True
    changed = teacher.clone()
    changed[:, 3:] = teacher[:, [4, 5, 3]]
    first, second = (grouped_divergences(student, x, group, 4.0) for x in (teacher, changed))
    assert torch.allclose(torch.stack(first), torch.stack(second))
    changed[:, 0] += 1
    assert not torch.allclose(torch.stack(first), torch.stack(grouped_divergences(student, changed, group, 4.0)))


def test_equal_networks_have_nothing_to_distil():
    made, inputs = objective(scale=8.0), example()
    made.teacher_centres.copy_(made.centres.data)
    inputs.teacher = F.normalize(inputs.embeddings["masked"], dim=1)
    losses = made(inputs)
    assert abs(losses["gkd_binary"].item()) < 1e-5 and abs(losses["gkd_primary"].item()) < 1e-5


@pytest.mark.parametrize("progress, share", [(0.0, 0.0), (5 / 26, 0.5), (10 / 26, 1.0), (0.9, 1.0)])
def test_the_distillation_warms_up_with_the_progress(progress, share):
    made = objective(scale=8.0)
    full, now = made(example(progress=1.0)), made(example(progress=progress))
    assert torch.equal(now["margin"], full["margin"])
    for name in ("gkd_binary", "gkd_primary"):
        assert now[name].item() == pytest.approx(share * full[name].item(), rel=1e-6) and full[name] > 0
    without = objective(scale=8.0, warm_up=0)(example(progress=0.0))
    assert torch.equal(without["gkd_primary"], full["gkd_primary"])


def test_the_margin_loss_is_cosface():
    made, head = objective(), CosFace(context(classes=12), margin=0.4)
    head.centres.data = made.centres.data
    assert made(example())["margin"].item() == pytest.approx(head(example())["margin"].item(), rel=1e-6)


@pytest.mark.parametrize("classes, step", [(1, 1), (99, 1), (300, 3), (10_000, 100)])
def test_the_step_follows_the_number_of_classes(classes, step):
    assert objective(classes=classes, size=2).step == step
    assert objective(classes=classes, size=2, step=100).step == 100


def test_gradients_match_finite_differences():
    student, teacher = vectors(3, 5, seed=7).double().requires_grad_(), vectors(3, 5, seed=8).double()
    for size in (2, 5):
        group = primary_group(student, torch.tensor([0, 1, 2]), torch.tensor(size))
        assert torch.autograd.gradcheck(lambda x, g=group: grouped_divergences(x, teacher, g, 4.0), student)


def test_prepare_starts_from_the_class_means_and_lowers_the_teachers_loss():
    templates, labels = people()
    means = class_means(templates, labels, 20)
    both = templates[:, labels == 7].flatten(0, 1).mean(0)
    assert torch.allclose(means[7], both / both.norm(), atol=1e-6)
    made = objective(16, 20, centres_seed=None)
    made.prepare(templates, labels)
    assert torch.allclose(made.teacher_centres.norm(dim=1), torch.ones(20), atol=1e-5)

    def loss(centres):
        logits = made.logits(templates.flatten(0, 1), centres, labels.repeat(2))
        return F.cross_entropy(logits, labels.repeat(2)).item()

    assert loss(made.teacher_centres) < 0.8 * loss(means)
    assert (made.teacher_centres * means).sum(1).min() > 0.8


def test_prepare_is_a_function_of_its_arguments_and_the_seed(monkeypatch):
    monkeypatch.setattr(gkd, "FIT_STEPS", 20)
    templates, labels = people()
    state = torch.get_rng_state()
    objectives = [GKD(context(16, 20, seed)) for seed in (0, 0, 1)]
    with torch.no_grad():
        for each in objectives:
            each.prepare(templates, labels)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(objectives[0].teacher_centres, objectives[1].teacher_centres)
    assert not torch.equal(objectives[0].teacher_centres, objectives[2].teacher_centres)
    assert not objectives[0].teacher_centres.requires_grad and objectives[0].centres.grad is None


def test_a_class_without_a_face_does_no_harm(monkeypatch):
    monkeypatch.setattr(gkd, "FIT_STEPS", 20)
    templates, labels = people()
    made = GKD(context(16, 22))
    made.prepare(templates, labels)
    assert made.teacher_centres.isfinite().all()
    assert all(x.isfinite() for x in made(example(size=16, classes=20)).values())


def test_unfit_templates_and_a_missing_fit_are_refused():
    templates, labels = people()
    made = objective(8, 20, centres_seed=None)
    with pytest.raises(ValueError, match=r"\[2, 120, 8\].*not \[2, 120, 16\].*embedding_size"):
        made.prepare(templates, labels)
    with pytest.raises(ValueError, match="Label 19 has no class in GKD"):
        objective(16, 19).prepare(templates, labels)
    with pytest.raises(ValueError, match="Call prepare"):
        made(example())


def test_a_resumed_state_needs_no_second_fit():
    made, other = objective(), objective(centres_seed=None)
    assert [name for name, _ in made.named_parameters()] == ["centres"]
    other.load_state_dict(made.state_dict())
    first, second = made(example()), other(example())
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_trains_and_leaves_the_teacher():
    made, inputs = objective(scale=8.0), example()
    student = inputs.embeddings["masked"].requires_grad_()
    before = made.teacher_centres.clone()
    optimizer = torch.optim.SGD([student, *made.parameters()], lr=0.1)
    history = []
    for _ in range(20):
        losses = made(inputs)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    assert torch.equal(before, made.teacher_centres)
    assert sum(history[-1].values()) < 0.7 * sum(history[0].values())
    assert history[-1]["gkd_primary"] < history[0]["gkd_primary"]
