"""Mixing, looping and scaling keep what matters: order, content, and the bound on live blocks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproxy.errors import TraceError
from mlproxy_lfs import recorded
from mlproxy_lfs.compose import Looper
from mlproxy_lfs.pagecache import TRIM, WRITE, BlockStream, load_block_stream, with_peak
from mlproxy_lfs.recorded import RECORDINGS, mix, recorded_workloads, scale


def a_stream(seed: int, runs: int = 300, files: int = 8) -> BlockStream:
    """Random writes and trims; what is not live is not trimmed."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, int, int, int]] = []
    live: dict[int, int] = {}
    for _ in range(runs):
        file = int(rng.integers(0, files))
        if file in live and rng.random() < 0.2:
            rows.append((TRIM, file, 0, live.pop(file)))
            continue
        have = live.get(file, 0)
        block = int(rng.integers(0, have + 1))
        count = int(rng.integers(1, 20))
        rows.append((WRITE, file, block, count))
        live[file] = max(have, block + count)
    op, file, block, count = (np.array(c) for c in zip(*rows, strict=True))
    return with_peak(
        BlockStream(
            op.astype(np.uint8), file.astype(np.int32), block.astype(np.int32),
            count.astype(np.int32), np.arange(files, dtype=np.int32) % 3,
            np.arange(files, dtype=np.int32) % 2, np.zeros(files, np.int32), files, 0, 0,
        )
    )  # fmt: skip


def replay(stream: BlockStream) -> tuple[int, int]:
    """(highest number of live blocks, blocks written), the slow way."""
    live: set[tuple[int, int]] = set()
    peak = written = 0
    rows = zip(
        stream.op.tolist(), stream.file.tolist(), stream.block.tolist(), stream.count.tolist(),
        strict=True,
    )  # fmt: skip
    for op, file, block, count in rows:
        blocks = {(file, block + k) for k in range(count)}
        if op == WRITE:
            live |= blocks
            written += count
            peak = max(peak, len(live))
        else:
            assert blocks <= live, "a trim of what is not live"
            live -= blocks
    return peak, written


def per_block(stream: BlockStream, writer: int) -> list[tuple[int, int, int]]:
    """The writes of one tenant block by block: (directory, class, block)."""
    keep = (stream.writer[stream.file] == writer) & (stream.op == WRITE)
    out = []
    for file, block, count in zip(
        stream.file[keep].tolist(), stream.block[keep].tolist(), stream.count[keep].tolist(),
        strict=True,
    ):  # fmt: skip
        tables = (int(stream.dir_id[file]), int(stream.class_id[file]))
        out += [(*tables, block + k) for k in range(count)]
    return out


def equal(a: BlockStream, b: BlockStream) -> bool:
    return all(
        np.array_equal(getattr(a, n), getattr(b, n))
        for n in ("op", "file", "block", "count", "dir_id", "class_id", "writer")
    )


@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.5, 1.0), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_a_scaled_stream_never_exceeds_its_share(shape, times, utilisation, seed) -> None:
    stream = a_stream(shape)
    capacity = int(stream.live_peak_blocks * (1 + times / 2) / utilisation) + 1
    out = scale(stream, capacity, times * capacity, seed, utilisation)
    peak, written = replay(out)
    assert peak == out.live_peak_blocks <= int(capacity * utilisation)
    assert times * capacity <= written == out.blocks_written
    assert written - times * capacity < 64  # whole copies round up, no more
    assert out.nr_files == len(out.writer) == len(out.dir_id) == len(out.class_id)
    assert set(out.file.tolist()) == set(range(out.nr_files))


def test_a_stream_alone_is_played_as_it_is() -> None:
    stream = a_stream(5)
    runs, copies = Looper(stream).play(stream.blocks_written)
    assert copies == 1
    upto = len(runs.op)
    for name in ("op", "file", "block", "count"):
        np.testing.assert_array_equal(getattr(runs, name), getattr(stream, name)[:upto])
    assert not (stream.op[upto:] == WRITE).any()


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.99])
def test_a_loop_repeats_the_writes_on_fresh_files(phase: float) -> None:
    stream = a_stream(6)
    runs, copies = Looper(stream).play(3 * stream.blocks_written, phase)
    assert copies >= 3
    wrap = stream.nr_files
    last = (runs.file >= wrap) & (runs.file < 2 * wrap) & (runs.op == WRITE)
    writes = stream.op == WRITE
    np.testing.assert_array_equal(runs.file[last] - wrap, stream.file[writes])
    np.testing.assert_array_equal(runs.block[last], stream.block[writes])
    np.testing.assert_array_equal(runs.count[last], stream.count[writes])


def test_the_old_copy_goes_only_as_the_new_one_needs_room() -> None:
    stream = a_stream(7)
    runs, _ = Looper(stream).play(3 * stream.blocks_written)
    none = np.zeros(3 * stream.nr_files + 99, np.int32)
    whole = BlockStream(
        runs.op, runs.file, runs.block, runs.count, none, none, none, len(none), 0, 0
    )
    assert replay(whole)[0] == stream.live_peak_blocks


def test_a_mix_keeps_each_tenants_order_and_content() -> None:
    streams = [a_stream(s) for s in (1, 2, 3)]
    out = mix(streams, [1.0, 2.0, 1.0], seed=4)
    dirs = classes = 0
    for tenant, stream in enumerate(streams):
        got = per_block(out, tenant)
        alone = [(d + dirs, c + classes, b) for d, c, b in per_block(stream, 0)]
        assert got[: len(alone)] == alone[: len(got)]
        assert len(got) >= len(alone)
        dirs += int(stream.dir_id.max()) + 1
        classes += int(stream.class_id.max()) + 1
    shares = [len(per_block(out, t)) for t in range(3)]
    assert abs(shares[1] / shares[0] - 2.0) < 0.02
    assert replay(out) == (out.live_peak_blocks, out.blocks_written)


