"""For how long each part of a program's memory has not been used.

DAMON's own ages begin anew whenever a scheme was applied to a region, so times of
the last access are kept here, by block of addresses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlproxy_damon.regions import Picture
from mlproxy_damon.reuse import BLOCK, Resting

__all__ = ("IdleMap", "within")


def within(
    regions: npt.NDArray[np.uint64], mappings: Sequence[tuple[int, int]]
) -> npt.NDArray[np.uint64]:
    """The parts of regions that are mapped: DAMON's reach over the holes between.

    Args:
        regions: shape [n, 4], ascending.
        mappings: address ranges, ascending.

    Returns:
        The same columns, more rows.
    """
    rows = []
    at = 0
    for begin, end, accesses, age in regions.tolist():
        while at < len(mappings) and mappings[at][1] <= begin:
            at += 1
        look = at
        while look < len(mappings) and mappings[look][0] < end:
            rows.append((max(begin, mappings[look][0]), min(end, mappings[look][1]), accesses, age))
            look += 1
    return np.array(rows, np.uint64).reshape(-1, 4)


class IdleMap:
    """Times of last access of one target, by block.

    Args:
        aggregation_seconds: DAMON's unit of age.
    """

    def __init__(self, aggregation_seconds: float) -> None:
        self._unit = aggregation_seconds
        self._starts: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._used: npt.NDArray[np.float64] = np.zeros(0)
        self._touched: npt.NDArray[np.bool_] = np.zeros(0, bool)
        self._seen = 0.0

    def update(
        self,
        picture: Picture,
        mappings: Sequence[tuple[int, int]],
        now: float,
        *,
        reclaimed: float,
        samples: float,
    ) -> Resting:
        """Take note of a picture.

        Args:
            picture: of this target.
            mappings: what the process has mapped; empty: all (paddr).
            now: seconds.
            reclaimed: youngest age (seconds) that a scheme in force since the last picture
                took; infinite: none.
            samples: in an aggregation; of a region in which some found an access, such a
                share is taken to have been used.

        Returns:
            What has been used since the last picture, and what rests.
        """
        rows = within(picture.regions, mappings) if mappings else picture.regions
        parts, used, shares = [], [], []
        for begin, end, accesses, age in rows.tolist():
            blocks = np.arange(begin // BLOCK, -(-end // BLOCK), dtype=np.uint64)
            parts.append(blocks)
            # An age counts whole aggregations; the latest use was in the one before.
            last = now if accesses else now - (age + 1) * self._unit
            used.append(np.full(len(blocks), last))
            shares.append(np.full(len(blocks), min(1.0, max(1, accesses) / samples)))
        if not parts:
            nothing = np.zeros(0)
            return Resting(nothing, nothing, nothing, np.zeros(0, bool))
        starts, when, share = (np.concatenate(part) for part in (parts, used, shares))
        order = np.argsort(starts, kind="stable")
        starts, when, share = starts[order], when[order], share[order]
        # A block that two regions share was used when one of them was.
        first = np.flatnonzero(np.r_[True, starts[1:] != starts[:-1]])
        starts, when = starts[first], np.maximum.reduceat(when, first)
        share = np.maximum.reduceat(share, first)
        return self._merge(starts, when, share, now, reclaimed=reclaimed)

    def _merge(
        self,
        starts: npt.NDArray[np.uint64],
        when: npt.NDArray[np.float64],
        share: npt.NDArray[np.float64],
        now: float,
        *,
        reclaimed: float,
    ) -> Resting:
        rested = np.full(len(starts), np.nan)
        touched = used = np.zeros(len(starts), bool)
        if len(self._starts):
            at = np.minimum(np.searchsorted(self._starts, starts), len(self._starts) - 1)
            known = self._starts[at] == starts
            before = np.where(known, self._used[at], when)
            # Young again without an access, since the last picture: it was used in an
            # aggregation that was not looked at; or, if it was old enough for that, a
            # scheme was applied to it.
            again = (when > self._seen) & (when - before < reclaimed)
            when = np.where((when < now) & ~again, np.minimum(before, when), when)
            used = known & (when > self._seen)
            rested = np.where(known, self._seen - before, np.nan)
            touched = known & self._touched[at]
        self._starts, self._used, self._seen = starts, when, now
        self._touched = touched | used
        return Resting(np.where(used, share, 0.0), now - when, rested, ~touched)

    def sizes(self, ages: Sequence[float]) -> tuple[int, list[int]]:
        """How large it all is, and how much has not been used for each age.

        Args:
            ages: seconds.

        Returns:
            Bytes in all, bytes per age.
        """
        idle = self._seen - self._used
        return len(idle) * BLOCK, [int(np.count_nonzero(idle >= age)) * BLOCK for age in ages]
