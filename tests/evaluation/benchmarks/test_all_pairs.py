"""Comparisons of all pairs in tiles are those of a list."""

from collections import Counter

import numpy as np
import pytest

from maskinv_lib.evaluation.benchmarks import tiles
from maskinv_lib.evaluation.benchmarks.all_pairs import AllPairs, both_ways, crossed, every_pair
from tests.evaluation.simulated import faces_of


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "SIDE", 64)


def rounded(scores, first, second):
    """Counts of (score, the two identities), whichever comes first."""
    pairs = np.sort(np.stack([first, second]), axis=0)
    return Counter(zip((scores * 1000).round().astype(int).tolist(), *pairs.tolist(), strict=True))


def test_every_pair_is_compared_once():
    templates, identity = faces_of(decimals=1)
    upper = np.triu_indices(len(identity), 1)
    pairs = every_pair(templates, identity)
    lists = pairs.listed()
    assert len(pairs) == len(lists) == len(upper[0])
    assert rounded(lists.scores, lists.first, lists.second) == rounded(
        (templates @ templates.T)[upper], *(identity[side] for side in upper)
    )


def test_a_mixed_pair_is_compared_both_ways_and_no_face_with_itself():
    (plain, identity), masked = faces_of(decimals=1), faces_of(decimals=1, width=32, noise=3)[0]
    different = ~np.eye(len(identity), dtype=bool)
    lists = both_ways(plain, masked, identity).listed()
    first, second = (np.broadcast_to(side, different.shape)[different] for side in (identity[:, None], identity))
    assert rounded(lists.scores, lists.first, lists.second) == rounded((plain @ masked.T)[different], first, second)


@pytest.mark.parametrize("make", [every_pair, lambda t, i: both_ways(t, t, i)])
def test_counts_need_no_scores(make):
    pairs = make(*faces_of(people=30, views=5))
    lists = pairs.listed()
    assert (len(pairs), pairs.genuine) == (len(lists), lists.genuine.sum())
    assert (pairs.identities, pairs.people) == (lists.identities, lists.people) == (30, 30)


def test_the_order_of_the_templates_does_not_change_the_scores():
    templates, identity = faces_of()
    order = np.random.default_rng(1).permutation(len(identity))
    lists = [every_pair(templates, identity).listed(), every_pair(templates[order], identity[order]).listed()]
    assert np.array_equal(*(np.sort(part.scores) for part in lists))
    crossing = [crossed(a, identity, b, identity) for a, b in ((templates, -templates), (-templates, templates))]
    assert np.array_equal(*(np.sort(AllPairs(grids=(grid,)).listed().scores) for grid in crossing))


def test_genuine_comparisons_and_a_sample_for_a_figure():
    pairs = every_pair(*faces_of())
    lists, (scores, person), sample = pairs.listed(), pairs.genuine_comparisons, pairs.sampled(2)
    assert np.array_equal(np.sort(scores), np.sort(lists.scores[lists.genuine]))
    assert np.array_equal(np.bincount(person), np.bincount(lists.first[lists.genuine]))
    assert sample.genuine.sum() == len(scores)
    assert 0 < (~sample.genuine).sum() <= 2 * 64**2
    assert np.isin(sample.scores, lists.scores).all()


def test_templates_that_cannot_be_compared_are_refused():
    templates, identity = faces_of(people=4, views=2)
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        every_pair(templates, identity[1:])
    with pytest.raises(ValueError, match="1 of 8 templates are NaN"):
        every_pair(np.where(np.arange(8)[:, None] == 3, np.nan, templates), identity)
    with pytest.raises(ValueError, match="number the identities from 0"):
        every_pair(templates, identity - 1)
    with pytest.raises(ValueError, match="No genuine comparison among 28"):
        every_pair(templates, np.arange(8))
    with pytest.raises(ValueError, match="No impostor comparison among 28"):
        every_pair(templates, np.zeros(8, int))
