"""Combined methods: cosines that are means, choices that are the chosen templates, errors that name what differs."""

import math

import numpy as np
import pytest

from maskinv_lib.networks.combining import choose_by_mask, combined, concatenate
from maskinv_lib.study.data import HOWS


def templates(count, size, seed, dtype=np.float32):
    values = np.random.default_rng(seed).normal(size=(count, size))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(dtype)


def benchmark(size, seed):
    """Templates by mask kinds; a benchmark may hold other numbers of them per kind."""
    return {"none": templates(5, size, seed), "seen": templates(8, size, seed + 1), "unseen": templates(8, size, 2)}


def worn():
    return {"none": np.zeros(5, bool), "seen": np.ones(8, bool), "unseen": np.arange(8) % 2 == 0}


# Concatenation


@pytest.mark.parametrize("widths", [(6,), (6, 6), (4, 8, 3)])
def test_the_cosine_is_the_mean_of_the_parts_cosines(widths):
    parts = [templates(7, width, seed) for seed, width in enumerate(widths)]
    joined = concatenate(parts)
    assert joined.shape == (7, sum(widths)) and joined.dtype == np.float32
    for i in range(7):
        assert math.sqrt(sum(x * x for x in joined[i].tolist())) == pytest.approx(1.0, abs=1e-6)
        for j in range(7):
            cosines = [sum(x * y for x, y in zip(p[i].tolist(), p[j].tolist(), strict=True)) for p in parts]
            combined_cosine = sum(x * y for x, y in zip(joined[i].tolist(), joined[j].tolist(), strict=True))
            assert combined_cosine == pytest.approx(sum(cosines) / len(cosines), abs=1e-6)


def test_parts_keep_their_order_and_are_not_changed():
    first, second = templates(3, 4, 0, np.float64), templates(3, 2, 1)
    kept = first.copy()
    joined = concatenate([first, second])
    assert np.allclose(joined[:, :4], first / math.sqrt(2)) and np.allclose(joined[:, 4:], second / math.sqrt(2))
    assert np.array_equal(first, kept)
    assert concatenate([first[:0], second[:0]]).shape == (0, 6)


@pytest.mark.parametrize(
    "parts, words",
    [
        ([], "no templates to concatenate"),
        ([templates(3, 4, 0), templates(2, 4, 0)], "Method 1 has 2 templates and method 0 has 3"),
        ([templates(3, 4, 0), 2 * templates(3, 4, 0)], "3 of 3 templates of method 1 are not of length 1, the first 2"),
        (
            [templates(3, 4, 0) * [[1], [np.nan], [0]]],
            "2 of 3 templates of method 0 are not of length 1, the first",
        ),
        ([templates(3, 4, 0)[0]], r"float array \[N, D\], not float32 \[4\]"),
        ([np.eye(3, dtype=int)], r"not int64 \[3, 3\]"),
        ([[[1.0, 0.0]]], "not list"),
    ],
)
def test_concatenating_refuses_what_does_not_fit(parts, words):
    with pytest.raises(ValueError, match=words):
        concatenate(parts)


# Choice


def test_each_face_gets_the_template_of_its_method():
    unmasked, masked = templates(6, 4, 0), templates(6, 4, 1)
    wears = np.array([False, True, True, False, False, True])
    chosen = choose_by_mask(unmasked, masked, wears)
    assert chosen.dtype == np.float32 and chosen.shape == (6, 4)
    for row, (yes, a, b) in zip(chosen, zip(wears, unmasked, masked, strict=True), strict=True):
        assert np.array_equal(row, b if yes else a)
    assert np.array_equal(choose_by_mask(unmasked, masked, np.zeros(6, bool)), unmasked)
    assert np.array_equal(choose_by_mask(unmasked, masked, ~wears), choose_by_mask(masked, unmasked, wears))
    assert np.array_equal(choose_by_mask(unmasked, unmasked, wears), unmasked)


@pytest.mark.parametrize(
    "masked, wears, words",
    [
        (templates(3, 5, 0), np.ones(3, bool), r"\[3, 4\] for unmasked faces, \[3, 5\] for masked"),
        (templates(2, 4, 0), np.ones(3, bool), r"\[3, 4\] for unmasked faces, \[2, 4\] for masked"),
        (templates(3, 4, 0), np.ones(2, bool), r"wears must be bool \[3\].*bool \[2\]"),
        (templates(3, 4, 0), np.ones(3), r"wears must be bool \[3\].*float64 \[3\]"),
        (templates(3, 4, 0), np.ones((3, 1), bool), r"bool \[3, 1\]"),
        (templates(3, 4, 0)[0], np.ones(3, bool), "the method for masked faces"),
    ],
)
def test_choosing_refuses_what_does_not_fit(masked, wears, words):
    with pytest.raises(ValueError, match=words):
        choose_by_mask(templates(3, 4, 0), masked, wears)


# All mask kinds of a benchmark


def test_concatenation_goes_kind_by_kind():
    parts = [benchmark(4, 10), benchmark(6, 20), benchmark(3, 30)]
    for results in (combined("concatenate", parts), combined("concatenate", parts, worn())):
        assert list(results) == ["none", "seen", "unseen"]
        assert all(np.array_equal(results[kinds], concatenate([part[kinds] for part in parts])) for kinds in results)
        assert results["seen"].shape == (8, 13)


@pytest.mark.parametrize("how", HOWS[1:])
def test_a_choice_goes_kind_by_kind(how):
    unmasked, masked = benchmark(4, 10), benchmark(4, 20)
    results = combined(how, [unmasked, masked], worn())
    assert np.array_equal(results["none"], unmasked["none"]) and np.array_equal(results["seen"], masked["seen"])
    assert np.array_equal(results["unseen"][::2], masked["unseen"][::2])
    assert np.array_equal(results["unseen"][1::2], unmasked["unseen"][1::2])


def without(kinds):
    return {name: value for name, value in benchmark(4, 10).items() if name != kinds}


@pytest.mark.parametrize(
    "how, parts, wears, words",
    [
        ("concatenat", [benchmark(4, 0)], None, "Did you mean 'concatenate'"),
        ("concatenate", [], None, "nothing to combine"),
        ("concatenate", [benchmark(4, 0), without("seen")], None, r"method 1 lacks \['seen'\]"),
        ("concatenate", [without("seen"), benchmark(4, 0)], None, r"method 1 alone has \['seen'\]"),
        ("by true mask", [benchmark(4, 0)] * 3, worn(), "takes two methods.*not 3"),
        ("by true mask", [benchmark(4, 0)] * 2, None, "wears is None"),
        ("by predicted mask", [benchmark(4, 0)] * 2, {"none": np.ones(5, bool)}, r"wears lacks \['seen', 'unseen'\]"),
        ("by true mask", [benchmark(4, 0), benchmark(5, 0)], worn(), "Mask kinds 'none': .* one shape"),
    ],
)
def test_combining_refuses_what_does_not_fit(how, parts, wears, words):
    with pytest.raises(ValueError, match=words):
        combined(how, parts, wears)
