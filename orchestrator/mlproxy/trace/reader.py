"""Read trace files, and say where one is damaged."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from mlproxy.errors import TraceError
from mlproxy.trace.layout import (
    CHUNK,
    CRC,
    FRAME,
    FRAME_MAGIC,
    HEADER,
    I64,
    KIND_END,
    KIND_EVENTS,
    MAGIC,
    MAX_FRAME_BYTES,
    MAX_POSITION,
    MAX_TENANT,
    NR_OPS,
    U8,
    U32,
    VERSION,
    Op,
    Trace,
    unpack_offsets,
)

__all__ = ("parse_trace", "read_trace")


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
        if at + FRAME.size + CRC.size > len(data):
            raise _fail("truncated", "the file ends inside a frame", path, at, _SALVAGE)
        magic, kind, events, raw_bytes, body_bytes = FRAME.unpack_from(data, at)
        end = at + FRAME.size + body_bytes
        if magic != FRAME_MAGIC:
            raise _fail("damaged", "no frame", path, at, _SALVAGE)
        if end + CRC.size > len(data):
            raise _fail("truncated", "the file ends inside a frame", path, at, _SALVAGE)
        if zlib.crc32(memoryview(data)[at:end]) != CRC.unpack_from(data, end)[0]:
            raise _fail("damaged", "wrong checksum of the frame", path, at, _SALVAGE)
        body = data[at + FRAME.size : end]
        try:
            if raw_bytes > MAX_FRAME_BYTES or zstandard.frame_content_size(body) != raw_bytes:
                raise _fail("damaged", "impossible frame size", path, at, _SALVAGE)
            raw = zstandard.ZstdDecompressor().decompress(body, max_output_size=raw_bytes)
        except zstandard.ZstdError as error:
            raise _fail("damaged", f"frame does not unpack ({error})", path, at) from error
        yield at, kind, events, raw
        at = end + CRC.size


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

    def take(self, kind: int, events: int, raw: bytes, unit: int) -> None:
        """Take one frame; raise ValueError or TypeError if it makes no sense."""
        if kind == KIND_EVENTS:
            self.add(events, raw, unit)
        elif kind == KIND_END:
            self.end(raw)
        else:
            raise ValueError(f"unknown kind of frame {kind}")

    def add(self, events: int, raw: bytes, unit: int) -> None:
        """Decode one chunk; raise ValueError if it contradicts itself or those before it."""
        cursor = _Cursor(raw)
        rows, files, dirs, classes, base = CHUNK.unpack(cursor.take(CHUNK.size))
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
        offset = unpack_offsets(file, np.where(op == Op.WRITE, length, 0), packed)
        if (base + int(steps.sum(dtype=np.int64))) * unit > MAX_POSITION:
            raise ValueError("the clock is out of range")
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
        raise _fail("not_a_trace", "this is not a trace file", path, 0)
    if len(data) < HEADER.size + CRC.size:
        raise _fail("truncated", "the file ends inside the header", path, len(data))
    _, version, flags, tenant, unit, text_bytes = HEADER.unpack_from(data)
    if version != VERSION:
        raise _fail(
            "version",
            f"format version {version}, this program reads {VERSION}",
            path,
            8,
            "update mlproxy, or record again",
        )
    if flags:
        raise _fail(
            "version",
            f"flags {flags:#x} that this program does not know",
            path,
            10,
            "update mlproxy, or record again",
        )
    end = HEADER.size + text_bytes
    if end + CRC.size > len(data):
        raise _fail("truncated", "the file ends inside the header", path, len(data))
    if zlib.crc32(data[:end]) != CRC.unpack_from(data, end)[0]:
        raise _fail("damaged", "wrong checksum of the header", path, 0)
    try:
        meta = json.loads(data[HEADER.size : end])
    except ValueError as error:
        raise _fail("damaged", "the header's JSON is broken", path, HEADER.size) from error
    if not isinstance(meta, dict) or not unit or tenant > MAX_TENANT:
        raise _fail("damaged", "the header makes no sense", path, 0)
    return end + CRC.size, tenant, unit, meta


def _read_frames(tables: _Tables, data: bytes, path: str, start: int, unit: int) -> None:
    """Fill the tables from all frames; raise TraceError at the first that is wrong."""
    for at, kind, events, raw in _frames(data, path, start):
        if tables.ended:
            raise _fail("damaged", "there is more after the end", path, at, _SALVAGE)
        try:
            tables.take(kind, events, raw, unit)
        except (ValueError, TypeError) as error:
            raise _fail("damaged", str(error), path, at, _SALVAGE) from error
    if not tables.ended:
        raise _fail("truncated", "the last frame is missing", path, len(data), _SALVAGE)


def parse_trace(data: bytes, path: str = "<bytes>", *, partial: bool = False) -> Trace:
    """Read a trace from memory; see `read_trace`."""
    start, tenant, unit, meta = _header(data, path)
    tables = _Tables()
    damage: TraceError | None = None
    try:
        _read_frames(tables, data, path, start, unit)
    except TraceError as error:
        if not partial:
            raise
        damage = error
    empty = (np.empty(0, np.uint8), np.empty(0, np.uint32), *[np.empty(0, np.int64)] * 3)
    columns = [np.concatenate(c) for c in zip(empty, *tables.columns, strict=True)]
    none = np.empty(0, np.uint32)
    op, file, offset, length, time = columns
    return Trace(
        op=op,
        file=file,
        offset=offset,
        length=length,
        time=time,
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
        TraceError: `trace.not_a_trace`, `trace.version`, `trace.truncated`,
            `trace.damaged`, `trace.unreadable`; context has `path`, `offset`.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise TraceError(
            f"{path}: {error.strerror}", code="trace.unreadable", path=str(path), offset=0
        ) from error
    return parse_trace(data, str(path), partial=partial)
