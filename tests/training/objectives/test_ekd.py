"""EKD: ranks among running thresholds as the paper defines them, small batches, the general half, a resumed state."""

import copy
import math

import pytest
import torch

from maskinv_lib.training.objectives import Batch, build_objective
from maskinv_lib.training.objectives.ekd import EKD, HARDEST, pair_cosines, soft_ranks
from maskinv_lib.training.objectives.margins import ArcFace

torch.set_num_threads(1)


def vectors(count, size, seed):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def unit(x):
    return x / x.square().sum(1, keepdim=True).sqrt()


def batch(student, teacher, labels, general=None, view="masked"):
    keys = torch.arange(len(labels))
    fixed = {"labels": labels, "masked": keys % 2 == 0, "keys": keys, "progress": 0.0}
    return Batch(**fixed, embeddings={view: student}, teacher=teacher, general=general)


def objective(size=8, classes=8, **settings):
    return build_objective("ekd.EKD", settings, embedding_size=size, classes=classes, seed=0)


def example(people=8, faces=3, size=8, teacher_size=8, seed=0):
    labels = torch.arange(people).repeat_interleave(faces)
    return batch(vectors(people * faces, size, seed) * 5, unit(vectors(len(labels), teacher_size, seed + 1)), labels)


def cosine(a, b):
    length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / length


class Plain:
    """EKD's two losses in lists and loops, with its running thresholds."""

    def __init__(self, hardest, temperature=0.01, renewal=0.01):
        self.hardest, self.temperature, self.renewal = hardest, temperature, renewal
        self.running = {"student": {}, "teacher": {}}

    def rank(self, who, value):
        return sum(1 / (1 + math.exp((x - value) / self.temperature)) for x in self.running[who].values())

    def error(self, pairs):
        return sum((self.rank("student", s) - self.rank("teacher", t)) ** 2 for s, t in pairs) / len(pairs)

    def __call__(self, inputs):
        student, teacher = inputs.embeddings["masked"].tolist(), inputs.teacher.tolist()
        people, pairs = inputs.labels.tolist(), {True: [], False: []}
        for j in range(len(people)):
            for i in range(j):
                pair = cosine(student[i], student[j]), cosine(teacher[i], teacher[j])
                pairs[people[i] == people[j]].append(pair)
        for who, column in (("student", 0), ("teacher", 1)):
            ordered = sorted((pair[column] for pair in pairs[False]), reverse=True)
            for k in range(1, 7):
                place = len(ordered) // 10**k
                if place:
                    old = self.running[who].get(k, 0.0)
                    self.running[who][k] = (1 - self.renewal) * old + self.renewal * ordered[place]
        hard = sorted(pairs[False], reverse=True)[: max(1, round(self.hardest * len(pairs[False])))]
        return 0.02 * self.error(pairs[True]), 0.01 * self.error(hard)


@pytest.mark.parametrize("settings", [{}, {"hardest": 0.3}, {"renewal": 0.5, "temperature": 0.1, "hardest": 1.0}])
def test_three_steps_equal_plain_python(settings):
    ekd, plain = objective(**settings), Plain(**({"hardest": HARDEST} | settings))
    for seed in (0, 10, 20):
        inputs = example(seed=seed)
        positive, negative = plain(inputs)
        losses = ekd(inputs)
        assert losses["ekd_positive"].item() == pytest.approx(positive, rel=1e-3)
        assert losses["ekd_negative"].item() == pytest.approx(negative, rel=1e-3)
    for who, buffer in (("student", ekd.student_thresholds), ("teacher", ekd.teacher_thresholds)):
        assert buffer[:2].tolist() == pytest.approx([plain.running[who][k] for k in (1, 2)], rel=1e-4)
        assert plain.running[who].keys() == {1, 2} and buffer[2:].tolist() == [0.0] * 4


