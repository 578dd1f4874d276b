"""Fuzz the trace reader, and what turns a trace into blocks."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

from mlproxy.errors import TraceError
from mlproxy.trace import layout as fmt
from mlproxy.trace.format import Op, TraceWriter, parse_trace
from mlproxy.trace.info import describe
from mlproxy_lfs.pagecache import through_cache


def _seed(events: int, files: int) -> bytes:
    rng = np.random.default_rng(events)
    op = np.concatenate(
        [np.zeros(files, np.uint8), rng.integers(1, len(Op), events).astype(np.uint8)]
    )
    file = np.concatenate([np.arange(files), rng.integers(0, files, events)]).astype(np.uint32)
    size = len(op)
    out = io.BytesIO()
    writer = TraceWriter(out, level=1, meta={"command": ["sh"]})
    writer.chunk(
        op=op,
        file=file,
        offset=rng.integers(0, 1 << 20, size),
        length=rng.integers(0, 1 << 14, size),
        time=np.arange(size, dtype=np.int64) * 10,
        dir_id=np.zeros(files, np.uint32),
        class_id=np.zeros(files, np.uint32),
        new_dirs=["a"],
        new_classes=["b#"],
    )
    writer.finish({"lost": 0})
    return out.getvalue()


SEEDS: list[bytes] = [_seed(0, 1), _seed(5, 2), _seed(200, 9)]


def _with_right_checksums(data: bytes) -> bytes:
    """Mend header and frames, so that the mutation gets past the checksums."""
    out = bytearray(data)
    if len(out) < fmt.HEADER.size:
        return data
    at = fmt.HEADER.size + struct.unpack_from("<I", out, 20)[0]
    start = 0
    while at + 4 <= len(out):
        struct.pack_into("<I", out, at, zlib.crc32(out[start:at]))
        start = at + 4
        if start + fmt.FRAME.size > len(out):
            break
        at = start + fmt.FRAME.size + struct.unpack_from("<I", out, start + 16)[0]
    return bytes(out)


def _check_place(error: TraceError, text: bytes) -> None:
    assert 0 <= error.context["offset"] <= len(text)


def fuzz_one(data: bytes) -> None:
    """Any bytes are a trace or a TraceError that tells where; never anything else."""
    for text in (data, _with_right_checksums(data)):
        try:
            trace = parse_trace(text, partial=True)
        except TraceError as error:
            _check_place(error, text)
            continue
        if trace.damage is not None:
            _check_place(trace.damage, text)
        describe(trace)
        if trace.length[trace.op == Op.WRITE].sum(dtype=np.float64) > 1 << 34:
            continue  # a valid trace of more than 16 GiB takes longer than a fuzzer has
        try:
            stream = through_cache(trace, 64)
        except TraceError as error:
            if error.code != "trace.too_large":
                raise
            continue
        assert stream.live_peak_blocks <= stream.blocks_written