def test_tenants_take_turns_in_bursts() -> None:
    out = mix([a_stream(1, 3000), a_stream(2, 3000)], [1.0, 1.0], seed=4, burst=(1, 9))
    tenant = np.repeat(out.writer[out.file], np.where(out.op == WRITE, out.count, 0))
    changes = int(np.count_nonzero(np.diff(tenant)))
    assert len(tenant) / 20 < changes < len(tenant) / 4
    half = len(tenant) // 2
    assert abs(tenant[:half].mean() - 0.5) < 0.02


def test_the_seed_changes_the_order_and_the_same_one_does_not() -> None:
    stream = a_stream(8)
    capacity = 3 * stream.live_peak_blocks
    one, same, other = (scale(stream, capacity, 5 * capacity, seed) for seed in (1, 1, 2))
    assert equal(one, same)
    assert not equal(one, other)


def test_copies_have_writers_and_directories_of_their_own_and_share_classes() -> None:
    stream = a_stream(9)
    capacity = 7 * stream.live_peak_blocks
    out = scale(stream, capacity, 4 * capacity, seed=1)
    copies = int(capacity * 0.995 * 2 / 3) // stream.live_peak_blocks
    assert set(out.writer.tolist()) == set(range(copies))
    for writer in range(copies):
        mine = out.writer == writer
        assert set((out.dir_id[mine] // 3).tolist()) == {writer}
    assert set(out.class_id.tolist()) == {0, 1}


def test_cold_files_are_written_once_and_early() -> None:
    stream = a_stream(10)
    capacity = 5 * stream.live_peak_blocks
    out = scale(stream, capacity, 10 * capacity, seed=1)
    writes = np.where(out.op == WRITE, out.count, 0)
    total = np.bincount(out.file, weights=writes, minlength=out.nr_files)
    cold = np.flatnonzero(np.diff(out.file_bases()) > np.diff(stream.file_bases()).max())
    assert set(out.op[np.isin(out.file, cold)].tolist()) == {WRITE}
    assert set(out.writer[cold].tolist()) == {0}
    copies = int(capacity * 0.995 * 2 / 3) // stream.live_peak_blocks
    assert total[cold].sum() == int(capacity * 0.995) - copies * stream.live_peak_blocks
    when = np.cumsum(writes)
    last = when[np.isin(out.file, cold)].max()
    assert 1.2 * capacity < last <= 1.6 * capacity


@pytest.mark.parametrize("capacity", [0, 10])
def test_what_does_not_fit_is_refused(capacity: int) -> None:
    with pytest.raises(TraceError) as caught:
        scale(a_stream(1), capacity, 100, 1)
    assert caught.value.code == "trace.does_not_fit"


@pytest.mark.parametrize("rates", [[1.0], [1.0, 0.0], []])
def test_rates_that_make_no_sense_are_refused(rates) -> None:
    with pytest.raises(ValueError, match="rates"):
        mix([a_stream(1), a_stream(2)], rates, 1)


MANIFEST = json.loads((RECORDINGS / "manifest.json").read_text())


def test_the_recordings_are_those_of_the_manifest_and_small_enough() -> None:
    import hashlib

    files = {p.stem: p for p in RECORDINGS.glob("*.trace")}
    assert set(files) == set(MANIFEST) == set(recorded.SINGLE)
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == MANIFEST[name]["sha256"]
        assert MANIFEST[name]["sizes"]["differ"] == MANIFEST[name]["lost"] == 0
    assert sum(p.stat().st_size for p in files.values()) <= 10 << 20


def test_the_readme_has_the_figures_of_the_manifest() -> None:
    lines = (RECORDINGS / "README.md").read_text().splitlines()
    keys = ("events", "files", "block_writes_before_cache", "block_writes", "runs",
            "live_peak_blocks", "file_bytes")  # fmt: skip
    for name, row in MANIFEST.items():
        assert f"| `{name}` | " + " | ".join(f"{row[k]:,}" for k in keys) + " |" in lines


def test_what_is_loaded_twice_is_shared_and_cannot_be_changed() -> None:
    stream = load_block_stream(RECORDINGS / "lsm.trace")
    assert load_block_stream(RECORDINGS / "lsm.trace") is stream
    with pytest.raises(ValueError, match="read-only"):
        stream.block[0] = 1


@pytest.mark.parametrize("name", recorded.SINGLE)
def test_a_recording_gives_the_blocks_of_the_manifest(name: str) -> None:
    stream = load_block_stream(RECORDINGS / f"{name}.trace")
    row = MANIFEST[name]
    assert stream.blocks_written == row["block_writes"]
    assert stream.live_peak_blocks == row["live_peak_blocks"]


def test_all_workloads_fit_a_small_store() -> None:
    capacity = 114_688
    workloads = recorded_workloads()
    assert list(workloads) == [*recorded.SINGLE, "mix-office", "mix-server"]
    for name, workload in workloads.items():
        out = workload(1, capacity, 2 * capacity)
        assert out.live_peak_blocks <= int(capacity * 0.995), name
        assert out.blocks_written >= 2 * capacity, name
        assert Path(RECORDINGS / "README.md").read_text().count(f"`{name}`"), name
