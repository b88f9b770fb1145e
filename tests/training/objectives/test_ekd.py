"""EKD: ranks among running thresholds as the paper defines them, small batches, the general half."""

import copy
import math

import pytest
import torch

from maskinv_lib.training.objectives.ekd import EKD, HARDEST, pair_cosines, soft_ranks
from maskinv_lib.training.objectives.margins import ArcFace
from tests.training.batches import batch, context, unit, vectors

torch.set_num_threads(1)


def objective(classes=8, **settings):
    return EKD(context(classes=classes), **settings)


def example(people=8, faces=3, size=8, teacher_size=8, seed=0):
    labels = torch.arange(people).repeat_interleave(faces)
    return batch(
        vectors(people * faces, size, seed=seed) * 5, unit(vectors(len(labels), teacher_size, seed=seed + 1)), labels
    )


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
                index = len(ordered) // 10**k
                if index:
                    old = self.running[who].get(k, 0.0)
                    self.running[who][k] = (1 - self.renewal) * old + self.renewal * ordered[index]
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
    rows = vectors(4, 3, seed=1)
    expected = [cosine(rows[i].tolist(), rows[j].tolist()) for i in range(4) for j in range(i + 1, 4)]
    assert pair_cosines(rows * 9).tolist() == pytest.approx(expected, abs=1e-6)
    assert pair_cosines(rows[:1]).shape == (0,) and pair_cosines(torch.zeros(3, 2)).tolist() == [0.0] * 3


def test_a_rank_counts_the_thresholds_below():
    ranks = soft_ranks(torch.tensor([-0.5, 0.2, 0.25, 0.9]), torch.tensor([0.3, 0.2, 0.1]), 0.001)
    assert ranks.tolist() == pytest.approx([0.0, 1.5, 2.0, 3.0], abs=1e-6)
    assert soft_ranks(torch.tensor([0.3]), torch.zeros(0), 0.01).tolist() == [0.0]


def test_margin_loss_sees_the_general_samples_and_the_distillation_all():
    inputs, ekd = example(), objective()
    arc = ArcFace(context(classes=8), margin=0.4)
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


@pytest.mark.parametrize("people, faces", [(1, 1), (2, 1), (1, 6), (30, 1)])
def test_without_pairs_of_a_kind_its_loss_is_zero(people, faces):
    losses = objective(classes=people)(example(people, faces))
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
    inputs.teacher = inputs.teacher @ torch.linalg.qr(vectors(16, 8, seed=5))[0].T
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


def trained(names, steps=20):
    """Return the first and the last sum of the named losses of free embeddings that they train."""
    inputs = example()
    student = unit(inputs.embeddings["masked"]).requires_grad_()
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
    return history[0], history[-1]


@pytest.mark.parametrize("names", [["margin"], ["ekd_positive"], ["ekd_negative"], ["ekd_positive", "ekd_negative"]])
def test_each_loss_alone_trains(names):
    first, last = trained(names)
    assert last < 0.8 * first
