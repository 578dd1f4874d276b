"""How many major faults reclaim has cost, and how many it may still cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from mlproxy_damon.processes import PAGE

__all__ = ("FaultBudget", "Stretch", "pages")

HALF_LIFE: Final = 600.0
"""Seconds after which what was counted weighs half."""
RESERVE: Final = 0.8
"""Share of what is allowed that is spent: what was taken out comes back later."""
HORIZON: Final = 60.0
"""Seconds of allowance that a debt is compared with."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What happened in a stretch of time.

    Attributes:
        seconds: its length.
        work: units of work done.
        faults: major faults.
        refaults: pages that had been reclaimed and came back.
        pages: of the program, in memory or out.
    """

    seconds: float
    work: float
    faults: float
    refaults: float
    pages: float


class FaultBudget:
    """An account: what the bound allows is put in, each fault beyond the usual is taken out.

    A page that reclaim has taken and that is wanted again is counted by the kernel as a
    refault, so the faults that reclaim costs are known one by one and need not be
    guessed from a rate that is a little higher than it was. A refault that came along
    with another one (read-ahead of swap) is none: there are never more than major faults.

    Args:
        more_faults: see the options, as for the two others.
        faults_per_work: ...
        percent_per_minute: ...
    """

    def __init__(
        self, more_faults: float, faults_per_work: float, percent_per_minute: float
    ) -> None:
        self._more = more_faults
        self._per_work = faults_per_work
        self._per_second = percent_per_minute / 100 / 60
        self._usual_faults = self._work = 0.0
        self._usual_refaults = self._seconds = 0.0
        self._recent_allowed = 0.0
        self.rate = 0.0
        """Faults in a second that are allowed now."""
        self.headroom = 0.0
        """Faults that may still be caused; below zero: a debt."""
        self.excess = self.allowed = 0.0
        """Sums since the beginning."""

    @property
    def usual_rate(self) -> float:
        """Major faults per unit of work that are not our doing."""
        return self._usual_faults / self._work if self._work else 0.0

    def credit(self, faults: float, pages: float) -> None:
        """Open the account: with what the program has cost so far, and a minute in advance.

        Args:
            faults: major faults of its life until now.
            pages: that it has.
        """
        self.headroom += RESERVE * (self._more * faults + 60 * self._per_second * pages)

    @property
    def spendable(self) -> float:
        """Faults in a second that may come: those allowed, and a ten minutes' part of the rest."""
        return self.rate + max(0.0, self.headroom) / HALF_LIFE

    def baseline(self, stretch: Stretch) -> None:
        """Take note of a stretch in which nothing was or had been reclaimed by a model."""
        self._add_usual(stretch, stretch.faults)
        self._usual_refaults += stretch.refaults
        self._seconds += stretch.seconds
        self._allow(stretch)

    def add(self, stretch: Stretch) -> tuple[float, float]:
        """Take note of any later stretch.

        Returns:
            Faults that reclaim has cost in it, and those it was allowed.
        """
        usual = self._usual_refaults / self._seconds * stretch.seconds if self._seconds else 0.0
        excess = min(max(0.0, stretch.refaults - usual), stretch.faults)
        self._add_usual(stretch, stretch.faults - excess)
        allowed = self._allow(stretch)
        self.excess += excess
        self.headroom -= excess
        return excess, allowed

    def _add_usual(self, stretch: Stretch, faults: float) -> None:
        fade = math.exp2(-stretch.seconds / HALF_LIFE)
        self._usual_faults = self._usual_faults * fade + faults
        self._work = self._work * fade + stretch.work

    def _allow(self, stretch: Stretch) -> float:
        allowed = RESERVE * max(
            self._more * self.usual_rate * stretch.work,
            self._per_work * stretch.work,
            self._per_second * stretch.pages * stretch.seconds,
        )
        fade = math.exp(-stretch.seconds / HORIZON)
        if stretch.seconds > 0:
            self.rate += (allowed / stretch.seconds - self.rate) * (1 - fade)
        self._recent_allowed = self._recent_allowed * fade + allowed
        self.allowed += allowed
        # What was not spent long ago is no leave for a burst now.
        most = max(self.headroom, self._recent_allowed * HALF_LIFE / HORIZON)
        self.headroom = min(self.headroom + allowed, most)
        return allowed

    def penalty(self, excess: float) -> float:
        """What faults cost that the account could not pay, 0 (none) to 1 (a minute's allowance).

        Each is charged once: whoever is in debt and takes nothing does no harm.

        Args:
            excess: faults that reclaim has cost in a window, as `add` gave them.
        """
        unpaid = min(excess, max(0.0, -self.headroom))
        return min(1.0, unpaid / (self._recent_allowed + 5.0))


def pages(size: float) -> float:
    """Bytes in pages."""
    return size / PAGE
