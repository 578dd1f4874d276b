"""The page cache in C against a slow one that is plain to read."""

from __future__ import annotations

import numpy as np
import pytest

from mlproxy.errors import TraceError
from mlproxy.trace.format import Op, Trace
from mlproxy_lfs.pagecache import BLOCK, TRIM, WRITE, through_cache

Run = tuple[int, int, int, int]


class SlowCache:
    """One dictionary of dirty blocks per file; files in the order they were dirtied."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size: dict[int, int] = {}
        self.dirty: dict[int, set[int]] = {}
        self.stored: dict[int, set[int]] = {}
        self.out: list[Run] = []

    def emit(self, op: int, file: int, blocks: set[int]) -> None:
        for block in sorted(blocks):
            if self.out and self.out[-1][:2] == (op, file) and self.fresh:
                _, _, first, count = self.out[-1]
                if first + count == block:
                    self.out[-1] = (op, file, first, count + 1)
                    continue
            self.out.append((op, file, block, 1))
            self.fresh = True

    def flush(self, file: int, low: int = 0, high: int | None = None) -> None:
        dirty = self.dirty.get(file, set())
        chosen = {b for b in dirty if b >= low and (high is None or b < high)}
        self.fresh = False
        self.emit(WRITE, file, chosen)
        self.stored.setdefault(file, set()).update(chosen)
        dirty -= chosen
        if not dirty:
            self.dirty.pop(file, None)

    def touch(self, file: int, low: int, high: int) -> None:
        for block in range(low, high):
            if block in self.dirty.get(file, ()):
                continue
            if sum(map(len, self.dirty.values())) >= self.limit:
                self.flush(next(iter(self.dirty)))
            self.dirty.setdefault(file, set()).add(block)

    def drop(self, file: int, low: int, high: int | None = None) -> None:
        inside = lambda b: b >= low and (high is None or b < high)  # noqa: E731
        dirty = self.dirty.get(file, set())
        dirty -= {b for b in dirty if inside(b)}
        if not dirty:
            self.dirty.pop(file, None)
        stored = self.stored.get(file, set())
        gone = {b for b in stored if inside(b)}
        self.fresh = False
        self.emit(TRIM, file, gone)
        stored -= gone

    def step(self, op: int, file: int, offset: int, length: int) -> None:
        up = lambda n: -(-n // BLOCK)  # noqa: E731
        size = self.size.get(file, 0)
        if op == Op.CREATE:
            self.size[file] = length
            self.touch(file, 0, up(length))
        elif op == Op.WRITE and length:
            self.size[file] = max(size, offset + length)
            self.touch(file, offset // BLOCK, up(offset + length))
        elif op == Op.TRUNCATE:
            if offset < size:
                self.drop(file, up(offset))
                there = self.dirty.get(file, set()) | self.stored.get(file, set())
                if offset % BLOCK and offset // BLOCK in there:
                    self.touch(file, offset // BLOCK, offset // BLOCK + 1)
            self.size[file] = offset
        elif op in (Op.DELETE, Op.REPLACE):
            self.size[file] = 0
            self.drop(file, 0)
        elif op == Op.SYNC:
            self.flush(file, offset // BLOCK, up(offset + length) if length else None)
        elif op == Op.PUNCH:
            end = offset + length
            low, high = up(offset), None if end >= size else end // BLOCK
            if high is None or low < high:
                self.drop(file, low, high)
        elif op == Op.ALLOCATE:
            self.size[file] = max(size, offset + length)
        elif op == Op.SYNC_ALL:
            self.sync_all()

    def sync_all(self) -> None:
        while self.dirty:
            self.flush(next(iter(self.dirty)))


def events(seed: int, count: int = 400, files: int = 6) -> list[Run]:
    rng = np.random.default_rng(seed)
    rows: list[Run] = [(Op.CREATE, f, 0, int(rng.integers(0, 4)) * 3000) for f in range(files)]
    kinds = [Op.WRITE] * 12 + [o for o in Op if o != Op.CREATE]
    for _ in range(count):
        op = int(rng.choice(kinds))
        offset = int(rng.integers(0, 40 * BLOCK))
        if rng.random() < 0.5:
            offset -= offset % BLOCK
        length = int(rng.integers(0, 12 * BLOCK)) if rng.random() < 0.7 else 0
        rows.append((op, int(rng.integers(0, files)), offset, length))
    return rows


def as_trace(rows: list[Run]) -> Trace:
    op, file, offset, length = (np.array(c, np.int64) for c in zip(*rows, strict=True))
    files = int(np.count_nonzero(op == Op.CREATE))
    none = np.zeros(files, np.uint32)
    return Trace(
        op.astype(np.uint8), file.astype(np.uint32), offset, length, np.zeros_like(op), none, none,
        ("",), ("f",), tenant=3,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_the_model_agrees_with_the_slow_one(seed: int) -> None:
    rows = events(seed)
    limit = [1, 2, 7, 33, 4096][seed % 5]
    slow = SlowCache(limit)
    for row in rows:
        slow.step(*row)
    slow.sync_all()
    fast = through_cache(as_trace(rows), limit)
    got = list(
        zip(fast.op.tolist(), fast.file.tolist(), fast.block.tolist(), fast.count.tolist(),
            strict=True)
    )  # fmt: skip
    assert got == slow.out
    assert fast.blocks_written == sum(r[3] for r in slow.out if r[0] == WRITE)


@pytest.mark.parametrize("seed", range(5))
def test_the_peak_is_that_of_a_replay(seed: int) -> None:
    stream = through_cache(as_trace(events(seed)), 9)
    live: set[tuple[int, int]] = set()
    peak = 0
    rows = zip(stream.op, stream.file, stream.block, stream.count, strict=True)
    for op, file, block, count in rows:
        blocks = {(int(file), int(block) + k) for k in range(int(count))}
        live = live | blocks if op == WRITE else live - blocks
        peak = max(peak, len(live))
    assert stream.live_peak_blocks == peak


def test_a_rewrite_of_a_dirty_block_is_absorbed() -> None:
    rows = [(Op.CREATE, 0, 0, 0)] + [(Op.WRITE, 0, 0, 100)] * 50
    assert through_cache(as_trace(rows)).blocks_written == 1


def test_a_file_deleted_in_time_is_never_written() -> None:
    rows = [(Op.CREATE, 0, 0, 0), (Op.WRITE, 0, 0, 9000), (Op.DELETE, 0, 0, 0)]
    assert through_cache(as_trace(rows)).nr_runs == 0


def test_every_file_belongs_to_the_tenant() -> None:
    stream = through_cache(as_trace(events(1)))
    assert set(stream.writer.tolist()) == {3}
    assert stream.writer.dtype == stream.dir_id.dtype == stream.class_id.dtype == np.int32


@pytest.mark.parametrize("offset", [1 << 41, (1 << 61) - 5])
def test_a_file_too_large_for_the_model_is_refused(offset: int) -> None:
    rows = [(Op.CREATE, 0, 0, 0), (Op.WRITE, 0, offset, 4096)]
    with pytest.raises(TraceError) as caught:
        through_cache(as_trace(rows))
    assert caught.value.code == "trace.too_large"


@pytest.mark.parametrize("op", [Op.TRUNCATE, Op.SYNC, Op.PUNCH, Op.ALLOCATE, Op.MAP])
def test_ranges_far_beyond_the_file_do_no_harm(op: Op) -> None:
    far = 1 << 61
    rows = [(Op.CREATE, 0, 0, 0), (Op.CREATE, 1, 0, 0), (Op.WRITE, 0, 0, 8192),
            (Op.WRITE, 1, 0, 8192), (op, 0, far, 4096), (op, 0, 0, 1 << 44)]  # fmt: skip
    stream = through_cache(as_trace(rows))
    assert stream.count[(stream.file == 1) & (stream.op == WRITE)].sum() == 2


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        through_cache(as_trace(events(1)), 0)
