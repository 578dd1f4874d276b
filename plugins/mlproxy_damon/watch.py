"""The watched program: its processes, DAMON on them, and what it has found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from mlproxy_damon.errors import DamonError
from mlproxy_damon.idle import IdleMap
from mlproxy_damon.kdamond import Kdamond
from mlproxy_damon.options import DamonOptions
from mlproxy_damon.processes import Finder, Process, ProcessTable, Range, largest
from mlproxy_damon.regions import Picture, RegionTrace
from mlproxy_damon.reuse import Resting, Reuse, ReuseCurve

__all__ = ("Change", "Watch")

AGAIN: Final = 1.0
"""Seconds between searches while nothing is watched."""
GROWN: Final = 10.0
"""Seconds between searches for processes that have joined."""
PICTURE: Final = 1.0
WORTH: Final = 1 << 20
"""Bytes mapped or unmapped that are worth a commit."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something happened to the program.

    Attributes:
        what: `target-found`, `target-changed`, `target-gone` or `kdamond-stopped`.
        message: in words.
        code: stable code, where it is a fault.
    """

    what: str
    message: str
    code: str = ""


class Watch:
    """Keeps DAMON on the processes there are.

    DAMON's targets are exchanged by a stop and a start: it would otherwise carry over the
    ages of one process to another, and a commit with a process that has ended stops it.

    Args:
        options: which program.
        kdamond: configured.
        table: /proc.
        find: which processes; None: the machine (paddr).
        trace: of the regions.
    """

    def __init__(
        self,
        options: DamonOptions,
        kdamond: Kdamond,
        table: ProcessTable,
        find: Finder | None,
        trace: RegionTrace,
    ) -> None:
        self.processes: tuple[Process, ...] = ()
        self.on = False
        self.pictures: list[Picture] = []
        """The latest."""
        self._options = options
        self._kdamond = kdamond
        self._table = table
        self._find = find
        self._trace = trace
        self._unit = options.aggregation_ms / 1000
        self._idle: dict[int, IdleMap] = {}
        self._curve = ReuseCurve(options.min_age_seconds)
        self._pictured: float | None = None
        self._ranges: dict[int, list[Range]] = {}
        self._next_search = 0.0
        self._next_picture = 0.0
        self._missing = ""
        self._reclaimed = math.inf

    # -- targets ------------------------------------------------------------------

    def look(self, now: float, *, may_change: bool) -> list[Change]:
        """See which processes there are, and that DAMON is on them.

        Args:
            now: seconds.
            may_change: whether targets may be exchanged now: not while the proxy is about
                to write.

        Raises:
            DamonError: as from `Kdamond.start`; `damon.gone`.
        """
        if not self._kdamond.ours:
            raise DamonError(
                "our kdamond was taken away",
                code="damon.gone",
                hint="somebody has written nr_kdamonds; mlproxy begins anew when DAMON is free",
            )
        died = [p for p in self.processes if not self._table.lives(p)]
        if self.on and self._find is not None and len(died) == len(self.processes):
            return self._lost(now)
        if self.on and not died and not self._kdamond.running:
            self._off()
            return [
                Change("kdamond-stopped", "somebody has switched our kdamond off", "damon.stopped")
            ]
        if not may_change or not (died or now >= self._next_search):
            return []
        return self._search(now, died=bool(died))

    def _lost(self, now: float) -> list[Change]:
        self._off()
        self.processes = ()
        _, why = self._find.pids() if self._find else ([], "")
        self._next_search = now
        self._missing = why or "its processes have ended"
        return [Change("target-gone", self._missing, "damon.target_gone")]

    def _off(self) -> None:
        self.on = False
        self.pictures = []
        self._idle = {}
        self._curve = ReuseCurve(self._options.min_age_seconds)
        self._pictured = None
        self._trace.end()
        self._kdamond.stop()

    def _search(self, now: float, *, died: bool) -> list[Change]:
        self._next_search = now + (GROWN if self.on else AGAIN)
        if self._find is None:
            return [] if self.on else self._begin((), "the machine's memory")
        pids, why = self._find.pids()
        found = tuple(largest(self._table, pids, self._options.least_mib << 20))
        if not found:
            if self.on:
                return self._lost(now)
            self._next_search = now + AGAIN
            if why == self._missing:
                return []
            self._missing = why
            return [Change("target-missing", why or "no process has memory", "damon.no_target")]
        if self.on and not died and set(found) == set(self.processes):
            return []
        numbers = ", ".join(str(p.pid) for p in found)
        return self._begin(found, f"process {numbers}")

    def _begin(self, found: Sequence[Process], words: str) -> list[Change]:
        before = self.processes if self.on else ()
        if self.on:
            self._off()
        self.processes = tuple(found)
        self._ranges = {n: self._table.ranges(p.pid) for n, p in enumerate(found)}
        if not all(self._ranges.values()):
            self.processes = ()
            return []  # one has ended just now: the next search
        try:
            self._kdamond.start([(p.pid, self._ranges[n]) for n, p in enumerate(found)])
        except DamonError as error:
            self.processes = ()
            if error.code != "damon.target":
                raise
            return []  # one has ended just now: the next search
        self.on, self._missing = True, ""
        return [Change("target-changed" if before else "target-found", words)]

    def follow(self) -> bool:
        """Watch what the processes have mapped meanwhile; True: it wants a commit.

        Raises:
            DamonError: as from `Kdamond.set_ranges`.
        """
        changed = False
        for number, process in enumerate(self.processes):
            ranges = self._table.ranges(process.pid)
            if ranges and _far(ranges, self._ranges[number]):
                self._kdamond.set_ranges(number, ranges)
                self._ranges[number] = ranges
                changed = True
        return changed

    def resume(self, now: float) -> None:
        """After `kdamond-stopped`: search again."""
        self._next_search = now

    def close(self) -> None:
        """Switch DAMON off."""
        self._off()

    # -- pictures -----------------------------------------------------------------

    def picture(self, now: float, *, reclaiming: float, samples: float) -> bool:
        """Take pictures; whether there is a new one.

        Args:
            now: seconds.
            reclaiming: age (seconds) from which memory is taken now; infinite: none is.
            samples: in an aggregation.
        """
        self._reclaimed = min(self._reclaimed, reclaiming)
        if not self.on:
            return False
        if now >= self._next_picture:
            self._next_picture = now + PICTURE
            self._trace.begin()
        targets = max(1, len(self.processes))
        pictures = self._trace.read(targets)
        if not pictures:
            return False
        self.pictures = pictures
        rests = []
        for picture in pictures:
            mappings = self._ranges.get(picture.target, [])
            idle = self._idle.setdefault(picture.target, IdleMap(self._unit))
            rests.append(
                idle.update(picture, mappings, now, reclaimed=self._reclaimed, samples=samples)
            )
        if self._pictured is not None:
            self._curve.add(_together(rests), now - self._pictured)
        self._pictured = now
        self._reclaimed = reclaiming
        return True

    def reuse(self) -> tuple[Reuse, ...]:
        """Per age of the options: what is known of memory that has rested for so long."""
        return self._curve.reuse()

    def idle(self, ages: Sequence[float]) -> tuple[float, ...]:
        """Share of the memory that was not used for each of the ages (seconds), 0..1."""
        total = 0
        sums = [0] * len(ages)
        for one in self._idle.values():
            size, found = one.sizes(ages)
            total += size
            sums = [a + b for a, b in zip(sums, found, strict=True)]
        return tuple(s / total if total else 0.0 for s in sums)


def _far(one: Sequence[Range], other: Sequence[Range]) -> bool:
    """Whether ranges differ by what is worth a commit."""
    edges = {edge for ranges in (one, other) for pair in ranges for edge in pair}
    places = sorted(edges)
    differing = 0
    for begin, end in pairwise(places):
        inside = [any(b <= begin < e for b, e in ranges) for ranges in (one, other)]
        differing += (end - begin) * (inside[0] != inside[1])
    return differing >= WORTH


def _together(parts: Sequence[Resting]) -> Resting:
    """Of all targets."""
    return Resting(
        np.concatenate([one.share for one in parts]),
        np.concatenate([one.idle for one in parts]),
        np.concatenate([one.before for one in parts]),
        np.concatenate([one.fresh for one in parts]),
    )
