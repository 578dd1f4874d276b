"""Repeating, cutting and interleaving streams of block writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlproxy_lfs.pagecache import I32, I64, TRIM, U8, WRITE, BlockStream, live_changes, with_peak

__all__ = ("Looper", "Part", "Runs", "concat", "interleave")

TRIM_PIECE = 256


@dataclass(frozen=True)
class Runs:
    """The runs of a stream under construction; columns as in `BlockStream`."""

    op: U8
    file: I32
    block: I32
    count: I32

    def take(self, rows: slice | NDArray[np.int64]) -> Runs:
        """Some of the runs, in the order asked for."""
        return Runs(self.op[rows], self.file[rows], self.block[rows], self.count[rows])

    def shifted(self, files: int) -> Runs:
        """The runs with other file ids."""
        return Runs(self.op, self.file + np.int32(files), self.block, self.count)

    def inserted(self, where: NDArray[np.int64], other: Runs) -> Runs:
        """The runs with those of another before the given places."""
        return Runs(
            np.insert(self.op, where, other.op),
            np.insert(self.file, where, other.file),
            np.insert(self.block, where, other.block),
            np.insert(self.count, where, other.count),
        )

    def written(self) -> I64:
        """Blocks written up to and including each run."""
        return np.cumsum(np.where(self.op == WRITE, self.count, 0), dtype=np.int64)


def concat(parts: Sequence[Runs]) -> Runs:
    """One after the other."""
    return Runs(
        np.concatenate([p.op for p in parts]),
        np.concatenate([p.file for p in parts]),
        np.concatenate([p.block for p in parts]),
        np.concatenate([p.count for p in parts]),
    )


@dataclass(frozen=True)
class Part:
    """Runs of one tenant or copy, with the tables of its files."""

    runs: Runs
    dir_id: I32
    class_id: I32
    writer: I32
    span: float = 1.0  # the share of the whole time during which it writes


class Looper:
    """Repeats a stream with fresh files, never above its own peak of live blocks."""

    def __init__(self, stream: BlockStream) -> None:
        self.stream = stream
        self.runs = Runs(stream.op, stream.file, stream.block, stream.count)
        self.bases = stream.file_bases()
        self.at_end = np.zeros(int(self.bases[-1]) + 1, np.uint8)
        change, _ = live_changes(stream, slice(None), self.bases, self.at_end)
        self.highest = np.maximum.accumulate(np.cumsum(change, dtype=np.int64))
        self.written = self.runs.written()

    def extents(self, live: U8, op: int, most: int) -> Runs:
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
        return Runs(
            np.full(len(first), op, np.uint8),
            file.astype(np.int32),
            (first - self.bases[file]).astype(np.int32),
            count.astype(np.int32),
        )

    def wrapped(self) -> Runs:
        """The stream again, on fresh files, with the trims of the old ones where room is needed.

        Files of the new copy have ids from `nr_files` on. A piece of the old copy
        goes just before the first run whose live blocks would not fit beside it.
        """
        old = self.extents(self.at_end, TRIM, TRIM_PIECE)
        gone = np.cumsum(old.count, dtype=np.int64)
        room = self.stream.live_peak_blocks - (gone[-1] if len(gone) else 0)
        where = np.searchsorted(self.highest, room + gone - old.count, side="right")
        return self.runs.shifted(self.stream.nr_files).inserted(where, old)

    def play(self, writes: int, phase: float = 0.0) -> tuple[Runs, int]:
        """Play exactly `writes` block writes from a phase in [0, 1) on.

        What is live at that phase is written first. Returns the runs and how many
        times the stream's files are there.
        """
        start = int(np.searchsorted(self.written, phase * self.stream.blocks_written))
        live = np.zeros_like(self.at_end)
        live_changes(self.stream, slice(0, start), self.bases, live)
        head = self.extents(live, WRITE, TRIM_PIECE) if start else self.runs.take(slice(0, 0))
        parts = [head, self.runs.take(slice(start, None))]
        have = sum(int(p.count[p.op == WRITE].sum(dtype=np.int64)) for p in parts)
        again = self.wrapped() if have < writes else self.runs.take(slice(0, 0))
        copies = 1
        while have < writes:
            parts.append(again.shifted((copies - 1) * self.stream.nr_files))
            have += self.stream.blocks_written
            copies += 1
        return _cut(concat(parts), writes), copies

    def part(self, writes: int, phase: float, shift: tuple[int, int, int]) -> Part:
        """`play` with the file tables, whose dir, class and writer ids are shifted."""
        runs, copies = self.play(writes, phase)
        dirs, classes, writers = map(np.int32, shift)
        return Part(
            runs,
            np.tile(self.stream.dir_id + dirs, copies),
            np.tile(self.stream.class_id + classes, copies),
            np.tile(self.stream.writer + writers, copies),
        )


def _cut(runs: Runs, writes: int) -> Runs:
    """The runs up to exactly `writes` block writes."""
    total = runs.written()
    last = int(np.searchsorted(total, writes))
    if last >= len(total):
        return runs
    count = runs.count[: last + 1].copy()
    count[-1] -= total[last] - writes
    return Runs(runs.op[: last + 1], runs.file[: last + 1], runs.block[: last + 1], count)


def _bursts(
    runs: Runs, span: float, burst: tuple[int, int], rng: np.random.Generator
) -> tuple[Runs, I64, NDArray[np.float64]]:
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
    cut = Runs(
        runs.op[of],
        runs.file[of],
        np.where(is_write, runs.block[of] + (low - begin[of]), runs.block[of]).astype(np.int32),
        np.where(is_write, high - low, runs.count[of]).astype(np.int32),
    )
    per_burst = np.bincount(number, minlength=int(number[-1]) + 1 if len(number) else 0)
    used = len(per_burst)
    when = (edges[:used] + rng.random(used) * sizes[:used]) / max(total, 1) * span
    return cut, per_burst.astype(np.int64), when


def interleave(parts: Iterable[Part], burst: tuple[int, int], seed: int) -> BlockStream:
    """Play parts side by side, in bursts; the order within a part stays.

    Parts are taken one at a time, so a generator keeps memory low.
    """
    rng = np.random.default_rng([seed, 1])
    runs, per_burst, when, tables, files = [], [], [], [], 0
    for part in parts:
        cut, pieces, times = _bursts(part.runs, part.span, burst, rng)
        runs.append(cut.shifted(files))
        per_burst.append(pieces)
        when.append(times)
        tables.append((part.dir_id, part.class_id, part.writer))
        files += len(part.dir_id)
    order = np.argsort(np.concatenate(when), kind="stable")
    pieces = np.concatenate(per_burst)
    starts, sizes = (np.cumsum(pieces) - pieces)[order], pieces[order]
    shift = (starts - (np.cumsum(sizes) - sizes)).astype(np.int32)
    rows = np.repeat(shift, sizes)
    rows += np.arange(len(rows), dtype=np.int32)
    # Column by column: the streams are long, and only one more column is needed at a time.
    op = np.concatenate([r.op for r in runs])[rows]
    file = np.concatenate([r.file for r in runs])[rows]
    block = np.concatenate([r.block for r in runs])[rows]
    count = np.concatenate([r.count for r in runs])[rows]
    del runs, rows
    dir_id, class_id, writer = (np.concatenate(t) for t in zip(*tables, strict=True))
    return _assembled(Runs(op, file, block, count), dir_id, class_id, writer)


def _assembled(runs: Runs, dir_id: I32, class_id: I32, writer: I32) -> BlockStream:
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
