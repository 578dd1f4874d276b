"""The trace file: what a program wrote, as columns in checked chunks.

docs/reference/trace-format.md is the specification. In short: a header, then
frames, each with its own CRC; a frame of events holds columns of fixed width,
split into byte planes and compressed with zstd. Frames do not need each other,
so damage is found with its byte offset and what is before it stays readable.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import zstandard
from numpy.typing import NDArray

from mlproxy.errors import TraceError

__all__ = ("Op", "Trace", "TraceWriter", "read_trace")

MAGIC = b"MLPTRACE"
FRAME_MAGIC = b"MLPF"
VERSION = 1
CHUNK_EVENTS = 1 << 17
MAX_FRAME_BYTES = 1 << 27
MAX_POSITION = 1 << 62

# magic, version, flags, tenant, microseconds per time unit, bytes of the JSON that follows
_HEADER = struct.Struct("<8sHHIII")
# magic, kind, 3 reserved, events, raw bytes, compressed bytes
_FRAME = struct.Struct("<4sB3xIII")
# events, files, directories, classes, time of the first event's predecessor
_CHUNK = struct.Struct("<IIIIQ")
_CRC = struct.Struct("<I")

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


def _planes(column: NDArray[Any]) -> bytes:
    """Little-endian column -> all first bytes, then all second bytes, and so on."""
    wide = np.ascontiguousarray(column)
    return wide.view(np.uint8).reshape(len(wide), wide.itemsize).T.tobytes()


class _Cursor:
    """Take columns and strings off a chunk's bytes, checking that they are there."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.raw) - self.at:
            raise ValueError(f"{count} bytes wanted, {len(self.raw) - self.at} left")
        self.at += count
        return self.raw[self.at - count : self.at]

    def column(self, dtype: str, rows: int) -> NDArray[Any]:
        width = np.dtype(dtype).itemsize
        planes = np.frombuffer(self.take(rows * width), np.uint8).reshape(width, rows)
        return np.ascontiguousarray(planes.T).view(dtype).reshape(rows)

    def strings(self, count: int) -> list[str]:
        out = []
        for _ in range(count):
            (size,) = struct.unpack("<H", self.take(2))
            out.append(self.take(size).decode())
        return out


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


def _pack_offsets(op: U8, file: U32, offset: I64, length: I64) -> NDArray[np.uint64]:
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


def _unpack_offsets(file: U32, length: I64, packed: NDArray[np.uint64]) -> I64:
    order, first = _by_file(file)
    jump = packed[order].astype(np.int64)
    ended = _ends(length[order], first)
    anchored = (jump > 0) | first
    anchor = np.maximum.accumulate(np.where(anchored, np.arange(len(order)), 0))
    base = np.maximum(jump - 1, 0) - ended
    out = np.empty(len(order), np.int64)
    out[order] = base[anchor] + ended
    return out


