"""Recorded workloads: mixed, looped and scaled onto a store of any size.

What the seed varies is how copies and tenants interleave, in which phase each
copy starts, and where the cold files lie; never the recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from mlproxy.errors import TraceError
from mlproxy_lfs.compose import Looper, Part, Runs, interleave
from mlproxy_lfs.pagecache import I32, WRITE, BlockStream, load_block_stream

__all__ = ("BlockStream", "load_block_stream", "mix", "recorded_workloads", "scale")

RECORDINGS = Path(__file__).with_name("recordings")
BURST = (1, 127)
# The share of the store that copies of the stream get, at most; the rest is cold files.
ACTIVE_SHARE = 2 / 3
COLD_FILE_BLOCKS = 1024
COLD_CAPACITIES = 1.5


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
        alone = Looper(_of_one(stream)).part(round(duration * rate), 0.0, (dirs, classes, tenant))
        parts.append(alone)
        dirs += _width(stream.dir_id)
        classes += _width(stream.class_id)
    return interleave(parts, burst, seed)


def _of_one(stream: BlockStream) -> BlockStream:
    """The stream with writer 0 for all files."""
    return replace(stream, writer=np.zeros_like(stream.writer))


def scale(
    stream: BlockStream,
    capacity_blocks: int,
    total_writes: int,
    seed: int,
    utilisation: float = 0.995,
    *,
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
        TraceError: `trace.does_not_fit` if the live peak is higher, or nothing is written.
    """
    limit = int(capacity_blocks * utilisation)
    peak = stream.live_peak_blocks
    if not 0 < peak <= limit:
        raise TraceError(
            f"a stream with a live peak of {peak} blocks does not fit into {limit} blocks",
            code="trace.does_not_fit",
            hint="take a larger store or another recording" if peak else "nothing is written in it",
        )
    rng = np.random.default_rng([seed, 0])
    copies = max(1, int(limit * ACTIVE_SHARE) // peak)
    cold = min(limit - copies * peak, total_writes)
    each = -(-(total_writes - cold) // copies)
    looper = Looper(stream)
    dirs, writers = _width(stream.dir_id), _width(stream.writer)
    shift = rng.random()

    def parts() -> Iterator[Part]:
        for k in range(copies if each else 0):
            # Classes are patterns of names: the same program has the same ones in every copy.
            yield looper.part(each, (k + shift) / copies % 1.0, (k * dirs, 0, k * writers))
        if cold:
            # The copies write at an even pace; it is when they and the cold files, together,
            # have written that many capacities.
            over = (COLD_CAPACITIES * capacity_blocks - cold) / max(total_writes - cold, 1)
            yield _cold(stream, cold, min(1.0, over))

    out = interleave(parts(), burst, seed)
    assert out.live_peak_blocks <= limit
    return out


def _cold(stream: BlockStream, blocks: int, span: float) -> Part:
    files = -(-blocks // COLD_FILE_BLOCKS)
    count = np.full(files, COLD_FILE_BLOCKS, np.int32)
    count[-1] = blocks - (files - 1) * COLD_FILE_BLOCKS
    return Part(
        Runs(
            np.full(files, WRITE, np.uint8),
            np.arange(files, dtype=np.int32),
            np.zeros(files, np.int32),
            count,
        ),
        np.full(files, stream.dir_id[0], np.int32),
        np.full(files, stream.class_id[0], np.int32),
        np.full(files, stream.writer[0], np.int32),
        span=span,
    )


# Fixed before anything was measured on them.
SINGLE = ("sqlite-wal", "sqlite-delete", "lsm", "git", "mail", "pip")
# Tenants and their relative rates of block writes.
MIXES: dict[str, dict[str, float]] = {
    "mix-office": {"mail": 1.0, "sqlite-wal": 1.0, "git": 0.5, "sqlite-delete": 1.0},
    "mix-server": {"lsm": 1.0, "sqlite-wal": 1.0, "mail": 1.0, "pip": 0.5},
}


def _single(name: str, seed: int, capacity: int, total: int) -> BlockStream:
    return scale(load_block_stream(RECORDINGS / f"{name}.trace"), capacity, total, seed)


def _mixed(name: str, seed: int, capacity: int, total: int) -> BlockStream:
    streams = [load_block_stream(RECORDINGS / f"{tenant}.trace") for tenant in MIXES[name]]
    return scale(mix(streams, list(MIXES[name].values()), seed), capacity, total, seed)


def recorded_workloads() -> dict[str, Callable[[int, int, int], BlockStream]]:
    """All recorded workloads: name -> function of (seed, capacity in blocks, block writes)."""
    workloads: dict[str, Callable[[int, int, int], BlockStream]] = {}
    workloads.update((name, partial(_single, name)) for name in SINGLE)
    workloads.update((name, partial(_mixed, name)) for name in MIXES)
    return workloads
