"""Recorded workloads: mixed, looped and scaled onto a store of any size.

What the seed varies is how copies and tenants interleave, in which phase each
copy starts, and where the cold files lie; never the recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlproxy_lfs.pagecache import (
    I32,
    I64,
    TRIM,
    U8,
    WRITE,
    BlockStream,
    live_changes,
    load_block_stream,
    with_peak,
)

__all__ = ("BlockStream", "load_block_stream", "mix", "recorded_workloads", "scale")

RECORDINGS = Path(__file__).with_name("recordings")
BURST = (1, 127)
# A cold file, and how much of the store its copies and the cold part get.
COLD_FILE_BLOCKS = 1024
ACTIVE_SHARE = 2 / 3
TRIM_PIECE = 256


class _Runs(NamedTuple):
    """The runs of a stream under construction."""

    op: U8
    file: I32
    block: I32
    count: I32

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> _Runs:  # type: ignore[override]
        return _Runs(*(column[rows] for column in tuple(self)))


def _concat(parts: Sequence[_Runs]) -> _Runs:
    return _Runs(*(np.concatenate(columns) for columns in zip(*map(tuple, parts), strict=True)))


@dataclass(frozen=True)
class _Part:
    """Runs of one tenant or copy, with the tables of its files."""

    runs: _Runs
    dir_id: I32
    class_id: I32
    writer: I32
    span: float = 1.0  # the share of the whole time during which it writes


class _Looper:
    """Repeats a stream with fresh files, never above its own peak of live blocks."""

    def __init__(self, stream: BlockStream) -> None:
        self.stream = stream
        self.runs = _Runs(stream.op, stream.file, stream.block, stream.count)
        self.bases = stream.file_bases()
        self.at_end = np.zeros(int(self.bases[-1]) + 1, np.uint8)
        change, _ = live_changes(stream, slice(None), self.bases, self.at_end)
        self.highest = np.maximum.accumulate(np.cumsum(change, dtype=np.int64))
        self.written = np.cumsum(np.where(stream.op == WRITE, stream.count, 0), dtype=np.int64)

    def extents(self, live: U8, op: int, most: int) -> _Runs:
        """The live blocks as runs of at most `most` blocks, in order of the files."""
        on = np.concatenate([[False], live[: int(self.bases[-1])] != 0, [False]])
        edge = np.zeros(len(on), bool)
        edge[self.bases + 1] = True  # a file's first block, shifted by the guard in front
        begin = np.flatnonzero(on[1:-1] & (~on[:-2] | edge[1:-1]))
        end = np.flatnonzero(on[1:-1] & (~on[2:] | edge[2:])) + 1
        pieces = -(-(end - begin) // most)
        nth = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        first = np.repeat(begin, pieces) + nth * most
        count = np.minimum(np.repeat(end, pieces) - first, most)
        file = np.searchsorted(self.bases, first, side="right") - 1
        return _Runs(
            np.full(len(first), op, np.uint8),
            file.astype(np.int32),
            (first - self.bases[file]).astype(np.int32),
            count.astype(np.int32),
        )

    def wrapped(self) -> _Runs:
        """The stream again, on fresh files, with the trims of the old ones where room is needed.

        Files of the new copy have ids from `nr_files` on. A piece of the old copy
        goes just before the first run whose live blocks would not fit beside it.
        """
        old = self.extents(self.at_end, TRIM, TRIM_PIECE)
        gone = np.cumsum(old.count, dtype=np.int64)
        room = self.stream.live_peak_blocks - (gone[-1] if len(gone) else 0)
        where = np.searchsorted(self.highest, room + gone - old.count, side="right")
        fresh = self.runs._replace(file=self.runs.file + np.int32(self.stream.nr_files))
        return _Runs(*(np.insert(f, where, o) for f, o in zip(fresh, old, strict=True)))

    def play(self, writes: int, phase: float = 0.0) -> tuple[_Runs, int]:
        """Play exactly `writes` block writes from a phase in [0, 1) on.

        What is live at that phase is written first. Returns the runs and how many
        times the stream's files are there.
        """
        start = int(np.searchsorted(self.written, phase * self.stream.blocks_written))
        live = np.zeros_like(self.at_end)
        live_changes(self.stream, slice(0, start), self.bases, live)
        head = self.extents(live, WRITE, TRIM_PIECE) if start else self.runs[:0]
        parts = [head, self.runs[start:]]
        have = sum(int(p.count[p.op == WRITE].sum(dtype=np.int64)) for p in parts)
        again = self.wrapped() if have < writes else self.runs[:0]
        copies = 1
        while have < writes:
            shift = np.int32((copies - 1) * self.stream.nr_files)
            parts.append(again._replace(file=again.file + shift))
            have += self.stream.blocks_written
            copies += 1
        return _cut(_concat(parts), writes), copies

    def part(self, writes: int, phase: float, shift: tuple[int, int, int]) -> _Part:
        """`play` with the file tables, whose dir, class and writer ids are shifted."""
        runs, copies = self.play(writes, phase)
        tables = (self.stream.dir_id, self.stream.class_id, self.stream.writer)
        return _Part(
            runs, *(np.tile(t + np.int32(by), copies) for t, by in zip(tables, shift, strict=True))
        )


def _cut(runs: _Runs, writes: int) -> _Runs:
    """The runs up to exactly `writes` block writes."""
    total = np.cumsum(np.where(runs.op == WRITE, runs.count, 0), dtype=np.int64)
    last = int(np.searchsorted(total, writes))
    if last >= len(total):
        return runs
    out = runs[: last + 1]
    count = out.count.copy()
    count[-1] -= total[last] - writes
    return out._replace(count=count)


def _bursts(
    runs: _Runs, span: float, burst: tuple[int, int], rng: np.random.Generator
) -> tuple[_Runs, I64, NDArray[np.float64]]:
    """Cut runs at the edges of random bursts; return them, pieces per burst, time per burst."""
    counts = np.where(runs.op == WRITE, runs.count, 0).astype(np.int64)
    total = int(counts.sum())
    sizes = rng.integers(burst[0], burst[1] + 1, 2 * total // (burst[0] + burst[1]) + 64)
    while sizes.sum() <= total:
        sizes = np.concatenate([sizes, rng.integers(burst[0], burst[1] + 1, 64 + len(sizes) // 8)])
    edges = np.concatenate([[0], np.cumsum(sizes)])
    begin = np.cumsum(counts) - counts
    first = np.searchsorted(edges, begin, side="right") - 1
    last = np.searchsorted(edges, begin + np.maximum(counts, 1) - 1, side="right") - 1
    pieces = last - first + 1
    of = np.repeat(np.arange(len(counts)), pieces)
    number = first[of] + np.arange(len(of)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    is_write = runs.op[of] == WRITE
    low = np.maximum(begin[of], edges[number])
    high = np.minimum(begin[of] + counts[of], edges[number + 1])
    cut = _Runs(
        runs.op[of],
        runs.file[of],
        np.where(is_write, runs.block[of] + (low - begin[of]), runs.block[of]).astype(np.int32),
        np.where(is_write, high - low, runs.count[of]).astype(np.int32),
    )
    per_burst = np.bincount(number, minlength=int(number[-1]) + 1 if len(number) else 0)
    used = len(per_burst)
    when = (edges[:used] + rng.random(used) * sizes[:used]) / max(total, 1) * span
    return cut, per_burst.astype(np.int64), when


def _interleave(parts: Sequence[_Part], burst: tuple[int, int], seed: int) -> BlockStream:
    """Play parts side by side, in bursts; the order within a part stays."""
    rng = np.random.default_rng([seed, 1])
    runs, per_burst, when, files = [], [], [], 0
    for part in parts:
        cut, pieces, times = _bursts(part.runs, part.span, burst, rng)
        runs.append(cut._replace(file=cut.file + np.int32(files)))
        per_burst.append(pieces)
        when.append(times)
        files += len(part.dir_id)
    pieces = np.concatenate(per_burst)
    order = np.argsort(np.concatenate(when), kind="stable")
    starts = (np.cumsum(pieces) - pieces)[order]
    sizes = pieces[order]
    take = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
    merged = _concat(runs)[take]
    return _assembled(
        merged,
        np.concatenate([p.dir_id for p in parts]),
        np.concatenate([p.class_id for p in parts]),
        np.concatenate([p.writer for p in parts]),
    )


def _assembled(runs: _Runs, dir_id: I32, class_id: I32, writer: I32) -> BlockStream:
    """Drop files that are not used, number the others densely, count the peak."""
    used = np.zeros(len(dir_id), bool)
    used[runs.file] = True
    number = (np.cumsum(used) - 1).astype(np.int32)
    return with_peak(
        BlockStream(
            op=runs.op,
            file=number[runs.file],
            block=runs.block,
            count=runs.count,
            dir_id=dir_id[used],
            class_id=class_id[used],
            writer=writer[used],
            nr_files=int(used.sum()),
            live_peak_blocks=0,
            blocks_written=0,
        )
    )


def _width(table: I32) -> int:
    return int(table.max(initial=-1)) + 1


def mix(
    streams: Sequence[BlockStream],
    rates: Sequence[float],
    seed: int,
    burst: tuple[int, int] = BURST,
) -> BlockStream:
    """Let several tenants write side by side.

    Args:
        streams: one per tenant; stream i becomes writer i, and files, directories
            and classes of different streams are different.
        rates: relative block writes per time; a stream that ends before the
            slowest one is looped with fresh files.
        seed: of the interleaving.
        burst: smallest and largest number of blocks that a tenant writes in turn.
    """
    if len(streams) != len(rates) or not streams or min(rates) <= 0:
        raise ValueError("as many positive rates as streams are needed, and at least one")
    duration = max(s.blocks_written / r for s, r in zip(streams, rates, strict=True))
    parts = []
    dirs = classes = 0
    for tenant, (stream, rate) in enumerate(zip(streams, rates, strict=True)):
        alone = _Looper(_of_one(stream)).part(round(duration * rate), 0.0, (dirs, classes, tenant))
        parts.append(alone)
        dirs += _width(stream.dir_id)
        classes += _width(stream.class_id)
    return _interleave(parts, burst, seed)


def _of_one(stream: BlockStream) -> BlockStream:
    """The stream with writer 0 for all files."""
    from dataclasses import replace

    return replace(stream, writer=np.zeros_like(stream.writer))


def scale(
    stream: BlockStream,
    capacity_blocks: int,
    total_writes: int,
    seed: int,
    utilisation: float = 0.995,
    burst: tuple[int, int] = BURST,
) -> BlockStream:
    """Fit a stream onto a store and make it long enough.

    As many copies as have room in two thirds of the store run side by side, each
    with its own writers, files and directories and in a phase of its own, and are
    looped with fresh files. The rest is filled with cold files during the first
    1.5 capacities; these pass for files of the first copy, since a tenant that is
    only ever cold would make learned placement look better than it is.

    Args:
        stream: recording or mix.
        capacity_blocks: logical blocks of the store.
        total_writes: block writes to make.
        seed: of phases, interleaving and cold files.
        utilisation: share of the capacity that is never exceeded.
        burst: as for `mix`.

    Raises:
        ValueError: if the stream's live peak does not fit, or nothing is written.
    """
    limit = int(capacity_blocks * utilisation)
    peak = stream.live_peak_blocks
    if not 0 < peak <= limit:
        raise ValueError(f"a live peak of {peak} blocks does not fit into {limit} blocks")
    rng = np.random.default_rng([seed, 0])
    copies = max(1, int(limit * ACTIVE_SHARE) // peak)
    cold = min(limit - copies * peak, total_writes)
    each = -(-(total_writes - cold) // copies)
    looper = _Looper(stream)
    dirs, writers = _width(stream.dir_id), _width(stream.writer)
    shift = rng.random()
    parts = [
        # Classes are patterns of names: the same program has the same ones in every copy.
        looper.part(each, (k + shift) / copies % 1.0, (k * dirs, 0, k * writers))
        for k in range(copies)
        if each
    ]
    if cold:
        parts.append(_cold(stream, cold, min(1.0, 1.5 * capacity_blocks / total_writes)))
    return _interleave(parts, burst, seed)


def _cold(stream: BlockStream, blocks: int, span: float) -> _Part:
    files = -(-blocks // COLD_FILE_BLOCKS)
    count = np.full(files, COLD_FILE_BLOCKS, np.int32)
    count[-1] = blocks - (files - 1) * COLD_FILE_BLOCKS
    return _Part(
        _Runs(
            np.full(files, WRITE, np.uint8),
            np.arange(files, dtype=np.int32),
            np.zeros(files, np.int32),
            count,
        ),
        *(np.full(files, t[0], np.int32) for t in (stream.dir_id, stream.class_id, stream.writer)),
        span=span,
    )


# Fixed before anything was measured on them.
SINGLE = ("sqlite-wal", "sqlite-delete", "lsm", "git", "mail", "pip")
MIXES: dict[str, tuple[str, ...]] = {
    "mix-office": ("mail", "sqlite-wal", "git", "sqlite-delete"),
    "mix-server": ("lsm", "sqlite-wal", "mail", "pip"),
}


def _single(name: str, seed: int, capacity: int, total: int) -> BlockStream:
    return scale(load_block_stream(RECORDINGS / f"{name}.trace"), capacity, total, seed)


def _mixed(name: str, seed: int, capacity: int, total: int) -> BlockStream:
    streams = [load_block_stream(RECORDINGS / f"{tenant}.trace") for tenant in MIXES[name]]
    return scale(mix(streams, [1.0] * len(streams), seed), capacity, total, seed)


def recorded_workloads() -> dict[str, Callable[[int, int, int], BlockStream]]:
    """All recorded workloads: name -> function of (seed, capacity in blocks, block writes)."""
    return {name: partial(_single, name) for name in SINGLE} | {
        name: partial(_mixed, name) for name in MIXES
    }
