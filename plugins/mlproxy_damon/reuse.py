"""How often memory is used again after it has rested: what reclaim would cost, seen beforehand.

If all that has rested for an age were taken out, each use after a longer rest would be a
fault. So the faults of every age can be counted while nothing is taken at all. That is the
working-set model (Denning, The working set model for program behavior, CACM 1968): the rate of
misses as a function of the window.

Memory that has never been used since it is watched is one thing, memory that was used and now
rests is another: an idle program looks as if it would never use anything again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mlproxy_damon.processes import PAGE

__all__ = ("BLOCK", "Resting", "Reuse", "ReuseCurve")

BLOCK: Final = 1 << 16
"""Bytes of address space of which one time of the last use is kept."""
PAGES: Final = BLOCK // PAGE
HALF_LIFE: Final = 300.0
"""Seconds after which what was seen weighs half."""
LEAST: Final = 5.0
"""Seconds in which a rest of an age could have ended, before anything is said of it ..."""
LEAST_SHARE: Final = 0.5
"""... and this share of the age."""
OVER: Final = 4.0
"""A rest so many times an age counts as one that does not end."""
PRIOR_BLOCKS: Final = 16.0
"""Rests of each kind that are taken as seen: half of what was once used comes back."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Resting:
    """What one look at the memory has shown, per block.

    Attributes:
        share: part of it that was used since the last look, as far as DAMON can tell.
        idle: seconds without a use.
        before: the same at the last look; NaN: it was not there.
        fresh: whether no use had been seen until then.
    """

    share: Floats
    idle: Floats
    before: Floats
    fresh: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Reuse:
    """What is known of memory after a rest of one age.

    Attributes:
        rate: pages in a second that are used after such a rest; infinite: not known yet.
        unused: pages that have rested so long and were never used.
        once: pages of all ages that were used.
        hazard: share of the unused that are used in a second.
        back: share of what was used, and has rested so long, that will be used again.
    """

    rate: float = 0.0
    unused: float = 0.0
    once: float = 0.0
    hazard: float = 0.0
    back: float = 0.0


class ReuseCurve:
    """Counts uses after a rest, by age.

    Args:
        ages: seconds, ascending.
    """

    def __init__(self, ages: Sequence[float]) -> None:
        self._ages = np.array(ages, float)
        nothing = np.zeros(len(ages))
        self._used, self._seconds = nothing.copy(), nothing.copy()
        self._ended, self._lasting = nothing.copy(), nothing.copy()
        self._first, self._exposed = nothing.copy(), nothing.copy()
        self._unused = nothing.copy()
        self._once = 0.0
        self._watched = 0.0

    def add(self, seen: Resting, elapsed: float) -> None:
        """Take note of a look.

        Args:
            seen: what it has shown.
            elapsed: seconds since the last one.
        """
        ages = self._ages
        fade = math.exp2(-elapsed / HALF_LIFE)
        idle, earlier = seen.idle[:, None], seen.before[:, None]
        rested = earlier + elapsed - idle >= ages
        ended = seen.share @ rested
        self._used = self._used * fade + PAGES * ended
        # A rest of an age can only end when it has been watched for so long.
        before, self._watched = self._watched, self._watched + elapsed
        could = np.clip(self._watched - np.maximum(ages, before), 0.0, elapsed)
        self._seconds = self._seconds * fade + could
        self._ended = self._ended * fade + ended
        over = OVER * ages
        lasting = (idle >= over) & (earlier < over) & ~seen.fresh[:, None]
        self._lasting = self._lasting * fade + lasting.sum(axis=0)
        fresh = seen.fresh & (seen.share == 0)
        self._unused = PAGES * ((idle >= ages) & fresh[:, None]).sum(axis=0).astype(float)
        self._once = float(PAGES * np.count_nonzero(~fresh))
        self._exposed = self._exposed * fade + self._unused * elapsed
        self._first = self._first * fade + PAGES * ((seen.share * seen.fresh) @ rested)

    def reuse(self) -> tuple[Reuse, ...]:
        """What is known, per age.

        Pages are those of whole blocks: of a block of which one page was used, all.
        """
        known = self._seconds >= np.maximum(LEAST, LEAST_SHARE * self._ages)
        rates = np.where(known, self._used / np.maximum(self._seconds, 1e-9), np.inf)
        hazards = (self._first + 0.5) / np.maximum(self._exposed, 1.0)
        back = (self._ended + PRIOR_BLOCKS) / (self._ended + self._lasting + 2 * PRIOR_BLOCKS)
        once = np.full(len(rates), self._once)
        return tuple(
            Reuse(*map(float, row))
            for row in zip(rates, self._unused, once, np.minimum(1.0, hazards), back, strict=True)
        )
