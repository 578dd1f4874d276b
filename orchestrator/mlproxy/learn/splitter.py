"""A splitter for integer features that keeps River's trees fast.

River's E-BST splitters keep one tree node per distinct value and copy running
statistics for every value at every attempt to split: with six features of a
few hundred values each, that is nearly all the time a Hoeffding tree takes.
Here values fall into bins, single integers at first and twice as wide whenever
there are too many, and an attempt is a cumulative sum. Same criterion (variance
reduction, sample variances), and a split always lies on an integer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from river import stats
from river.tree.splitter.base import Splitter
from river.tree.utils import BranchFactory

__all__ = ("BinnedSplitter",)


class BinnedSplitter(Splitter):
    """Counts, sums and sums of squares of the target per bin of an integer feature.

    Args:
        bins: so many are kept at most. A feature with fewer values is split
            exactly; with more, neighbours share a bin.
    """

    def __init__(self, bins: int = 256) -> None:
        super().__init__()
        self.bins = bins
        self._shift = 0
        self._bins: dict[int, list[float]] = {}

    @property
    def is_target_class(self) -> bool:
        """For regression."""
        return False

    def update(self, att_val: Any, target_val: Any, w: float) -> None:
        """Count one value."""
        place = att_val >> self._shift
        weighted = w * target_val
        one = self._bins.get(place)
        if one is None:
            self._bins[place] = [w, weighted, weighted * target_val]
            while len(self._bins) > self.bins:
                self._coarsen()
        else:
            one[0] += w
            one[1] += weighted
            one[2] += weighted * target_val

    def _coarsen(self) -> None:
        """Make bins twice as wide."""
        self._shift += 1
        merged: dict[int, list[float]] = {}
        for place, sums in self._bins.items():
            one = merged.setdefault(place >> 1, [0.0, 0.0, 0.0])
            for number, value in enumerate(sums):
                one[number] += value
        self._bins = merged

    def cond_proba(self, att_val: Any, target_val: Any) -> float:
        """Not for regression."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._bins)

    def best_evaluated_split_suggestion(
        self, criterion: Any, pre_split_dist: Any, att_idx: Any, binary_only: bool = True
    ) -> BranchFactory:
        """The border between two bins that reduces the variance most."""
        del pre_split_dist, binary_only
        if len(self._bins) < 2:
            return BranchFactory()
        places = sorted(self._bins)
        table = np.array([self._bins[place] for place in places])
        # Around the mean, so that large targets do not cancel.
        whole = table.sum(axis=0)
        mean = float(whole[1] / whole[0])
        table[:, 2] += mean * (mean * table[:, 0] - 2 * table[:, 1])
        table[:, 1] -= mean * table[:, 0]
        left = np.cumsum(table, axis=0)
        total, left = left[-1], left[:-1]
        right = total - left
        merit = (
            _variance(total[None, :])[0]
            - (left[:, 0] * _variance(left) + right[:, 0] * _variance(right)) / total[0]
        )
        enough = np.minimum(left[:, 0], right[:, 0]) >= criterion.min_samples_split
        merit[~enough] = 0.0
        best = int(np.argmax(merit))
        threshold = ((places[best] + 1) << self._shift) - 1
        children = [_var(side[best], mean) for side in (left, right)]
        return BranchFactory(float(merit[best]), att_idx, threshold, children)


def _variance(sums: Any) -> Any:
    """Sample variances from rows of (n, sum, sum of squares)."""
    count = sums[:, 0]
    squares = sums[:, 2] - sums[:, 1] ** 2 / np.where(count > 0, count, 1.0)
    return np.maximum(squares, 0.0) / np.maximum(count - 1, 1e-9) * (count > 1)


def _var(sums: Any, mean: float) -> stats.Var:
    count = float(sums[0])
    variance = float(_variance(sums[None, :])[0])
    var: stats.Var = stats.Var._from_state(  # noqa: SLF001 - River's own way to make one
        count, mean + float(sums[1]) / count if count else mean, variance
    )
    return var