def test_the_published_share_of_the_hardest_and_the_levels():
    ekd = objective()
    published = sum(1 for i in range(512) for j in range(i) if i >= 256 or j >= 256 or i // 4 != j // 4)
    assert ekd.hardest == pytest.approx(2000 / published) and ekd.hard(published) == 2000
    assert (ekd.hard(0), ekd.hard(1), ekd.hard(1968)) == (0, 1, 30)
    assert objective(hardest=1.0).hard(7) == 7 and objective(hardest=0.0).hard(7) == 1
    known = {0: 0, 9: 0, 10: 1, 99: 1, 100: 2, 1968: 3, published: 5, 999_999: 5, 10**6: 6, 10**9: 6}
    assert all(ekd.levels(count) == tuple(range(1, most + 1)) for count, most in known.items())


def test_pairs_are_those_above_the_diagonal_row_by_row():
    rows = vectors(4, 3, 1)
    expected = [cosine(rows[i].tolist(), rows[j].tolist()) for i in range(4) for j in range(i + 1, 4)]
    assert pair_cosines(rows * 9).tolist() == pytest.approx(expected, abs=1e-6)
    assert pair_cosines(rows[:1]).shape == (0,) and pair_cosines(torch.zeros(3, 2)).tolist() == [0.0] * 3


def test_a_rank_counts_the_thresholds_below():
    ranks = soft_ranks(torch.tensor([-0.5, 0.2, 0.25, 0.9]), torch.tensor([0.3, 0.2, 0.1]), 0.001)
    assert ranks.tolist() == pytest.approx([0.0, 1.5, 2.0, 3.0], abs=1e-6)
    assert soft_ranks(torch.tensor([0.3]), torch.zeros(0), 0.01).tolist() == [0.0]


def test_margin_loss_sees_the_general_samples_and_the_distillation_all():
    inputs, ekd = example(), objective()
    arc = ArcFace(embedding_size=8, classes=8, seed=0, margin=0.4)
    everything = copy.deepcopy(ekd)(inputs)
    assert torch.equal(everything["margin"], arc(inputs)["margin"])
    inputs.general = torch.arange(24) % 3 == 0
    part = batch(inputs.embeddings["masked"][::3], None, inputs.labels[::3])
    losses = ekd(inputs)
    assert torch.equal(losses["margin"], arc(part)["margin"]) and losses["margin"] != everything["margin"]
    assert all(torch.equal(losses[name], everything[name]) for name in ("ekd_positive", "ekd_negative"))


def test_without_general_samples_the_margin_loss_is_zero():
    inputs = example()
    inputs.general = torch.zeros(24, dtype=torch.bool)
    losses = objective()(inputs)
    sum(losses.values()).requires_grad_().backward()
    assert losses["margin"] == 0.0 and losses["ekd_positive"] > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("people, faces", [(1, 1), (2, 1), (1, 6), (3, 2), (30, 1), (8, 3)])
def test_small_batches_are_finite_with_and_without_length(people, faces, dtype):
    for stretch in (0.0, 1.0):
        inputs, ekd = example(people, faces), objective(classes=people)
        student = (inputs.embeddings["masked"] * stretch).to(dtype).requires_grad_()
        inputs.embeddings["masked"] = student
        losses = ekd(inputs)
        sum(losses.values()).backward()
        assert all(x.isfinite() and x.dtype == torch.float32 and x.dim() == 0 for x in losses.values())
        assert student.grad.isfinite().all() and ekd.centres.grad.isfinite().all()
        assert faces > 1 or losses["ekd_positive"] == 0
        assert people > 1 or losses["ekd_negative"] == 0


def test_identical_networks_have_nothing_to_distil():
    inputs, ekd = example(), objective()
    inputs.teacher = unit(inputs.embeddings["masked"])
    losses = ekd(inputs)
    assert losses["ekd_positive"].item() == pytest.approx(0, abs=1e-6)
    assert losses["ekd_negative"].item() == pytest.approx(0, abs=1e-6)


def test_only_relations_count_so_the_teacher_may_be_turned_and_wider():
    inputs, narrow, wide = example(), objective(), objective()
    first = narrow(inputs)
    inputs.teacher = inputs.teacher @ torch.linalg.qr(vectors(16, 8, 5))[0].T
    assert inputs.teacher.shape == (24, 16)
    assert wide(inputs)["ekd_positive"].item() == pytest.approx(first["ekd_positive"].item(), rel=1e-4)


def test_the_running_thresholds_settle_slowly_and_only_in_training():
    inputs, ekd = example(), objective()
    ekd.eval()(inputs)
    assert not ekd.student_thresholds.any()
    ekd.train()
    target = pair_cosines(inputs.teacher)[~(inputs.labels[:, None] == inputs.labels)[*torch.triu_indices(24, 24, 1)]]
    for _ in range(100):
        ekd(inputs)
    expected = (1 - 0.99**100) * target.sort(descending=True).values[[25, 2]]
    assert ekd.teacher_thresholds[:2].tolist() == pytest.approx(expected.tolist(), rel=1e-3)


def test_a_resumed_state_goes_on_alike():
    ekd, other = objective(), objective()
    ekd(example())
    assert {"centres", "student_thresholds", "teacher_thresholds"} == set(ekd.state_dict())
    other.load_state_dict(ekd.state_dict())
    first, second = ekd(example(seed=3)), other(example(seed=3))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(ekd.teacher_thresholds, other.teacher_thresholds)
    assert not torch.equal(objective()(example(seed=3))["ekd_positive"], first["ekd_positive"])


def test_autocast_does_not_reach_it():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = objective()(example())
    plain = objective()(example())
    assert all(torch.equal(under[name], plain[name]) for name in plain)


def trained(names, steps=20):
    """Return the first and the last of the named losses of free embeddings trained by them, and the teacher."""
    inputs = example()
    student, teacher = unit(inputs.embeddings["masked"]).requires_grad_(), inputs.teacher.requires_grad_()
    inputs.embeddings["masked"] = student
    ekd = objective(temperature=0.2, hardest=1.0, positive_weight=1.0, negative_weight=1.0)
    optimizer = torch.optim.SGD([student, *ekd.parameters()], lr=1.0)
    history = []
    for _ in range(steps):
        losses = ekd(inputs)
        optimizer.zero_grad()
        sum(losses[name] for name in names).backward()
        optimizer.step()
        history.append(sum(losses[name].item() for name in names))
    return history[0], history[-1], teacher


@pytest.mark.parametrize("names", [["margin"], ["ekd_positive"], ["ekd_negative"], ["ekd_positive", "ekd_negative"]])
def test_it_trains_and_leaves_the_teacher(names):
    first, last, teacher = trained(names)
    assert last < 0.8 * first and teacher.grad is None


def test_a_missing_teacher_and_another_number_are_refused():
    inputs = example()
    inputs.teacher = inputs.teacher[:5]
    with pytest.raises(ValueError, match=r"24 embeddings .* 5 templates"):
        objective()(inputs)
    inputs.teacher = None
    with pytest.raises(ValueError, match="Give the stage a teacher"):
        objective()(inputs)


def test_it_is_built_by_name_with_the_published_values():
    ekd = objective()
    assert isinstance(ekd, EKD) and ekd.needs_teacher and ekd.views == ("masked",)
    assert (ekd.margin, ekd.scale, ekd.temperature, ekd.renewal) == (0.4, 64.0, 0.01, 0.01)
    clean = objective(view="clean")
    inputs = example()
    inputs.embeddings = {"clean": inputs.embeddings["masked"]}
    assert clean.views == ("clean",) and clean(inputs)["margin"].isfinite()
    with pytest.raises(ValueError, match="Label 8 has no class in EKD"):
        ekd.check_labels(torch.tensor([8]))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"renewl": 0.1}, "Did you mean 'renewal'"),
        ({"guarded": True}, "Unknown setting of ekd.EKD 'guarded'"),
        ({"hardest": 2000}, "hardest must be a number from 0 to 1"),
        ({"renewal": -0.1}, "renewal must be a number from 0 to 1"),
        ({"temperature": 0}, "temperature must be a number from 0.0001 up"),
        ({"positive_weight": "0.02"}, "positive_weight must be a number"),
        ({"negative_weight": math.nan}, "negative_weight must be a number"),
        ({"margin": 4}, "margin must be a number from 0 to 3.14159"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ValueError) as caught:
        objective(**settings)
    assert words in str(caught.value)
