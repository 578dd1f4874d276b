"""What reader and writer share: the layout, the values, and how offsets are packed."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlproxy.errors import TraceError

__all__ = ("Op", "Trace")

MAGIC = b"MLPTRACE"
FRAME_MAGIC = b"MLPF"
VERSION = 1
CHUNK_EVENTS = 1 << 17
MAX_FRAME_BYTES = 1 << 27
MAX_POSITION = 1 << 62
MAX_TENANT = (1 << 31) - 1

# magic, version, flags, tenant, microseconds per time unit, bytes of the JSON that follows
HEADER = struct.Struct("<8sHHIII")
# magic, kind, 3 reserved, events, raw bytes, compressed bytes
FRAME = struct.Struct("<4sB3xIII")
# events, files, directories, classes, time of the first event's predecessor
CHUNK = struct.Struct("<IIIIQ")
CRC = struct.Struct("<I")

KIND_EVENTS = 1
KIND_END = 2

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]


class Op(IntEnum):
    """What an event did to its file."""

    CREATE = 0  # length: bytes the file already had
    WRITE = 1
    TRUNCATE = 2  # offset: the new size
    DELETE = 3
    REPLACE = 4  # deleted by a rename; offset: the file that took its name, plus 1, 0 if unknown
    SYNC = 5  # length 0: the whole file
    MAP = 6  # shared writable mapping: writes through it were not seen
    PUNCH = 7
    ALLOCATE = 8  # grows the size, writes nothing
    SYNC_ALL = 9  # file is 0 and means nothing
    UNKNOWN = 10  # a change that cannot be described


NR_OPS = len(Op)


@dataclass(frozen=True)
class Trace:
    """A recording in memory, one row per event, in order.

    Attributes:
        op: uint8, an `Op`.
        file: uint32, dense file ids in order of creation.
        offset: int64 bytes.
        length: int64 bytes.
        time: int64 microseconds since the start.
        dir_id: uint32 per file, index into `dirs`.
        class_id: uint32 per file, index into `classes`.
        dirs: directories below the root, digits and hex replaced.
        classes: patterns of first file names, digits and hex replaced.
        tenant: who wrote; given when it was recorded.
        time_unit_us: the grain of `time`.
        meta: what the recorder said before the run (command, versions).
        summary: what it said after the run; empty if the end is missing.
        damage: why reading ended early (only with `partial`).
    """

    op: U8
    file: U32
    offset: I64
    length: I64
    time: I64
    dir_id: U32
    class_id: U32
    dirs: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    tenant: int = 0
    time_unit_us: int = 1
    meta: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    damage: TraceError | None = None

    @property
    def nr_events(self) -> int:
        """Number of events."""
        return len(self.op)

    @property
    def nr_files(self) -> int:
        """Number of files."""
        return len(self.dir_id)


def planes(column: NDArray[Any]) -> bytes:
    """Little-endian column -> all first bytes, then all second bytes, and so on."""
    wide = np.ascontiguousarray(column)
    return wide.view(np.uint8).reshape(len(wide), wide.itemsize).T.tobytes()


def _by_file(file: U32) -> tuple[I64, NDArray[np.bool_]]:
    """Order that groups a chunk's rows by file, and where each group starts."""
    order = np.argsort(file, kind="stable")
    grouped = file[order]
    first = np.ones(len(grouped), bool)
    first[1:] = grouped[1:] != grouped[:-1]
    return order, first


def _ends(lengths: I64, first: NDArray[np.bool_]) -> I64:
    """Exclusive running sum of the written lengths inside each group."""
    total = np.cumsum(lengths) - lengths
    start = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))
    return total - total[start]


def pack_offsets(op: U8, file: U32, offset: I64, length: I64) -> NDArray[np.uint64]:
    """Offsets -> 0 where a write goes on where the file's last write ended, else offset + 1."""
    order, _ = _by_file(file)
    ofile, ooff, olen = file[order], offset[order], length[order]
    written = op[order] == Op.WRITE
    out = ooff + 1
    if len(order) > 1:
        goes_on = written[1:] & written[:-1] & (ofile[1:] == ofile[:-1])
        goes_on &= ooff[1:] == ooff[:-1] + olen[:-1]
        out[1:][goes_on] = 0
    packed = np.empty(len(order), np.uint64)
    packed[order] = out.astype(np.uint64)
    return packed


def unpack_offsets(file: U32, length: I64, packed: NDArray[np.uint64]) -> I64:
    order, first = _by_file(file)
    jump = packed[order].astype(np.int64)
    ended = _ends(length[order], first)
    anchored = (jump > 0) | first
    anchor = np.maximum.accumulate(np.where(anchored, np.arange(len(order)), 0))
    base = np.maximum(jump - 1, 0) - ended
    out = np.empty(len(order), np.int64)
    out[order] = base[anchor] + ended
    return out
