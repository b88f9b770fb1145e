import numpy as np
import torch
from scipy import stats

from maskinv_lib.utils.randomness import key, normal, permutation, uniform

MASK = 2**64 - 1


def splitmix(x: int) -> int:
    """The finaliser of SplitMix64 in plain Python."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def test_uniform_is_splitmix64_of_the_key():
    keys = torch.tensor([5, -3, 2**62], dtype=torch.int64)
    expected = [
        [((splitmix(((k & MASK) + n * 0x9E3779B97F4A7C15) & MASK) >> 11) + 0.5) / 2**53 for n in (1, 2)]
        for k in keys.tolist()
    ]
    assert uniform(keys, 2).tolist() == expected


def test_numbers_are_those_of_their_distributions():
    draws = uniform(key(1, "u", torch.arange(20000)), 2)
    assert stats.kstest(draws[:, 0].numpy(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(draws.numpy().T)[0, 1]) < 0.03
    normals = normal(key(1, "n", torch.arange(20000)), 1).flatten().numpy()
    assert stats.kstest(normals, "norm").pvalue > 1e-3


def test_a_draw_does_not_depend_on_its_neighbours():
    keys = key(7, torch.arange(64))
    assert torch.equal(normal(keys[5:6], 9).float(), normal(keys, 9)[5:6].float())
    assert torch.equal(key(7, torch.tensor(5)), keys[5])


def test_order_and_purpose_of_parts_matter():
    keys = [key(1, 2), key(2, 1), key(1, "2"), key(1), key(1, 2, 0), key(0, 1, 2)]
    assert len(set(map(int, keys))) == len(keys)
    assert len(key(3, "x", torch.arange(100_000)).unique()) == 100_000


def test_permutation_holds_every_number_once():
    order = permutation(key(4, "order"), 1000)
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert not torch.equal(order, permutation(key(5, "order"), 1000))
