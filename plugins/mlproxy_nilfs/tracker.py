"""The disk as a pool: what was written, what lives where.

The stream of writes is read from the disk itself, out of the summaries of segments that are
complete: no tracing, nothing is lost while the daemon is away. That a block was overwritten shows
in the stream. That a file was deleted or cut shows in the DAT, which is asked about some segments
at a time, in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from mlproxy_nilfs.pool import Blocks, Ids, Pool
from mlproxy_nilfs.summary import METADATA, Contents, read_segment
from mlproxy_nilfs.volume import ACTIVE, ALIVE, DIRTY, Geometry

__all__ = ("Disk", "Tracker", "Written")

MOST_BLOCKS: Final = 1 << 20
"""About so many blocks are followed; of a larger file system one in 2, 4, 8, ..."""
_NODE, _DAT_NODE = 1 << 63, 1 << 62
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)


class Disk(Protocol):
    """What the tracker needs of a `Volume`."""

    @property
    def geometry(self) -> Geometry:
        """The file system's shape."""

    def segments(self) -> npt.NDArray[np.void]:
        """All segments: SUINFO."""

    def blocks(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.void]:
        """What the DAT says of virtual blocks: VINFO."""

    def read(self, block: int, count: int) -> bytes:
        """Raw blocks."""


@dataclass(frozen=True, slots=True)
class Written:
    """One segment's part of the stream.

    Attributes:
        user: blocks that were written, in order, ids.
        copied: how many others cleaning wrote.
        dead: ids of blocks that turned out to be deleted.
    """

    user: Ids
    copied: int
    dead: Ids


class Tracker:
    """Follows a file system.

    Args:
        disk: the file system.
        share: follow one in so many blocks, a power of two; chosen by size when 0.
    """

    def __init__(self, disk: Disk, share: int = 0) -> None:
        self._disk = disk
        shape = disk.geometry
        whole = shape.segments * shape.segment_blocks
        self.share = share or 1 << max(0, (whole - 1).bit_length() - MOST_BLOCKS.bit_length() + 1)
        self.blocks = Blocks()
        # With a share, a segment rarely has more than its part and half as much again.
        slots = shape.segment_blocks if self.share == 1 else 2 * shape.segment_blocks // self.share
        self.pool = Pool(shape.segments, slots, self.blocks)
        self._ids: dict[int, int] = {}
        self._virtual: dict[int, npt.NDArray[np.uint64]] = {}
        self._known: dict[int, tuple[int, int]] = {}
        """Segment -> (last modification, sequence) when it was read."""
        self._sequence: dict[int, int] = {}
        self._rotation: list[int] = []
        self.user_blocks = 0
        self.copied_blocks = 0
        self.usage = disk.segments()

    def sequence(self, segment: int) -> int:
        """Its place in the order of writing; 0 when it was not read."""
        return self._sequence.get(segment, 0)

    def follow(self, visit: Callable[[Written], None] | None = None) -> int:
        """Take in the segments that were completed since the last call, in order.

        Args:
            visit: is told of each.

        Returns:
            How many there were.
        """
        self.usage = usage = self._disk.segments()
        flags = usage["flags"]
        for segment in list(self._known):
            if not flags[segment] & DIRTY:
                self.forget(segment)
        complete = np.flatnonzero((flags & DIRTY != 0) & (flags & ACTIVE == 0))
        found: list[tuple[int, int, Contents]] = []
        for segment in complete.tolist():
            changed = int(usage["lastmod"][segment])
            known = self._known.get(segment)
            if known is not None and known[0] == changed:
                continue
            contents = self._read(segment, int(usage["nblocks"][segment]))
            self._known[segment] = (changed, contents.sequence)
            if known is None or known[1] != contents.sequence:
                found.append((contents.sequence, segment, contents))
        for sequence, segment, contents in sorted(found, key=lambda one: one[:2]):
            if segment in self._sequence:
                self.pool.free(segment)  # another cleaner was here
            self._sequence[segment] = sequence
            written = self._take(segment, contents)
            if visit is not None:
                visit(written)
        return len(found)

    def forget(self, segment: int) -> None:
        """A segment is free."""
        self.pool.free(segment)
        self._known.pop(segment, None)
        self._sequence.pop(segment, None)
        self._virtual.pop(segment, None)

    def _read(self, segment: int, written: int) -> Contents:
        begin, count = self._disk.geometry.span(segment)
        return read_segment(self._disk.read, begin, count, written, self._disk.geometry.block_bytes)

    def _take(self, segment: int, contents: Contents) -> Written:
        entries = contents.entries
        keys = _keys(entries)
        if self.share > 1:
            chosen = (keys * _MIX) >> np.uint64(64 - (self.share.bit_length() - 1)) == 0
            entries, keys = entries[chosen], keys[chosen]
        ids = self._number(keys)
        self.blocks.metadata[ids] = np.isin(entries["ino"], METADATA)
        gc = entries["gc"].copy()
        # What cleaning writes besides copies are the DAT's changes and the like: it dirtied
        # them, so they are its blocks, too. What lived nowhere before is new all the same.
        new = self.blocks.born[ids] == 0
        user = ids[~gc]
        self.blocks.born[ids[gc & new]] = max(1, self.blocks.clock)
        self.blocks.write(user)
        count = int(np.count_nonzero(gc))
        self.pool.put(segment, ids, copied=count / max(1, len(ids)))
        self._virtual[segment] = entries["vblocknr"][: self.pool.slots].copy()
        self.user_blocks += len(user)
        self.copied_blocks += count
        return Written(user, count, self.refresh([segment]))

    def _number(self, keys: npt.NDArray[np.uint64]) -> Ids:
        table = self._ids
        ids = np.fromiter(
            (table.setdefault(key, len(table)) for key in keys.tolist()), np.int64, len(keys)
        )
        self.blocks.reserve(len(table) + 1)
        return ids

    def refresh(self, segments: Sequence[int]) -> Ids:
        """Ask the DAT which blocks of these segments were deleted; the ids of those."""
        asked: list[npt.NDArray[np.uint64]] = []
        of: list[Ids] = []
        for segment in segments:
            virtual = self._virtual.get(segment)
            if virtual is None:
                continue
            ids, here = self.pool.places(segment)
            here = here & (virtual > 0)
            asked.append(virtual[here])
            of.append(ids[here])
        if not asked:
            return np.zeros(0, np.int64)
        found = self._disk.blocks(np.concatenate(asked))
        dead: Ids = np.concatenate(of)[found["end"] != np.uint64(ALIVE)]
        self.pool.kill(dead)
        return dead

    def refresh_some(self, count: int) -> Ids:
        """`refresh` the next segments in turn."""
        if len(self._rotation) < count:
            self._rotation += sorted(self.pool.used)
        chosen, self._rotation = self._rotation[:count], self._rotation[count:]
        return self.refresh(chosen)


def _keys(entries: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """What tells a block from all others: file and place; for a B-tree node its number.

    A node gets a new virtual number whenever it is written.
    """
    keys: npt.NDArray[np.uint64] = entries["ino"] << np.uint64(40)
    keys = keys ^ entries["offset"]
    virtual = entries["vblocknr"]
    nodes = np.where(virtual > 0, virtual | np.uint64(_NODE), keys | np.uint64(_DAT_NODE))
    return np.where(entries["node"], nodes, keys)
