"""A NILFS2 file system in memory, down to the bytes of its summaries, and a library that cleans."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mlproxy_nilfs.gclib import Reclaimed
from mlproxy_nilfs.volume import ACTIVE, ALIVE, DIRTY, SUINFO, VINFO, Geometry, SegmentStat

BLOCK = 1024
MAGIC = 0x1EAFFA11
HEADER = struct.Struct("<IIIHHQQQIIIIQ")
Entry = tuple[int, int, int]
"""(inode, offset, virtual block)"""


def summary(sequence: int, files: Sequence[tuple[int, Sequence[Entry]]], *, gc: bool) -> bytes:
    """A log's summary, laid out as the kernel does it; its blocks are counted, not made."""
    body = bytearray(HEADER.size)

    def put(data: bytes) -> None:
        room = BLOCK - len(body) % BLOCK
        if room < len(data):
            body.extend(bytes(room))
        body.extend(data)

    count = 0
    for ino, entries in files:
        put(struct.pack("<QQII", ino, 1, len(entries), len(entries)))
        for _, offset, virtual in entries:
            put(struct.pack("<Q", offset) if ino == 3 else struct.pack("<QQ", virtual, offset))
            count += 1
    length = len(body)
    own = -(-length // BLOCK)
    HEADER.pack_into(
        body, 0, 0, 0, MAGIC, HEADER.size, 0x10 if gc else 0, sequence, 0, 0,
        own + count, len(files), length, 0, 1,
    )  # fmt: skip
    return bytes(body.ljust(own * BLOCK, b"\0"))


@dataclass
class Segment:
    data: bytearray = field(default_factory=bytearray)
    entries: list[Entry] = field(default_factory=list)
    used: int = 0
    sequence: int = 0
    lastmod: int = 0


class World:
    """The file system; also stands in for `Volume` and `GcLibrary`."""

    def __init__(self, segments: int = 64, blocks: int = 64) -> None:
        self.geometry = Geometry(BLOCK, segments, blocks, 0, 5)
        self.device, self.folder = "/dev/world", "/world"
        self.time = 1000
        self.protected_sequence = 0
        self.pinned: set[int] = set()  # virtual blocks that a snapshot has
        self._segments = [Segment() for _ in range(segments)]
        self._free = list(range(segments))
        self._open = self._free.pop(0)
        self._next = self._free.pop(0)
        self._sequence = 1
        self._segments[self._open].sequence = 1
        self._where: dict[tuple[int, int], int] = {}  # (inode, offset) -> virtual block
        self._ended: dict[int, int] = {}
        self._at: dict[int, int] = {}  # virtual block -> segment
        self._virtual = 0
        self.copied = self.cleaned = self.user = 0
        self.log: list[tuple[str, tuple[int, ...]]] = []

    # -- what programs do -----------------------------------------------------

    def write(self, blocks: Sequence[tuple[int, int]]) -> None:
        """Overwrite blocks; each write is a log of its own."""
        entries: list[Entry] = []
        for key in blocks:
            if key in self._where:
                self._ended[self._where[key]] = 1
            self._virtual += 1
            self._where[key] = self._virtual
            entries.append((*key, self._virtual))
        self.user += len(entries)
        self._append(entries, gc=False)

    def delete(self, ino: int) -> None:
        """Delete a file."""
        for key in [key for key in self._where if key[0] == ino]:
            self._ended[self._where.pop(key)] = 1

    def _append(self, entries: Sequence[Entry], *, gc: bool) -> None:
        left = sorted(entries)
        while left:
            now = self._segments[self._open]
            room = self.geometry.segment_blocks - now.used - 2
            if room < 4:
                self._switch()
                continue
            part, left = left[:room], left[room:]
            inos = sorted({ino for ino, _, _ in part})
            files = [(ino, [e for e in part if e[0] == ino]) for ino in inos]
            head = summary(now.sequence, files, gc=gc)
            now.data += head + bytes(len(part) * BLOCK)
            now.used += len(head) // BLOCK + len(part)
            now.entries += part
            now.lastmod = self.time
            for _, _, virtual in part:
                self._at[virtual] = self._open

    def _switch(self) -> None:
        self._sequence += 1
        self._open, self._next = self._next, self._free.pop(0)
        self._segments[self._open] = Segment(sequence=self._sequence, lastmod=self.time)

    # -- Volume ---------------------------------------------------------------

    def close(self) -> None:
        """Nothing to close."""

    def stat(self) -> SegmentStat:
        total = self.geometry.segments
        clean = len(self._free)
        return SegmentStat(total, clean, total - clean, 0, 0, self.protected_sequence)

    def segments(self) -> np.ndarray:
        found = np.zeros(self.geometry.segments, SUINFO)
        free = set(self._free)
        for number, segment in enumerate(self._segments):
            if number in (self._open, self._next):
                found[number] = (self.time, segment.used, ACTIVE | DIRTY)
            elif number not in free:
                found[number] = (segment.lastmod, segment.used, DIRTY)
        return found

    def blocks(self, numbers: np.ndarray) -> np.ndarray:
        found = np.zeros(len(numbers), VINFO)
        found["vblocknr"] = numbers
        found["end"] = [self._ended.get(int(n), ALIVE) for n in numbers]
        return found

    def read(self, block: int, count: int) -> bytes:
        segment, at = divmod(block, self.geometry.segment_blocks)
        data = self._segments[segment].data[at * BLOCK : (at + count) * BLOCK]
        return bytes(data.ljust(count * BLOCK, b"\0"))

    # -- GcLibrary --------------------------------------------------------------

    def checkpoint_at(self, seconds: int) -> int:
        return seconds

    def _living(self, segment: int) -> list[Entry]:
        return [
            e
            for e in self._segments[segment].entries
            if self._at.get(e[2]) == segment and (e[2] not in self._ended or e[2] in self.pinned)
        ]

    def assess(self, segments: Sequence[int], **_: int) -> Reclaimed:
        live = [len(self._living(s)) for s in segments]
        dead = [len(self._segments[s].entries) for s in segments]
        return Reclaimed(len(live), 0, 0, sum(live), sum(dead) - sum(live))

    def reclaim(self, segments: Sequence[int], *, least_dead: int = 0, **_: int) -> Reclaimed:
        self.log.append(("reclaim", tuple(segments)))
        flags = self.segments()["flags"]
        fine = [s for s in segments if 0 <= s < len(flags) and flags[s] == DIRTY]
        moved: list[Entry] = []
        deferred = 0
        for segment in fine:
            living = self._living(segment)
            if len(self._segments[segment].entries) - len(living) < least_dead:
                self._segments[segment].lastmod = self.time
                deferred += 1
                continue
            moved += living
            self._segments[segment] = Segment()
            self._free.append(segment)
            self.cleaned += 1
        self.copied += len(moved)
        self._append(moved, gc=True)
        return Reclaimed(len(fine) - deferred, 0, deferred, len(moved), 1)

    def contents(self) -> dict[tuple[int, int], int]:
        """What programs would read: (inode, offset) -> virtual block that is somewhere."""
        return {
            key: virtual
            for key, virtual in self._where.items()
            if any(e[2] == virtual for e in self._segments[self._at[virtual]].entries)
        }


Clock = Callable[[], float]
