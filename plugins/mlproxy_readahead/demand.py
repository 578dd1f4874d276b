"""From accesses to what was asked for: bytes, runs, and the shape of it all."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mlproxy_readahead.accesses import CALL, FAULT, MAPPED, Access

__all__ = ("Demand", "DemandMeter")

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
AROUND: Final = max(1, 65_536 // PAGE)
"""Pages that the kernel maps around a fault, when it has them (fault_around_bytes)."""
DEEPEST: Final = max(1, (1 << 20) // PAGE)
"""Pages into a run: farther on all is alike."""
_DEPTHS: Final = [math.log2(max(1, pages * PAGE // 1024)) for pages in range(DEEPEST + 1)]
STREAMS: Final = 4096
"""Readers that are remembered; then the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What programs asked for.

    Attributes:
        accesses: calls and touches of mapped pages.
        mapped: touches of mapped pages among them.
        pages: that were asked for; a page of a run once.
        runs: how often a reader went on somewhere else than where it was.
        depth: sum over the pages of how deep in its run each lies, log2 KiB, up to 10.
    """

    accesses: float = 0
    mapped: float = 0
    pages: float = 0
    runs: float = 0
    depth: float = 0

    def __add__(self, other: Demand) -> Demand:
        return Demand(
            self.accesses + other.accesses,
            self.mapped + other.mapped,
            self.pages + other.pages,
            self.runs + other.runs,
            self.depth + other.depth,
        )

    def scaled(self, factor: float) -> Demand:
        """So many times as much."""
        return Demand(
            self.accesses * factor,
            self.mapped * factor,
            self.pages * factor,
            self.runs * factor,
            self.depth * factor,
        )

    @property
    def asked_bytes(self) -> float:
        """Pages in bytes."""
        return self.pages * PAGE


class _Reader:
    """Where a task is in a file."""

    __slots__ = ("begin", "counted", "end", "owed", "run", "steps", "told", "window")

    def __init__(self) -> None:
        self.begin = -1
        """First page of the latest call."""
        self.end = -1
        """The page after the last one that was asked for."""
        self.window = -2
        """Mapped files: number of the window of pages around the latest touch."""
        self.counted = 0
        """Pages counted of that window."""
        self.steps = 0
        """Mapped files: how often in a row the reader came to the next window."""
        self.owed = 0
        """Pages that it has passed so, not counted yet."""
        self.told = b""
        """What was told last of the latest touch; empty when that is over."""
        self.run = 0
        """Pages of the present run so far."""


class DemandMeter:
    """Counts what accesses ask for. Accesses of one task come in their order."""

    def __init__(self) -> None:
        self._readers: OrderedDict[tuple[bytes, bytes], _Reader] = OrderedDict()
        self._accesses = self._mapped = self._pages = self._runs = 0
        self._depth = 0.0

    def add(self, accesses: Iterable[Access], lost: int = 0) -> Demand:
        """Count accesses.

        Args:
            accesses: in order.
            lost: how many more there were.

        Returns:
            What they asked for; with lost ones, as if those had been like the others.
        """
        self._accesses = self._mapped = self._pages = self._runs = 0
        self._depth = 0.0
        seen = 0
        readers = self._readers
        for kind, task, inode, begin, end in accesses:
            seen += 1
            key = (task, inode)
            reader = readers.get(key)
            if reader is None:
                reader = readers[key] = _Reader()
                if len(readers) > STREAMS:
                    readers.popitem(last=False)
            if kind == CALL:
                self._call(reader, begin // PAGE, end // PAGE)
            else:
                self._touch(reader, begin // PAGE // AROUND, fault=kind == FAULT)
        found = Demand(self._accesses, self._mapped, self._pages, self._runs, self._depth)
        if not lost or not seen:
            return found
        # Where readers are now is not known: what comes next would look like a jump.
        readers.clear()
        return found.scaled((seen + lost) / seen)

    def _count(self, reader: _Reader, pages: int, *, run: bool, mapped: int = 0) -> None:
        self._accesses += 1
        self._mapped += mapped
        self._pages += pages
        self._runs += run
        reader.run = run_so_far = pages if run else reader.run + pages
        if run_so_far < DEEPEST:
            self._depth += pages * _DEPTHS[run_so_far]
        else:
            self._depth += pages * _DEPTHS[DEEPEST]

    def _call(self, reader: _Reader, first: int, last: int) -> None:
        """A read of pages first..last, or the rest of one that came in several steps."""
        end = reader.end
        rest = last + 1 == end and reader.begin < first
        goes_on = reader.begin <= first <= end
        # Two short reads of one page ask for it once.
        pages = max(0, last + 1 - (end if goes_on else first))
        reader.begin = first
        reader.end = last + 1
        if not rest:
            self._count(reader, pages, run=not goes_on)

    def _touch(self, reader: _Reader, window: int, *, fault: bool) -> None:
        """A touch of a mapped page in a window.

        First the kernel maps what it has of the window, and tells of that if it is
        anything (mapped); if the page itself was not there, it is read (fault)
        and mapped (mapped again). So one touch is told up to three times, and touches
        of pages that were mapped along are not told at all. Who comes to the next
        window, and then to the next one again, has read those in between: once alone
        happens by chance, and would count fifteen pages that nobody asked for.
        """
        before, reader.told = reader.told, FAULT if fault else MAPPED
        if window == reader.window:
            if fault and before == MAPPED:
                return
            if not fault and before == FAULT:
                reader.told = b""
                return
            new = reader.counted < AROUND
            reader.counted += new
            self._count(reader, int(new), run=False, mapped=1)
            return
        next_one = window == reader.window + 1
        passed = 0
        if not next_one:
            reader.steps = reader.owed = 0
        else:
            reader.steps += 1
            reader.owed += AROUND - reader.counted
            if reader.steps > 1:
                passed, reader.owed = reader.owed, 0
        reader.window, reader.counted = window, 1
        self._count(reader, passed + 1, run=not next_one, mapped=1)