class TraceWriter:
    """Write a trace file chunk by chunk.

    Args:
        out: binary file to write to.
        tenant: number of the writer.
        time_unit_us: grain of the times; a coarse one makes small files.
        meta: anything that JSON can hold: command, versions.
    """

    def __init__(
        self,
        out: BinaryIO,
        *,
        tenant: int = 0,
        time_unit_us: int = 1,
        meta: dict[str, Any] | None = None,
        level: int = 19,
    ) -> None:
        self._out = out
        self._unit = time_unit_us
        self._last = 0
        self._events = 0
        self._files = 0
        self._zstd = zstandard.ZstdCompressor(level=level, write_content_size=True)
        text = json.dumps(meta or {}, sort_keys=True).encode()
        head = _HEADER.pack(MAGIC, VERSION, 0, tenant, time_unit_us, len(text)) + text
        out.write(head + _CRC.pack(zlib.crc32(head)))

    def _frame(self, kind: int, events: int, raw: bytes) -> None:
        body = self._zstd.compress(raw)
        frame = _FRAME.pack(FRAME_MAGIC, kind, events, len(raw), len(body)) + body
        self._out.write(frame + _CRC.pack(zlib.crc32(frame)))

    def chunk(
        self,
        *,
        op: U8,
        file: U32,
        offset: I64,
        length: I64,
        time: I64,
        dir_id: U32,
        class_id: U32,
        new_dirs: list[str],
        new_classes: list[str],
    ) -> None:
        """Write one chunk of events with the files, directories and classes first seen in it."""
        units = time // self._unit
        steps = np.diff(units, prepend=self._last).clip(0, 0xFFFFFFFF).astype(np.uint32)
        raw = [
            _CHUNK.pack(len(op), len(dir_id), len(new_dirs), len(new_classes), self._last),
            op.tobytes(),
            _planes(file.astype("<u4")),
            _planes(_pack_offsets(op, file, offset, length)),
            _planes(length.astype("<u8")),
            _planes(steps),
            _planes(dir_id.astype("<u4")),
            _planes(class_id.astype("<u4")),
        ]
        for name in (*new_dirs, *new_classes):
            text = name.encode()[:65535]
            raw.append(struct.pack("<H", len(text)) + text)
        self._last += int(steps.sum(dtype=np.int64))
        self._events += len(op)
        self._files += len(dir_id)
        self._frame(KIND_EVENTS, len(op), b"".join(raw))

    def write_all(self, trace: Trace) -> None:
        """Write all events of a trace in memory, in chunks."""
        created = np.cumsum(trace.op == Op.CREATE)
        dirs = classes = files = 0
        for start in range(0, trace.nr_events, CHUNK_EVENTS):
            rows = slice(start, start + CHUNK_EVENTS)
            upto = int(created[rows][-1])
            dir_id, class_id = trace.dir_id[files:upto], trace.class_id[files:upto]
            dirs_upto = max(dirs, int(dir_id.max(initial=0)) + 1) if len(dir_id) else dirs
            classes_upto = (
                max(classes, int(class_id.max(initial=0)) + 1) if len(class_id) else classes
            )
            self.chunk(
                op=trace.op[rows],
                file=trace.file[rows],
                offset=trace.offset[rows],
                length=trace.length[rows],
                time=trace.time[rows],
                dir_id=dir_id,
                class_id=class_id,
                new_dirs=list(trace.dirs[dirs:dirs_upto]),
                new_classes=list(trace.classes[classes:classes_upto]),
            )
            dirs, classes, files = dirs_upto, classes_upto, upto

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the last frame, without which a reader calls the file truncated."""
        ending = {"events": self._events, "files": self._files, **summary}
        self._frame(KIND_END, 0, json.dumps(ending, sort_keys=True).encode())
        self._out.flush()


def _fail(code: str, message: str, path: str, offset: int, hint: str = "") -> TraceError:
    return TraceError(
        f"{path}: {message} at byte {offset}",
        code=f"trace.{code}",
        hint=hint,
        path=path,
        offset=offset,
    )


_SALVAGE = "the events before it can be read with partial=True"


def _frames(data: bytes, path: str, start: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield (offset, kind, events, raw bytes) of each frame; raise at the first bad one."""
    at = start
    while at < len(data):
        if at + _FRAME.size + _CRC.size > len(data):
            raise _fail("truncated", "the file ends inside a frame", path, at, _SALVAGE)
        magic, kind, events, raw_bytes, body_bytes = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + body_bytes
        if magic != FRAME_MAGIC:
            raise _fail("damaged", "no frame", path, at, _SALVAGE)
        if end + _CRC.size > len(data):
            raise _fail("truncated", "the file ends inside a frame", path, at, _SALVAGE)
        if zlib.crc32(memoryview(data)[at:end]) != _CRC.unpack_from(data, end)[0]:
            raise _fail("damaged", "wrong checksum of the frame", path, at, _SALVAGE)
        body = data[at + _FRAME.size : end]
        try:
            if raw_bytes > MAX_FRAME_BYTES or zstandard.frame_content_size(body) != raw_bytes:
                raise _fail("damaged", "impossible frame size", path, at, _SALVAGE)
            raw = zstandard.ZstdDecompressor().decompress(body, max_output_size=raw_bytes)
        except zstandard.ZstdError as error:
            raise _fail("damaged", f"frame does not unpack ({error})", path, at) from error
        yield at, kind, events, raw
        at = end + _CRC.size


@dataclass
class _Tables:
    """What the chunks read so far have defined."""

    columns: list[tuple[U8, U32, I64, I64, I64]] = field(default_factory=list)
    dir_id: list[U32] = field(default_factory=list)
    class_id: list[U32] = field(default_factory=list)
    dirs: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    files: int = 0
    events: int = 0
    last: int = 0
    summary: dict[str, Any] = field(default_factory=dict)
    ended: bool = False

    def add(self, events: int, raw: bytes, unit: int) -> None:
        """Decode one chunk; raise ValueError if it contradicts itself or those before it."""
        cursor = _Cursor(raw)
        rows, files, dirs, classes, base = _CHUNK.unpack(cursor.take(_CHUNK.size))
        if rows != events:
            raise ValueError(f"{rows} rows in a frame of {events}")
        op = cursor.column("u1", rows)
        file = cursor.column("<u4", rows)
        packed = cursor.column("<u8", rows)
        wide = cursor.column("<u8", rows)
        steps = cursor.column("<u4", rows)
        dir_id = cursor.column("<u4", files)
        class_id = cursor.column("<u4", files)
        new_dirs, new_classes = cursor.strings(dirs), cursor.strings(classes)
        if cursor.at != len(raw):
            raise ValueError(f"{len(raw) - cursor.at} bytes too many")
        if base != self.last or base > MAX_POSITION:
            raise ValueError("the clock does not go on from the chunk before")
        if packed.max(initial=0) > MAX_POSITION or wide.max(initial=0) > MAX_POSITION // (rows + 1):
            raise ValueError("an offset or a length is out of range")
        if op.max(initial=0) >= NR_OPS:
            raise ValueError(f"unknown operation {op.max()}")
        created = op == Op.CREATE
        known = self.files + np.cumsum(created)
        if int(created.sum()) != files or np.any(
            file[created] != np.arange(self.files, self.files + files)
        ):
            raise ValueError("files are not created in order")
        if np.any((file >= known) & (op != Op.SYNC_ALL)):
            raise ValueError("a file is used before it is created")
        if dir_id.max(initial=0) >= max(len(self.dirs) + dirs, 1):
            raise ValueError("unknown directory")
        if class_id.max(initial=0) >= max(len(self.classes) + classes, 1):
            raise ValueError("unknown class")
        length = wide.astype(np.int64)
        offset = _unpack_offsets(file, np.where(op == Op.WRITE, length, 0), packed)
        time = base + np.cumsum(steps, dtype=np.int64)
        self.last = int(time[-1]) if rows else base
        self.columns.append((op, file, offset, length, time * unit))
        self.dir_id.append(dir_id)
        self.class_id.append(class_id)
        self.dirs += new_dirs
        self.classes += new_classes
        self.files += files
        self.events += rows

    def end(self, raw: bytes) -> None:
        """Take the last frame; raise ValueError if its counts are not those read."""
        summary = json.loads(raw)
        if not isinstance(summary, dict):
            raise TypeError("the last frame holds no object")
        if (summary.get("events"), summary.get("files")) != (self.events, self.files):
            raise ValueError("the last frame counts other events than there are")
        self.summary, self.ended = summary, True


