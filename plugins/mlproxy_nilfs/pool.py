"""Segments and the blocks in them: what the tracker of the disk and its twins have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ("FEATURES", "Blocks", "Pool", "log16")

FEATURES: Final = (
    "segment_age",
    "data_age",
    "live_percent",
    "lost_percent",
    "copied_percent",
    "metadata_percent",
    "block_life",
)
"""What is known of a segment; ages and lives are log2 of blocks written, in sixteenths."""
_NOWHERE: Final = -1

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def log16(values: Floats) -> npt.NDArray[np.int32]:
    """log2 in sixteenths; 0 for what is below 1.

    >>> log16(np.array([0.0, 1.0, 2.0, 3.0])).tolist()
    [0, 0, 16, 25]
    """
    found: npt.NDArray[np.int32] = np.rint(16 * np.log2(np.maximum(values, 1.0))).astype(np.int32)
    return found


@dataclass(slots=True)
class Blocks:
    """Every block that was ever written, by id: shared by all pools of a stream.

    Attributes:
        clock: blocks written by anything but cleaning, so far.
        born: when a block was last written.
        life: how long its last version lived; 0: it has not been written twice.
        metadata: whether it belongs to the file system itself.
    """

    clock: int = 0
    born: Ids = field(default_factory=lambda: np.zeros(1024, np.int64))
    life: Ids = field(default_factory=lambda: np.zeros(1024, np.int64))
    metadata: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(1024, np.bool_))

    def reserve(self, count: int) -> None:
        """Make room for ids below `count`."""
        if count > len(self.born):
            extra = max(count, 2 * len(self.born)) - len(self.born)
            self.born = np.concatenate([self.born, np.zeros(extra, np.int64)])
            self.life = np.concatenate([self.life, np.zeros(extra, np.int64)])
            self.metadata = np.concatenate([self.metadata, np.zeros(extra, np.bool_)])

    def write(self, ids: Ids) -> None:
        """Time goes on by these blocks, in this order."""
        times = self.clock + np.arange(len(ids), dtype=np.int64)
        born = self.born[ids]
        self.life[ids] = np.where(born > 0, times - born, 0)
        self.born[ids] = np.maximum(times, 1)
        self.clock += len(ids)


class Pool:
    """Which block is where.

    Args:
        segments: how many there are.
        slots: blocks that a segment can have.
        blocks: the stream's blocks.
    """

    def __init__(self, segments: int, slots: int, blocks: Blocks) -> None:
        self.segments = segments
        self.slots = slots
        self.blocks = blocks
        self._where: Ids = np.full(1024, _NOWHERE, np.int64)
        self._ids: dict[int, Ids] = {}
        self.closed: Ids = np.zeros(segments, np.int64)
        """Clock when a segment was written."""
        self.copied: Floats = np.zeros(segments)
        """Share of a segment that cleaning wrote."""
        self._before: Floats = np.zeros(segments)

    def _reserve(self) -> None:
        wanted = len(self.blocks.born)
        if wanted > len(self._where):
            extra = np.full(wanted - len(self._where), _NOWHERE, np.int64)
            self._where = np.concatenate([self._where, extra])

    def put(self, segment: int, ids: Ids, *, copied: float) -> None:
        """Fill a segment with blocks, in order; they are nowhere else any more."""
        self._reserve()
        ids = ids[: self.slots]
        self._ids[segment] = ids
        self._where[ids] = segment * self.slots + np.arange(len(ids))
        self.closed[segment] = self.blocks.clock
        self.copied[segment] = copied
        self._before[segment] = len(ids)

    def append(self, segment: int, ids: Ids, *, copied: bool) -> None:
        """Write blocks to a segment that is being filled."""
        self._reserve()
        old = self._ids.get(segment)
        before = 0 if old is None else len(old)
        whole = ids if old is None else np.concatenate([old, ids])
        self._ids[segment] = whole
        self._where[ids] = segment * self.slots + before + np.arange(len(ids))
        self.closed[segment] = self.blocks.clock
        share = self.copied[segment] * before + len(ids) * copied
        self.copied[segment] = share / max(1, len(whole))
        self._before[segment] = len(whole)

    def kill(self, ids: Ids) -> None:
        """These blocks live no longer."""
        self._reserve()
        self._where[ids] = _NOWHERE

    def free(self, segment: int) -> None:
        """Nothing of a segment is needed."""
        ids = self._ids.pop(segment, None)
        if ids is not None:
            self._where[ids[self._living(segment, ids)]] = _NOWHERE
        self.copied[segment] = 0

    def _living(self, segment: int, ids: Ids) -> npt.NDArray[np.bool_]:
        here: npt.NDArray[np.bool_] = self._where[ids] == segment * self.slots + np.arange(len(ids))
        return here

    def living(self, segment: int) -> Ids:
        """The blocks that live in a segment, in order."""
        ids = self._ids.get(segment)
        return np.zeros(0, np.int64) if ids is None else ids[self._living(segment, ids)]

    def places(self, segment: int) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """All blocks that were written to a segment, and which of them live there."""
        ids = self._ids.get(segment, np.zeros(0, np.int64))
        return ids, self._living(segment, ids)

    def alive(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Which of these blocks live anywhere."""
        found: npt.NDArray[np.bool_] = self._where[ids] != _NOWHERE
        return found

    @property
    def used(self) -> list[int]:
        """Segments with anything in them."""
        return list(self._ids)

    def _by_segment(self) -> tuple[Ids, Ids]:
        ids = np.flatnonzero(self._where != _NOWHERE)
        return ids, self._where[ids] // self.slots

    def live(self) -> Floats:
        """Blocks that live, per segment."""
        return np.bincount(self._by_segment()[1], minlength=self.segments).astype(np.float64)

    def remember(self) -> None:
        """Begin anew to count what segments lose."""
        self._before = self.live()

    def features(self) -> npt.NDArray[np.int32]:
        """FEATURES of all segments, shape (segments, features)."""
        ids, places = self._by_segment()
        blocks, size = self.blocks, self.segments
        count = np.bincount(places, minlength=size)
        most = np.maximum(count, 1)
        age = blocks.clock - np.bincount(places, blocks.born[ids], size) / most
        known = blocks.life[ids] > 0
        lives = np.where(known, blocks.life[ids], blocks.clock - blocks.born[ids])
        life = np.bincount(places, lives, size) / most
        metadata = np.bincount(places, blocks.metadata[ids], size) / most
        lost = 1 - count / np.maximum(self._before, 1)
        columns = (
            log16((blocks.clock - self.closed).astype(np.float64)),
            log16(age),
            np.rint(100 * count / self.slots),
            np.rint(100 * np.clip(lost, 0, 1)),
            np.rint(100 * self.copied),
            np.rint(100 * metadata),
            log16(life),
        )
        return np.column_stack(columns).astype(np.int32)
