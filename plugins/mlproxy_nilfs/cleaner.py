"""The cleaner: when to clean, and cleaning what was chosen. It works without any model."""

from __future__ import annotations

import ctypes
import fcntl
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from mlproxy_nilfs.arms import scores
from mlproxy_nilfs.gclib import GcLibrary, Reclaimed
from mlproxy_nilfs.options import NilfsOptions
from mlproxy_nilfs.pool import Floats, Pool
from mlproxy_nilfs.tracker import Tracker
from mlproxy_nilfs.volume import ACTIVE, DIRTY, ERROR, SegmentStat, Volume

__all__ = ("Cleaner", "Pace", "Refusal", "Totals", "refusal")

Score = Callable[[Pool, Floats], Floats]
_LOOKED_AT: Final = 2
"""So many times as many segments as are wanted are looked at closely."""
_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878

Refusal = str
"""Why a segment must stay: `out-of-range`, `twice`, `current`, `pinned`, `free`, `bad`."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How eagerly to clean now.

    Attributes:
        clean: whether to clean at all.
        segments: at a time.
        seconds: until the next time.
        least_dead: blocks that a segment must give.
    """

    clean: bool
    segments: int
    seconds: float
    least_dead: int


@dataclass(slots=True)
class Totals:
    """What was done since the start; blocks unless said otherwise."""

    segments: int = 0
    copied: int = 0
    dead: int = 0
    reclaims: int = 0
    deferred: int = 0
    refused: Counter[Refusal] = field(default_factory=Counter)


def refusal(
    segments: Sequence[int], flags: Sequence[int], pinned: Callable[[int], bool]
) -> tuple[int, Refusal] | None:
    """The first segment that must not be cleaned, and why.

    Args:
        segments: what is recommended.
        flags: of all segments, fresh.
        pinned: whether the kernel still needs a segment to recover from a crash, or its
            time of protection is not over.

    >>> refusal([1, 9], [2, 2], lambda s: False)
    (9, 'out-of-range')
    >>> [refusal([0], [f], lambda s: False) for f in (2, 3, 0, 6)]
    [None, (0, 'current'), (0, 'free'), (0, 'bad')]
    """
    seen: set[int] = set()
    for segment in segments:
        if not 0 <= segment < len(flags):
            return segment, "out-of-range"
        if segment in seen:
            return segment, "twice"
        seen.add(segment)
        flag = int(flags[segment])
        if flag & ACTIVE:
            return segment, "current"
        if not flag & DIRTY:
            return segment, "free"
        if flag & ERROR:
            return segment, "bad"
        if pinned(segment):
            return segment, "pinned"
    return None


