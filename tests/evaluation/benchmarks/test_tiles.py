"""Tiles cover every comparison once, with the same bits however they are computed."""

import numpy as np
import pytest
import torch

from maskinv_lib.evaluation.benchmarks import tiles
from maskinv_lib.evaluation.benchmarks.all_pairs import both_ways, every_pair
from tests.evaluation.simulated import faces_of


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "SIDE", 64)


def test_a_tile_is_the_product_of_its_rows_and_columns_whatever_its_place():
    pairs = every_pair(*faces_of())
    shapes = {tile.scores().shape for tile in pairs.tiles()}
    assert shapes == {(64, 64), (64, 40), (40, 40)}  # 360 templates: the last tile of a row is cut
    for tile in pairs.tiles():
        rows, columns = tile.grid.rows[tile.top :], tile.grid.columns[tile.left :]
        expected = rows[: len(tile.first)] @ columns[: len(tile.second)].T
        np.testing.assert_allclose(tile.scores(), expected, atol=1e-6)


def test_a_score_has_the_same_bits_every_time_and_with_any_number_of_threads():
    pairs, threads = every_pair(*faces_of()), torch.get_num_threads()
    once = [tile.scores().copy() for tile in pairs.tiles()]
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            again = list(tiles.each(pairs.tiles(), lambda tile: tile.scores()))
            assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)


def test_labels_of_a_tile_say_who_is_compared():
    for pairs in (every_pair(*faces_of()), both_ways(faces_of()[0], *faces_of())):
        for tile in pairs.tiles():
            same, impostor = tile.genuine(), tile.impostor()
            assert tile.meets or not same.any()
            assert tile.differs == (tile.first[:, None] != tile.second).any()
            compared = np.ones(same.shape, bool) if tile.compared() is None else tile.compared()
            impostor = np.ones(same.shape, bool) if impostor is None else impostor
            assert np.array_equal(same | impostor, compared)
            assert not (same & impostor).any()


def test_results_come_in_order_and_only_a_few_wait():
    waiting, most = 0, 0

    def work(number):
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        return number

    results = []
    for result in tiles.each(range(200), work):
        waiting -= 1
        results.append(result)
    assert results == list(range(200))
    assert most <= 3 * torch.get_num_threads() + 2


def test_an_error_in_a_tile_is_raised_and_the_threads_are_as_before():
    threads = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        list(tiles.each([1, 0], lambda number: 1 / number))
    assert torch.get_num_threads() == threads
