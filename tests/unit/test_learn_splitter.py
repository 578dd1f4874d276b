"""The binned splitter finds the split that River's exhaustive one finds."""

from __future__ import annotations

import random

import pytest
from river import stats
from river.tree.split_criterion import VarianceReductionSplitCriterion
from river.tree.splitter import EBSTSplitter

from mlproxy.learn.splitter import BinnedSplitter

CRITERION = VarianceReductionSplitCriterion(min_samples_split=5)


def fill(seed: int, high: int, *splitters, count: int = 400, low: int = 0):
    rng = random.Random(seed)
    whole = stats.Var()
    for _ in range(count):
        x = rng.randrange(low, high)
        y, w = (9.0 if x > (low + high) // 3 else 2.0) + rng.gauss(0, 1), rng.choice([1.0, 2.0])
        whole.update(y, w)
        for splitter in splitters:
            splitter.update(x, y, w)
    return whole


@pytest.mark.parametrize(("low", "high"), [(0, 2), (0, 7), (-60, 60), (0, 200)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_with_few_values_it_is_exact(seed: int, low: int, high: int) -> None:
    ours, rivers = BinnedSplitter(256), EBSTSplitter()
    whole = fill(seed, high, ours, rivers, low=low)
    one = ours.best_evaluated_split_suggestion(CRITERION, whole, "f", True)
    two = rivers.best_evaluated_split_suggestion(CRITERION, whole, "f", True)
    assert one.split_info == two.split_info
    assert one.merit == pytest.approx(two.merit)
    for mine, his in zip(one.children_stats, two.children_stats, strict=True):
        assert mine.mean.n == pytest.approx(his.mean.n)
        assert mine.mean.get() == pytest.approx(his.mean.get())
        assert mine.get() == pytest.approx(his.get())


def test_with_many_values_it_keeps_its_size_and_stays_close() -> None:
    ours, rivers = BinnedSplitter(64), EBSTSplitter()
    whole = fill(5, 100_000, ours, rivers, count=3000)
    assert 32 <= len(ours) <= 64
    one = ours.best_evaluated_split_suggestion(CRITERION, whole, "f", True)
    two = rivers.best_evaluated_split_suggestion(CRITERION, whole, "f", True)
    assert isinstance(one.split_info, int)
    assert one.split_info == pytest.approx(two.split_info, abs=100_000 / 32)
    assert one.merit == pytest.approx(two.merit, rel=0.1)


def test_one_value_cannot_be_split() -> None:
    ours = BinnedSplitter()
    for _ in range(50):
        ours.update(3, 1.0, 1.0)
    suggestion = ours.best_evaluated_split_suggestion(CRITERION, stats.Var(), "f", True)
    assert suggestion.feature is None


def test_weights_that_are_huge_and_targets_far_from_zero_do_not_cancel() -> None:
    ours = BinnedSplitter()
    whole = stats.Var()
    for number in range(200):
        x, y = number % 2, 1e6 + number % 2 + 0.01 * (number % 7)
        ours.update(x, y, 3.0)
        whole.update(y, 3.0)
    best = ours.best_evaluated_split_suggestion(CRITERION, whole, "f", True)
    assert best.split_info == 0
    assert best.merit == pytest.approx(whole.get(), rel=0.02)
