"""Faces and networks for the tests of this package."""

import torch

from maskinv_lib.networks import Network, build_network


def faces(count: int = 4, seed: int = 0) -> torch.Tensor:
    """Return noise, uint8 [count, 3, 112, 112]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 112, 112), dtype=torch.uint8, generator=generator)


@torch.no_grad()
def trained(name: str, embedding_size: int = 32, seed: int = 4) -> Network:
    """Return a network in training mode whose batch norms have seen faces, so that their statistics matter."""
    network = build_network(name, embedding_size, seed=seed)
    network(faces(16, seed=9))
    return network


def same_tensors(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Return whether both have the same tensors under the same names."""
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
