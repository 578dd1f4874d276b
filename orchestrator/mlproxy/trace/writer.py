"""Write trace files."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import zstandard

from mlproxy.trace import layout
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
    U8,
    U32,
    VERSION,
    Op,
    Trace,
    pack_offsets,
    planes,
)

__all__ = ("TraceWriter", "write_trace")


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
        head = HEADER.pack(MAGIC, VERSION, 0, tenant, time_unit_us, len(text)) + text
        out.write(head + CRC.pack(zlib.crc32(head)))

    def _frame(self, kind: int, events: int, raw: bytes) -> None:
        body = self._zstd.compress(raw)
        frame = FRAME.pack(FRAME_MAGIC, kind, events, len(raw), len(body)) + body
        self._out.write(frame + CRC.pack(zlib.crc32(frame)))

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
            CHUNK.pack(len(op), len(dir_id), len(new_dirs), len(new_classes), self._last),
            op.tobytes(),
            planes(file.astype("<u4")),
            planes(pack_offsets(op, file, offset, length)),
            planes(length.astype("<u8")),
            planes(steps),
            planes(dir_id.astype("<u4")),
            planes(class_id.astype("<u4")),
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
        for start in range(0, trace.nr_events, layout.CHUNK_EVENTS):
            rows = slice(start, start + layout.CHUNK_EVENTS)
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


def write_trace(path: str | Path, trace: Trace, **summary: Any) -> None:
    """Write a trace in memory to a file."""
    with Path(path).open("wb") as out:
        writer = TraceWriter(
            out, tenant=trace.tenant, time_unit_us=trace.time_unit_us, meta=trace.meta
        )
        writer.write_all(trace)
        writer.finish({**trace.summary, **summary})
