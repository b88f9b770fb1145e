"""Two masked copies of a face, one target: the loss is the mean of template distillation of both copies."""

import pytest
import torch

from maskinv_lib.training.objectives.template_kd import TemplateKD
from tests.training.batches import batch, objective, vectors

torch.set_num_threads(1)


def test_it_is_the_mean_of_template_distillation_of_both_copies():
    two_masks = objective("two_masks.TwoMasks", lambda_=700.0)
    inputs = batch({"masked": vectors(5, 8), "masked-2": vectors(5, 8, seed=1)}, vectors(5, 8, seed=2))
    single = [TemplateKD(lambda_=700.0, view=view)(inputs)["template_kd"] for view in two_masks.views]
    assert single[0] != single[1]
    assert two_masks(inputs)["two_masks"].item() == pytest.approx(sum(single).item() / 2, rel=1e-6)
