"""Checkpoints come back whole, or count as missing."""

import torch
from torch import nn

from maskinv_lib.training import checkpoints


def network_and_optimizer(seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return network, torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)


def step(network, optimizer):
    network(torch.randn(5, 3, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_a_checkpoint_carries_weights_buffers_and_momentum(tmp_path):
    network, optimizer = network_and_optimizer(1)
    step(network, optimizer)
    checkpoints.save(tmp_path / "a.safetensors", {"net": network}, {"sgd": optimizer}, {"key": "k", "step": 1})
    tensors, facts = checkpoints.load(tmp_path / "a.safetensors", "k")
    assert facts == {"key": "k", "step": 1}
    other, other_optimizer = network_and_optimizer(2)
    checkpoints.restore(tensors, {"net": other}, {"sgd": other_optimizer})
    for pair in ((network, optimizer), (other, other_optimizer)):
        step(*pair)
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_what_does_not_fit_is_none(tmp_path):
    network, _ = network_and_optimizer(1)
    path = tmp_path / "a.safetensors"
    assert checkpoints.load(path, "k") is None
    checkpoints.save(path, {"net": network}, {}, {"key": "k"})
    assert checkpoints.load(path, "other") is None
    path.write_bytes(path.read_bytes()[:50])
    assert checkpoints.load(path, "k") is None
