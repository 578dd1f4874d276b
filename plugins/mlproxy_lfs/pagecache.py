"""From a recording to block writes: the page cache in between.

A program's writes reach a store only after the page cache: 4 KiB blocks, a
rewrite of a dirty block is absorbed, `fsync` writes that file's dirty blocks in
offset order, a full cache writes the file that was dirtied longest ago, and
dirty blocks of a deleted file are never written. No timer, no metadata.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlproxy.errors import TraceError
from mlproxy.trace.format import Op, Trace, read_trace

__all__ = ("TRIM", "WRITE", "BlockStream", "live_changes", "load_block_stream", "through_cache")

BLOCK = 4096
WRITE, TRIM = 0, 1
# 1 TiB of distinct blocks: more is a damaged or hostile recording, not a workload for this store.
MOST_BLOCKS = 1 << 28

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class BlockStream:
    """Block writes and trims in order, run-length coded.

    Attributes:
        op: uint8 per run, `WRITE` or `TRIM`.
        file: int32 per run, dense file ids from 0.
        block: int32 per run, index of the first block within the file.
        count: int32 per run, number of blocks.
        dir_id: int32 per file, directory.
        class_id: int32 per file, pattern of its name.
        writer: int32 per file, tenant.
        nr_files: number of files.
        live_peak_blocks: most blocks live at any time.
        blocks_written: sum of `count` over the writes.
    """

    op: U8
    file: I32
    block: I32
    count: I32
    dir_id: I32
    class_id: I32
    writer: I32
    nr_files: int
    live_peak_blocks: int
    blocks_written: int

    @property
    def nr_runs(self) -> int:
        """Number of runs."""
        return len(self.op)

    def file_bases(self) -> I64:
        """Where each file begins in a flat space of all blocks; one entry more than files."""
        sizes = np.zeros(self.nr_files, np.int64)
        np.maximum.at(sizes, self.file, self.block.astype(np.int64) + self.count)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def _lib() -> tuple[Any, Any]:
    try:
        from mlproxy_lfs._pagecache import ffi, lib
    except ImportError as error:
        raise TraceError(
            "the page cache model has not been built", code="trace.native", hint="run make setup"
        ) from error
    return ffi, lib


def _ptr(ffi: Any, ctype: str, array: NDArray[Any]) -> Any:
    return ffi.cast(ctype, array.ctypes.data)


def live_changes(
    stream: BlockStream, runs: slice, bases: I64, live: U8
) -> tuple[NDArray[np.int32], int]:
    """Replay runs on a map of live blocks.

    Args:
        stream: the runs.
        runs: which of them, step 1.
        bases: `stream.file_bases()`.
        live: uint8 of length `bases[-1]`, 0 or 1 per block; changed in place.

    Returns:
        By how much each run changed the number of live blocks, and the highest
        number above the start's.
    """
    ffi, lib = _lib()
    op, file = np.ascontiguousarray(stream.op[runs]), np.ascontiguousarray(stream.file[runs])
    block, count = stream.block[runs].copy(), stream.count[runs].copy()
    change = np.empty(len(op), np.int32)
    peak = lib.pc_live(
        _ptr(ffi, "uint8_t *", op),
        _ptr(ffi, "int32_t *", file),
        _ptr(ffi, "int32_t *", block),
        _ptr(ffi, "int32_t *", count),
        len(op),
        _ptr(ffi, "int64_t *", bases),
        _ptr(ffi, "uint8_t *", live),
        _ptr(ffi, "int32_t *", change),
    )
    return change, int(peak)


def with_peak(stream: BlockStream) -> BlockStream:
    """Return the stream with `live_peak_blocks` and `blocks_written` counted."""
    bases = stream.file_bases()
    live = np.zeros(int(bases[-1]) + 1, np.uint8)
    _, peak = live_changes(stream, slice(None), bases, live)
    written = int(stream.count[stream.op == WRITE].sum(dtype=np.int64))
    return replace(stream, live_peak_blocks=peak, blocks_written=written)


def through_cache(trace: Trace, cache_blocks: int = 4096) -> BlockStream:
    """Put a recording through the page cache.

    Args:
        trace: what was recorded.
        cache_blocks: how many dirty blocks the cache holds, 4096 are 16 MiB.

    Raises:
        TraceError: `trace.too_large` if the files have more than 2**28 blocks.
        ValueError: if the cache has no room for a block.
    """
    if cache_blocks < 1:
        raise ValueError("the cache needs room for at least one block")
    ffi, lib = _lib()
    has_data = (trace.op == Op.WRITE) | (trace.op == Op.CREATE)
    first = np.where(trace.op == Op.WRITE, trace.offset, 0)[has_data]
    end = (first + trace.length[has_data] + BLOCK - 1) // BLOCK
    sizes = np.zeros(trace.nr_files, np.int64)
    np.maximum.at(sizes, trace.file[has_data], end)
    touched = int(np.maximum(end - first // BLOCK, 0).sum(dtype=np.float64))
    if sizes.sum(dtype=np.float64) > MOST_BLOCKS or touched > MOST_BLOCKS:
        raise TraceError(
            "the recorded files are too large for the block store model",
            code="trace.too_large",
            hint=f"at most {MOST_BLOCKS} blocks of {BLOCK} bytes",
        )
    bases = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    # Every run out, write or trim, uses up at least one block written in; a cut block is one more.
    cut = int(np.count_nonzero(trace.op == Op.TRUNCATE))
    room = 2 * (touched + cut) + 16
    op, file = np.empty(room, np.uint8), np.empty(room, np.int32)
    block, count = np.empty(room, np.int32), np.empty(room, np.int32)
    columns = [np.ascontiguousarray(c) for c in (trace.op, trace.file, trace.offset, trace.length)]
    types = ("uint8_t *", "uint32_t *", "int64_t *", "int64_t *")
    events = ffi.new(
        "struct pc_event_columns *",
        [*(_ptr(ffi, t, c) for t, c in zip(types, columns, strict=True)), trace.nr_events],
    )
    runs = ffi.new(
        "struct pc_runs *",
        [
            _ptr(ffi, "uint8_t *", op), _ptr(ffi, "int32_t *", file),
            _ptr(ffi, "int32_t *", block), _ptr(ffi, "int32_t *", count), 0, room,
        ],
    )  # fmt: skip
    failed = lib.pc_run(events, _ptr(ffi, "int64_t *", bases), trace.nr_files, cache_blocks, runs)
    if failed:
        raise MemoryError("no memory for the page cache model")
    nr = int(runs.nr)
    return with_peak(
        BlockStream(
            op=op[:nr].copy(),
            file=file[:nr].copy(),
            block=block[:nr].copy(),
            count=count[:nr].copy(),
            dir_id=trace.dir_id.astype(np.int32),
            class_id=trace.class_id.astype(np.int32),
            writer=np.full(trace.nr_files, trace.tenant, np.int32),
            nr_files=trace.nr_files,
            live_peak_blocks=0,
            blocks_written=0,
        )
    )


def load_block_stream(path: str | Path, cache_blocks: int = 4096) -> BlockStream:
    """Read a recording and put it through the page cache.

    Raises:
        TraceError: as `mlproxy.trace.format.read_trace` and `through_cache` do.
    """
    return _cached(
        str(path), cache_blocks, Path(path).stat().st_mtime_ns if Path(path).exists() else 0
    )


@lru_cache(maxsize=8)
def _cached(path: str, cache_blocks: int, _changed: int) -> BlockStream:
    stream = through_cache(read_trace(path), cache_blocks)
    # All callers get the same arrays.
    for column in (stream.op, stream.file, stream.block, stream.count):
        column.setflags(write=False)
    for table in (stream.dir_id, stream.class_id, stream.writer):
        table.setflags(write=False)
    return stream