class Cleaner:
    """Cleans a file system.

    Args:
        volume: the file system.
        library: libnilfsgc, opened on it.
        tracker: follows it.
        options: when and how much.
        clock: seconds of the wall, as the file system notes them.
    """

    def __init__(
        self,
        volume: Volume,
        library: GcLibrary,
        tracker: Tracker,
        options: NilfsOptions,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._volume = volume
        self._library = library
        self._tracker = tracker
        self._options = options
        self._clock = clock
        self._running = False
        self._kept: Floats = np.zeros(volume.geometry.segments)
        self._stuck = 0
        self.totals = Totals()

    # -- when -------------------------------------------------------------------

    def pace(self, stat: SegmentStat) -> Pace:
        """Whether to clean, as nilfs_cleanerd decides it."""
        options, shape = self._options, self._volume.geometry
        low = stat.segments * options.min_clean_percent / 100 + shape.reserved_segments
        high = stat.segments * options.max_clean_percent / 100 + shape.reserved_segments
        if self._running:
            self._running = stat.clean <= high
        else:
            self._running = stat.clean < low
        hurry = stat.clean < low
        percent = options.min_reclaimable_percent_low if hurry else options.min_reclaimable_percent
        return Pace(
            self._running,
            options.segments_per_clean_low if hurry else options.segments_per_clean,
            options.interval_seconds_low if hurry else options.interval_seconds,
            -(-shape.segment_blocks * round(100 * percent) // 10_000),
        )

    def critical(self, stat: SegmentStat) -> bool:
        """Whether nearly nothing is left but what the kernel reserves for cleaning."""
        return stat.clean <= self._volume.geometry.reserved_segments // 2

    # -- what ---------------------------------------------------------------------

    def pinned(self, stat: SegmentStat) -> Callable[[int], bool]:
        """Tells whether a segment must stay for a while."""
        youngest = self._clock() - self._options.protection_seconds
        lastmod, sequence = self._tracker.usage["lastmod"], self._tracker.sequence

        def is_pinned(segment: int) -> bool:
            needed = stat.protected_sequence
            return bool(lastmod[segment] > youngest) or 0 < needed <= sequence(segment)

        return is_pinned

    def _candidates(self, stat: SegmentStat) -> list[int]:
        flags, pinned = self._tracker.usage["flags"], self.pinned(stat)
        fine = np.flatnonzero((flags & DIRTY != 0) & (flags & (ACTIVE | ERROR) == 0))
        return [segment for segment in fine.tolist() if not pinned(segment)]

    def by_default(self, stat: SegmentStat, count: int) -> list[int]:
        """What the default would clean, best first."""
        if self._options.default == "timestamp":
            lastmod = self._tracker.usage["lastmod"]
            found = self._candidates(stat)
            found.sort(key=lambda segment: (int(lastmod[segment]), segment))
            return found[:count]
        return self.by_score(
            stat, count, lambda pool, live: scores(self._options.default, pool, live)
        )

    def by_score(self, stat: SegmentStat, count: int, score: Score) -> list[int]:
        """The `count` segments with the highest scores, the best looked at closely.

        What the tracker counts as dead may still belong to a snapshot or a protected
        checkpoint; the library knows. What it says of a segment is remembered.
        """
        pool, share = self._tracker.pool, self._tracker.share
        candidates = self._candidates(stat)
        if not candidates:
            return []
        estimate = pool.live()
        live = estimate + self._kept / share
        found = score(pool, live)
        best = sorted(candidates, key=lambda s: (-found[s], s))[: count * _LOOKED_AT]
        checkpoint = self._library.checkpoint_at(self._youngest())
        for segment in best:
            seen = self._library.assess(
                [segment],
                protected_sequence=stat.protected_sequence,
                protected_checkpoint=checkpoint,
            )
            exact = seen.live if seen.cleaned else self._volume.geometry.segment_blocks
            self._kept[segment] = max(0.0, exact - estimate[segment] * share)
            live[segment] = exact / share
        found = score(pool, live)
        best.sort(key=lambda s: (-found[s], s))
        return best[:count]

    def _youngest(self) -> int:
        return max(0, int(self._clock()) - self._options.protection_seconds)

    def refuses(self, segments: Sequence[int], stat: SegmentStat) -> Refusal | None:
        """Why a recommendation must not be followed; counts it. None: it may."""
        found = refusal(segments, self._tracker.usage["flags"].tolist(), self.pinned(stat))
        if found is None:
            return None
        self.totals.refused[found[1]] += 1
        return found[1]

    # -- do it ----------------------------------------------------------------------

    def clean(self, segments: Sequence[int], stat: SegmentStat, pace: Pace) -> Reclaimed:
        """Clean segments.

        Raises:
            NilfsError: `nilfs.reclaim`.
        """
        done = self._library.reclaim(
            segments,
            protected_sequence=stat.protected_sequence,
            protected_checkpoint=self._library.checkpoint_at(self._youngest()),
            least_dead=pace.least_dead,
        )
        totals = self.totals
        totals.reclaims += 1
        totals.segments += done.cleaned
        totals.deferred += done.deferred
        if done.cleaned:
            totals.copied += done.live
            totals.dead += done.dead
        for segment in segments:
            self._kept[segment] = 0
        return done

    def unstick(self, *, done: bool) -> None:
        """When nothing could be cleaned: let the kernel need fewer segments for recovery.

        It needs all that were written since it last wrote its superblock; to freeze the
        file system for a moment makes it write that, which is what nilfs_cleanerd does.
        """
        self._stuck = 0 if done else self._stuck + 1
        if self._stuck in (1, 8, 64):
            file = os.open(self._volume.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                libc.syncfs(file)
                fcntl.ioctl(file, _FIFREEZE, 0)
                fcntl.ioctl(file, _FITHAW, 0)
            finally:
                os.close(file)
