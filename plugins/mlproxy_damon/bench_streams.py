"""What the bench's programs are asked to do: operations by seed, in ticks of a fixed number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ("ARCHIVE_SHARE", "Calls", "cached_objects", "key_value", "phases", "zipf")

ARCHIVE_SHARE: Final = 0.0005
"""Of the order service's operations, look-ups of any order in the archive."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Calls:
    """Operations of a run.

    Attributes:
        keys: of all operations, shape (operations,).
        writes: which of them write, shape (operations,).
        starts: index of each tick's first operation, and the end; shape (ticks + 1,).
    """

    keys: Ints
    writes: npt.NDArray[np.bool_]
    starts: Ints

    def tick(self, number: int) -> list[tuple[int, bool]]:
        """The operations of a tick: key, and whether it writes."""
        part = slice(self.starts[number], self.starts[number + 1])
        return list(zip(self.keys[part].tolist(), self.writes[part].tolist(), strict=True))


def zipf(rng: np.random.Generator, count: int, keys: int, exponent: float) -> Ints:
    """Keys by Zipf's law, the popular ones anywhere among them.

    Args:
        rng: of the run.
        count: how many.
        keys: how many there are.
        exponent: of the law.

    Returns:
        Numbers in 0..keys-1, shape (count,).
    """
    weights = np.arange(1, keys + 1, dtype=np.float64) ** -exponent
    cumulated = np.cumsum(weights)
    ranks = np.searchsorted(cumulated, rng.random(count) * cumulated[-1], side="right")
    order = rng.permutation(keys)
    found: Ints = order[np.minimum(ranks, keys - 1)]
    return found


def key_value(seed: int, ticks: int, *, keys: int, per_tick: int) -> Calls:
    """A store in steady use: Zipf 0.99, one operation in ten writes.

    Args:
        seed: of the run.
        ticks: how many.
        keys: how many there are.
        per_tick: operations.
    """
    rng = np.random.default_rng([seed, 1])
    count = ticks * per_tick
    return Calls(
        zipf(rng, count, keys, 0.99),
        rng.random(count) < 0.1,
        np.arange(0, count + 1, per_tick, dtype=np.int64),
    )


def cached_objects(seed: int, ticks: int, *, keys: int, per_tick: int, second: int) -> Calls:
    """A cache that is idle, then busy: nothing for a minute or two, then everybody at once.

    In a busy time the newest seventh of all objects is asked for, each as often as any
    other. The rest is what was never deleted.

    Args:
        seed: of the run.
        ticks: how many.
        keys: how many there are.
        per_tick: operations of a busy tick.
        second: ticks in a second.
    """
    rng = np.random.default_rng([seed, 2])
    hot = keys // 7
    keys_of, starts = [], [0]
    busy, left = True, int(rng.integers(40, 71)) * second
    for _ in range(ticks):
        if left == 0:
            busy = not busy
            low, high = (40, 71) if busy else (60, 121)
            left = int(rng.integers(low, high)) * second
        left -= 1
        if busy:
            keys_of.append(keys - 1 - rng.integers(hot, size=per_tick))
        starts.append(starts[-1] + (per_tick if busy else 0))
    found = np.concatenate(keys_of)
    return Calls(found, rng.random(len(found)) < 0.05, np.array(starts, dtype=np.int64))


def phases(seed: int, ticks: int, *, second: int) -> list[tuple[int, int, int]]:
    """Which partitions an analysis reads in each tick: a new one in each phase of 20 to 40 s.

    A phase goes over the new partition and the one before it, again and again. At its
    beginning it looks once at a piece of an older one.

    Args:
        seed: of the run.
        ticks: how many.
        second: ticks in a second.

    Returns:
        The new partition, the one before, and the older one, or -1 each.

    Example:
        >>> phases(1, 200, second=4)[0], max(one[0] for one in phases(1, 2000, second=4)) > 10
        ((0, -1, -1), True)
    """
    rng = np.random.default_rng([seed, 3])
    found: list[tuple[int, int, int]] = []
    number = 0
    while len(found) < ticks:
        older = int(rng.integers(number - 1)) if number > 1 else -1
        found.append((number, number - 1, older))
        found += [(number, number - 1, -1)] * (int(rng.integers(20, 41)) * second - 1)
        number += 1
    return found[:ticks]
