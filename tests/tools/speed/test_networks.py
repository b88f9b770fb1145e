import torch

from maskinv_lib.networks import build_network
from maskinv_lib.networks.templates import NetworkRecogniser
from maskinv_lib.tools.speed import networks
from maskinv_lib.tools.speed.plain_training import plain_network
from tests.tools.speed import small


def test_the_baseline_makes_the_same_templates(patterned):
    network = build_network("mobilefacenet", 16, seed=3)
    plain = networks.plain_templates(plain_network(network).eval(), patterned.images[:4], torch.device("cpu"))
    ours = NetworkRecogniser(network).templates(patterned.images[:4])
    torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-4)


def test_a_step_of_the_head_reaches_embeddings_and_centres():
    objective = networks.head_of(7, 8, torch.device("cpu"))
    embeddings = networks.random_embeddings(5, 8, torch.device("cpu"))
    networks.head_step(objective, embeddings)
    assert embeddings.grad.abs().sum() > 0 and objective.centres.grad.shape == (7, 8)


def test_rows_name_what_they_measure(tmp_path):
    rows = [row for task in networks.tasks(small.setting(tmp_path)) for row in task.run()]
    assert {row.group for row in rows} == {"templates", "head"}
    assert any("50 people, batch 4" in row.name for row in rows)
