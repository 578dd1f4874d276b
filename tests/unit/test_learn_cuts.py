"""Cuts: the best partition, ascending, and steady."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproxy.learn.cuts import find_cuts, spread


def brute_force(values: np.ndarray, classes: int) -> float:
    """The smallest within-class sum of squares over all partitions."""
    distinct = sorted(set(values.tolist()))
    return min(
        spread(values, np.ones(len(values)), cuts)
        for cuts in itertools.combinations(distinct[:-1], classes - 1)
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-40, 40), min_size=6, max_size=14, unique=True), st.integers(2, 4))
def test_kmeans_finds_the_best_partition(numbers: list[int], classes: int) -> None:
    values = np.array(numbers) * 1000
    cuts = find_cuts(values, np.ones(len(values)), classes)
    assert spread(values, np.ones(len(values)), cuts) == pytest.approx(brute_force(values, classes))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-(1 << 27), 1 << 27), min_size=1, max_size=300),
    st.integers(1, 9),
    st.sampled_from(["kmeans", "quantile"]),
)
def test_cuts_are_strictly_ascending_and_as_many_as_asked(
    numbers: list[int], classes: int, strategy: str
) -> None:
    values = np.array(numbers)
    cuts = find_cuts(values, np.ones(len(values)), classes, strategy=strategy)
    assert len(cuts) == classes - 1
    assert all(a < b for a, b in itertools.pairwise(cuts))


def test_weights_count_as_occurrences() -> None:
    values = np.array([0, 10, 20, 30])
    heavy_left = find_cuts(values, np.array([100.0, 100.0, 1.0, 1.0]), 2)
    repeated = np.repeat(values, [100, 100, 1, 1])
    assert heavy_left == find_cuts(repeated, np.ones(len(repeated)), 2)
    assert heavy_left != find_cuts(values, np.array([1.0, 1.0, 100.0, 100.0]), 2)


def test_fewer_values_than_classes_leave_the_highest_classes_empty() -> None:
    cuts = find_cuts(np.array([5, 5, 90]), np.ones(3), 4)
    assert [sum(value > cut for cut in cuts) for value in (5, 90)] == [0, 1]
    constant = find_cuts(np.array([5, 5]), np.ones(2), 3)
    assert all(cut > 5 for cut in constant)


def test_old_cuts_stay_until_new_ones_are_clearly_better() -> None:
    rng = np.random.default_rng(1)
    base = np.concatenate([rng.normal(m, 300, 400) for m in (0, 10_000, 30_000)]).astype(int)
    ones = np.ones(len(base))
    first = find_cuts(base, ones, 3)
    for _ in range(20):
        jittered = base + rng.integers(-100, 100, len(base))
        assert find_cuts(jittered, ones, 3, first) == first
    moved = find_cuts(base * 2, ones, 3, first)
    assert moved != first
    assert spread(base * 2, ones, moved) < spread(base * 2, ones, first)


def test_fixed_keeps_the_old_and_one_class_needs_none() -> None:
    values = np.array([1, 2, 3])
    assert find_cuts(values, np.ones(3), 3, (7, 9), strategy="fixed") == (7, 9)
    assert find_cuts(values, np.ones(3), 1) == ()


def test_quantiles_share_out_evenly() -> None:
    values = np.arange(90)
    cuts = find_cuts(values, np.ones(90), 3, strategy="quantile")
    counts = np.bincount(np.searchsorted(np.array(cuts), values, side="left"))
    assert counts.tolist() == pytest.approx([30, 30, 30], abs=2)


def test_without_occurrences_nothing_moves() -> None:
    assert find_cuts(np.array([], dtype=int), np.array([]), 3, (1, 2)) == (1, 2)
    assert find_cuts(np.array([4]), np.array([0.0]), 3, (1, 2)) == (1, 2)
