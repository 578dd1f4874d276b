"""Segment summaries: which blocks a segment holds, and who wrote them.

A segment is a row of *logs* (partial segments). Each begins with a summary: a header, then for
each file a header and a word or two per block (`struct nilfs_segment_summary`, `nilfs_finfo`,
`nilfs_binfo`). Nothing in it crosses the border of a block.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ("DAT", "ENTRY", "METADATA", "Contents", "read_segment")

DAT: Final = 3
METADATA: Final = (3, 4, 5, 6)
"""Inodes of DAT, checkpoint file, segment usage file and inode file."""
ENTRY: Final = np.dtype(
    [("ino", "<u8"), ("offset", "<u8"), ("vblocknr", "<u8"), ("node", "?"), ("gc", "?")]
)
"""A block of a segment: its file, its place in the file (0 for a B-tree node of anything but the
DAT), its virtual number (0 in the DAT itself), and whether cleaning wrote it."""

_HEADER = struct.Struct("<IIIHHQQQIIIIQ")
_FILE = struct.Struct("<QQII")
_MAGIC: Final = 0x1EAFFA11
_GC_FLAG: Final = 0x10

Read = Callable[[int, int], bytes]
"""(block, count) -> raw blocks."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a segment.

    Attributes:
        sequence: its number in the order in which segments were written; 0 when empty.
        entries: ENTRY, in the order of the disk.
        written: blocks, with the summaries' own.
        logs: how many partial segments.
    """

    sequence: int
    entries: npt.NDArray[np.void]
    written: int
    logs: int


def read_segment(read: Read, begin: int, count: int, written: int, block_bytes: int) -> Contents:
    """Read the summaries of a segment.

    What does not look like a log ends it: the rest is of an earlier life of the segment.

    Args:
        read: gives raw blocks.
        begin: first block of the segment.
        count: blocks it has.
        written: blocks that are in use, as suinfo tells.
        block_bytes: size of a block.
    """
    at, end = begin, begin + min(count, written)
    sequence, logs = 0, 0
    parts: list[npt.NDArray[np.void]] = []
    while at < end:
        head = read(at, 1)
        if len(head) < block_bytes:
            break
        fields = _HEADER.unpack_from(head)
        magic, flags, number = fields[2], fields[4], fields[5]
        blocks, files, length = fields[8], fields[9], fields[10]
        header = fields[3]
        fine = magic == _MAGIC and 0 < blocks <= end - at and header <= length
        if not fine or (sequence and number != sequence):
            break
        own = -(-length // block_bytes)
        if own > blocks:
            break
        data = head if own == 1 else head + read(at + 1, own - 1)
        found = _entries(data, header, length, files, block_bytes, gc=bool(flags & _GC_FLAG))
        if found is None:
            break
        parts.append(found)
        sequence = number
        logs += 1
        at += blocks
    entries = np.concatenate(parts) if parts else np.zeros(0, ENTRY)
    return Contents(sequence, entries, at - begin, logs)


def _skip(at: int, size: int, block_bytes: int) -> int:
    """Where a record of `size` bytes begins that may not cross a block's border."""
    room = block_bytes - at % block_bytes
    return at if room >= size else at + room


def _entries(
    data: bytes, at: int, length: int, files: int, block_bytes: int, *, gc: bool
) -> npt.NDArray[np.void] | None:
    """The blocks of one log; None when the summary makes no sense."""
    parts: list[npt.NDArray[np.void]] = []
    for _ in range(files):
        at = _skip(at, _FILE.size, block_bytes)
        if at + _FILE.size > length:
            return None
        ino, _, total, plain = _FILE.unpack_from(data, at)
        at += _FILE.size
        if plain > total:
            return None
        dat = ino == DAT
        part = np.zeros(total, ENTRY) if total <= length // 8 else None
        if part is None:
            return None
        part["ino"] = ino
        part["gc"] = gc
        part["node"][plain:] = True
        for begin, end, words in ((0, plain, 1 if dat else 2), (plain, total, 2 if dat else 1)):
            table, at = _table(data, at, end - begin, words, length, block_bytes)
            if table is None:
                return None
            rows = part[begin:end]
            if dat:
                rows["offset"] = table[:, 0]
                if words == 2:  # a node is told from others by its level, too
                    rows["offset"] += (table[:, 1] & 0xFF) << np.uint64(48)
            else:
                rows["vblocknr"] = table[:, 0]
                if words == 2:
                    rows["offset"] = table[:, 1]
        parts.append(part)
    return np.concatenate(parts) if parts else np.zeros(0, ENTRY)


def _table(
    data: bytes, at: int, count: int, words: int, length: int, block_bytes: int
) -> tuple[npt.NDArray[np.uint64] | None, int]:
    """`count` records of so many 64-bit words each, and where they end."""
    size = 8 * words
    found: list[npt.NDArray[np.uint64]] = []
    while count:
        at = _skip(at, size, block_bytes)
        here = min(count, (block_bytes - at % block_bytes) // size)
        if at + here * size > length:
            return None, at
        found.append(np.frombuffer(data, "<u8", here * words, at).reshape(here, words))
        at += here * size
        count -= here
    if not found:
        return np.zeros((0, words), np.uint64), at
    return np.concatenate(found), at
