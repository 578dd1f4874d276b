"""Synthetic write streams: one file as large as the device, single-block writes.

Each stream first writes the whole device once, in order, then goes on as its
name says. Only block history carries information here: there is one file, one
directory, one tenant.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ("SYNTHETIC", "synthetic_blocks")

Blocks = npt.NDArray[np.int32]


def _zipf(rng: np.random.Generator, items: int, count: int, exponent: float) -> Blocks:
    """Draw `count` of `items` ranks with probability ~ rank^-exponent, scattered."""
    weights = np.arange(1, items + 1, dtype=np.float64) ** -exponent
    edges = np.cumsum(weights)
    ranks = np.searchsorted(edges, rng.random(count) * edges[-1])
    place: Blocks = rng.permutation(items).astype(np.int32)
    drawn: Blocks = place[np.minimum(ranks, items - 1)]
    return drawn


def _uniform(rng: np.random.Generator, capacity: int, count: int) -> Blocks:
    return rng.integers(0, capacity, count, dtype=np.int32)


def _hot_cold(rng: np.random.Generator, capacity: int, count: int) -> Blocks:
    """A tenth of the blocks takes nine tenths of the writes."""
    place = rng.permutation(capacity).astype(np.int32)
    hot = capacity // 10
    is_hot = rng.random(count) < 0.9
    index = np.where(is_hot, rng.integers(0, hot, count), rng.integers(hot, capacity, count))
    return place[index]


def _shifting(rng: np.random.Generator, capacity: int, count: int) -> Blocks:
    """A contiguous hot tenth (90% of writes) that moves through the device every 2 capacities."""
    hot = capacity // 10
    start = (np.arange(count, dtype=np.float64) / (2 * capacity) * capacity).astype(np.int64)
    is_hot = rng.random(count) < 0.9
    inside = (start + rng.integers(0, hot, count)) % capacity
    return np.where(is_hot, inside, rng.integers(0, capacity, count)).astype(np.int32)


def _mixed(rng: np.random.Generator, capacity: int, count: int) -> Blocks:
    """A circular log, a zipf region and a cold uniform region side by side."""
    log, skewed = capacity // 4, capacity // 2
    kind = rng.random(count)
    sequential = np.cumsum(kind < 0.4) % log
    zipf = log + _zipf(rng, skewed, count, 0.99)
    cold = rng.integers(log + skewed, capacity, count)
    return np.where(kind < 0.4, sequential, np.where(kind < 0.85, zipf, cold)).astype(np.int32)


def _diurnal(rng: np.random.Generator, capacity: int, count: int) -> Blocks:
    """Days of skewed updates, nights that rewrite a third of the device in order."""
    at = np.arange(count)
    night = (at % (capacity // 2)) >= capacity // 3
    area = capacity // 3
    backup = capacity - area + (np.cumsum(night) % area)
    return np.where(night, backup, _zipf(rng, capacity - area, count, 0.99)).astype(np.int32)


SYNTHETIC: dict[str, Callable[[np.random.Generator, int, int], Blocks]] = {
    "uniform": _uniform,
    "zipf-0.8": lambda rng, capacity, count: _zipf(rng, capacity, count, 0.8),
    "zipf-0.99": lambda rng, capacity, count: _zipf(rng, capacity, count, 0.99),
    "zipf-1.2": lambda rng, capacity, count: _zipf(rng, capacity, count, 1.2),
    "hot-cold": _hot_cold,
    "shifting": _shifting,
    "mixed": _mixed,
    "diurnal": _diurnal,
}


def synthetic_blocks(name: str, *, capacity: int, total: int, seed: int) -> Blocks:
    """Return `total` block numbers in [0, capacity), the first `capacity` in order.

    Args:
        name: a key of `SYNTHETIC`.
        capacity: logical blocks of the store.
        total: block writes to make, at least `capacity`.
        seed: seeds every draw.

    >>> blocks = synthetic_blocks("uniform", capacity=8, total=20, seed=1)
    >>> blocks[:8].tolist(), blocks.shape
    ([0, 1, 2, 3, 4, 5, 6, 7], (20,))
    """
    rng = np.random.default_rng([seed, sorted(SYNTHETIC).index(name)])
    fill = np.arange(capacity, dtype=np.int32)
    return np.concatenate([fill, SYNTHETIC[name](rng, capacity, total - capacity)])
