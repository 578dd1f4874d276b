"""Cuts: which predictions mean which action, stable and ascending.

One-dimensional k-means is solved exactly by dynamic programming over the sorted
values (Wang and Song, "Ckmeans.1d.dp", The R Journal 3/2, 2011): no random
start, the same answer every time. So that the classes do not flutter from
export to export, the old cuts stay until new ones are clearly better.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ("CutsStrategy", "find_cuts", "spread")

CutsStrategy = Literal["kmeans", "quantile", "fixed"]
_BINS = 96

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int32] | npt.NDArray[np.int64]


def _histogram(values: _Ints, weights: _Floats) -> tuple[_Floats, _Floats]:
    """At most `_BINS` distinct values with their weights, ascending."""
    distinct, where = np.unique(values, return_inverse=True)
    if len(distinct) > _BINS:
        low, high = int(distinct[0]), int(distinct[-1])
        distinct = np.arange(_BINS)
        where = np.minimum((values.astype(np.int64) - low) * _BINS // max(1, high - low), _BINS - 1)
    mass: _Floats = np.bincount(where, weights=weights, minlength=len(distinct)).astype(float)
    sums = np.bincount(where, weights=weights * values, minlength=len(distinct))
    filled = mass > 0
    return sums[filled] / mass[filled], mass[filled]


def spread(values: _Ints | _Floats, weights: _Floats, cuts: tuple[int, ...]) -> float:
    """Weighted within-class sum of squares of `values` divided by `cuts`."""
    classes = np.searchsorted(np.asarray(cuts, dtype=np.int64), values, side="left")
    points = values.astype(np.float64) - (float(values.mean()) if len(values) else 0.0)
    count = len(cuts) + 1
    mass = np.bincount(classes, weights=weights, minlength=count)
    sums = np.bincount(classes, weights=weights * points, minlength=count)
    squares = np.bincount(classes, weights=weights * points * points, minlength=count)
    filled = mass > 0
    return float(np.sum(squares[filled] - sums[filled] ** 2 / mass[filled]))


def _kmeans(points: _Floats, mass: _Floats, classes: int) -> list[float]:
    """Midpoints between neighbouring class means of the best partition."""
    count = len(points)
    centred = points - points.mean()
    # Prefix sums: cost of one class over points i..j in O(1).
    weight = np.concatenate(([0.0], np.cumsum(mass)))
    first = np.concatenate(([0.0], np.cumsum(mass * centred)))
    second = np.concatenate(([0.0], np.cumsum(mass * centred**2)))
    span = weight[None, 1:] - weight[:-1, None]
    lower = np.tril(np.ones((count, count), dtype=bool), -1)
    span[lower] = 1.0
    cost = (second[None, 1:] - second[:-1, None]) - (first[None, 1:] - first[:-1, None]) ** 2 / span
    cost[lower] = np.inf
    best = cost[0].copy()
    came: list[npt.NDArray[np.intp]] = []
    for _ in range(1, classes):
        total = np.full((count, count), np.inf)
        total[1:] = best[:-1, None] + cost[1:]
        start = np.argmin(total, axis=0)
        best = total[start, np.arange(count)]
        came.append(start)
    end, borders = count - 1, []
    for start in reversed(came):
        border = int(start[end])
        borders.append(border)
        end = border - 1
    edges = [0, *reversed(borders), count]
    means = [float(np.average(points[a:b], weights=mass[a:b])) for a, b in pairwise(edges)]
    return [(a + b) / 2 for a, b in pairwise(means)]


def _quantile(points: _Floats, mass: _Floats, classes: int) -> list[float]:
    """Cuts that give every class about the same weight."""
    share = np.cumsum(mass) / mass.sum()
    places = [
        min(int(np.searchsorted(share, k / classes)), len(points) - 2) for k in range(1, classes)
    ]
    return [float(points[place] + points[place + 1]) / 2 for place in places]


def find_cuts(
    values: _Ints,
    weights: _Floats,
    classes: int,
    old: tuple[int, ...] = (),
    *,
    strategy: CutsStrategy = "kmeans",
    hysteresis: float = 0.05,
) -> tuple[int, ...]:
    """Divide predicted values into `classes` actions.

    Args:
        values: predictions in fixed point, as a program computes them, shape (n,).
        weights: how often each occurs, shape (n,), at least 0.
        classes: number of actions; the answer has one cut fewer.
        old: the cuts in force; returned unchanged unless the new ones lower
            the within-class sum of squares by more than `hysteresis`.
        strategy: `kmeans`, `quantile` (equal shares) or `fixed` (keep `old`).
        hysteresis: relative; 0 always takes the new cuts.

    Returns:
        Strictly ascending cuts; a value above exactly k of them means action k.
        When there are fewer distinct values than classes the surplus cuts lie
        above all values, so the highest actions are not used.

    >>> find_cuts(np.array([0, 1, 10, 11, 50]), np.ones(5), 3)
    (5, 30)
    """
    if classes < 2:
        return ()
    if strategy == "fixed" or not len(values) or not weights.sum() > 0:
        return old
    points, mass = _histogram(values, weights)
    used = min(classes, len(points))
    if used < 2:
        raw: list[float] = []
    elif strategy == "quantile":
        raw = _quantile(points, mass, used)
    else:
        raw = _kmeans(points, mass, used)
    fresh = [int(np.floor(cut)) for cut in raw]
    top = int(values.max())
    while len(fresh) < classes - 1:
        fresh.append(max(top, fresh[-1] if fresh else top) + 1)
    for place in range(1, len(fresh)):
        fresh[place] = max(fresh[place], fresh[place - 1] + 1)
    new = tuple(fresh)
    if len(old) == len(new) and strategy == "kmeans":
        before, after = spread(points, mass, old), spread(points, mass, new)
        if after >= before * (1 - hysteresis):
            return old
    return new