def _header(data: bytes, path: str) -> tuple[int, int, int, dict[str, Any]]:
    """Return (bytes of the header, tenant, time unit, meta)."""
    if data[:8] != MAGIC[: len(data)] or not data:
        raise _fail("not-a-trace", "this is not a trace file", path, 0)
    if len(data) < _HEADER.size + _CRC.size:
        raise _fail("truncated", "the file ends inside the header", path, len(data))
    _, version, _flags, tenant, unit, text_bytes = _HEADER.unpack_from(data)
    if version != VERSION:
        raise _fail(
            "version",
            f"format version {version}, this program reads {VERSION}",
            path,
            8,
            "update mlproxy, or record again",
        )
    end = _HEADER.size + text_bytes
    if end + _CRC.size > len(data):
        raise _fail("truncated", "the file ends inside the header", path, len(data))
    if zlib.crc32(data[:end]) != _CRC.unpack_from(data, end)[0]:
        raise _fail("damaged", "wrong checksum of the header", path, 0)
    try:
        meta = json.loads(data[_HEADER.size : end])
    except ValueError as error:
        raise _fail("damaged", "the header's JSON is broken", path, _HEADER.size) from error
    if not isinstance(meta, dict) or not unit:
        raise _fail("damaged", "the header makes no sense", path, 0)
    return end + _CRC.size, tenant, unit, meta


def parse_trace(data: bytes, path: str = "<bytes>", *, partial: bool = False) -> Trace:
    """Read a trace from memory; see `read_trace`."""
    start, tenant, unit, meta = _header(data, path)
    tables = _Tables()
    damage: TraceError | None = None
    at = start
    try:
        for at, kind, events, raw in _frames(data, path, start):
            if tables.ended:
                raise _fail("damaged", "there is more after the end", path, at, _SALVAGE)
            try:
                if kind == KIND_EVENTS:
                    tables.add(events, raw, unit)
                elif kind == KIND_END:
                    tables.end(raw)
                else:
                    raise ValueError(f"unknown kind of frame {kind}")
            except (ValueError, TypeError) as error:
                raise _fail("damaged", str(error), path, at, _SALVAGE) from error
        if not tables.ended:
            raise _fail("truncated", "the last frame is missing", path, len(data), _SALVAGE)
    except TraceError as error:
        if not partial:
            raise
        damage = error
    empty = (np.empty(0, np.uint8), np.empty(0, np.uint32), *[np.empty(0, np.int64)] * 3)
    columns = [np.concatenate(c) for c in zip(empty, *tables.columns, strict=True)]
    none = np.empty(0, np.uint32)
    return Trace(
        *columns,
        dir_id=np.concatenate([none, *tables.dir_id]),
        class_id=np.concatenate([none, *tables.class_id]),
        dirs=tuple(tables.dirs),
        classes=tuple(tables.classes),
        tenant=tenant,
        time_unit_us=unit,
        meta=meta,
        summary=tables.summary,
        damage=damage,
    )


def read_trace(path: str | Path, *, partial: bool = False) -> Trace:
    """Read a trace file.

    Args:
        path: the file.
        partial: give what is before a damaged place instead of raising; the
            reason is in `Trace.damage`. A bad header is always an error.

    Raises:
        TraceError: `trace.not-a-trace`, `trace.version`, `trace.truncated`,
            `trace.damaged`, `trace.unreadable`; context has `path`, `offset`.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise TraceError(
            f"{path}: {error.strerror}", code="trace.unreadable", path=str(path), offset=0
        ) from error
    return parse_trace(data, str(path), partial=partial)


def write_trace(path: str | Path, trace: Trace, **summary: Any) -> None:
    """Write a trace in memory to a file."""
    with Path(path).open("wb") as out:
        writer = TraceWriter(
            out, tenant=trace.tenant, time_unit_us=trace.time_unit_us, meta=trace.meta
        )
        writer.write_all(trace)
        writer.finish({**trace.summary, **summary})
