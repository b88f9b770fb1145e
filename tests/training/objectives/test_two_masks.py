"""Two masked copies of a face, one target: the loss is template distillation's own, and both copies count."""

import pytest
import torch

from maskinv_lib.training.objectives import Batch, build_objective
from maskinv_lib.training.objectives.template_kd import TemplateKD
from maskinv_lib.training.objectives.two_masks import TwoMasks

torch.set_num_threads(1)


def vectors(seed, count=5, size=8):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def batch(first, second, teacher):
    labels = torch.zeros(len(first), dtype=torch.int64)
    empty = {"labels": labels, "masked": labels.bool(), "keys": labels, "progress": 0.0}
    return Batch(**empty, embeddings={"masked": first, "masked-2": second}, teacher=teacher)


def test_it_is_the_mean_of_what_template_distillation_says_of_either_copy():
    made = build_objective("two_masks.TwoMasks", {"lambda_": 700.0}, embedding_size=8, classes=3, seed=0)
    given = batch(vectors(0), vectors(1), vectors(2))
    either = [TemplateKD(lambda_=700.0, view=view)(given)["template_kd"] for view in made.views]
    assert either[0] != either[1]
    assert made(given)["two_masks"].item() == pytest.approx(sum(either).item() / 2, rel=1e-6)


def test_both_copies_are_pulled_and_the_teacher_is_not():
    first, second, teacher = (vectors(seed).requires_grad_() for seed in range(3))
    TwoMasks()(batch(first, second, teacher))["two_masks"].backward()
    assert first.grad.abs().sum() > 0 and second.grad.abs().sum() > 0 and teacher.grad is None


def test_a_missing_teacher_and_a_negative_lambda_are_named():
    with pytest.raises(ValueError, match="TwoMasks needs teacher templates"):
        TwoMasks()(batch(vectors(0), vectors(1), None))
    with pytest.raises(ValueError, match="lambda"):
        TwoMasks(lambda_=-1.0)
