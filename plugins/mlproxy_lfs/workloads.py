"""The write streams by name, recorded and synthetic, ready for the simulator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlproxy.errors import TraceError
from mlproxy_lfs._store import ffi, lib
from mlproxy_lfs.recorded import BlockStream, load_block_stream, recorded_workloads, scale
from mlproxy_lfs.synthetic import SYNTHETIC, synthetic_blocks

__all__ = (
    "FILE",
    "OP",
    "Workload",
    "load_workload",
    "resolve",
    "workload_from_trace",
    "workload_names",
)

OP = np.dtype([("block", "<u4"), ("file", "<u4"), ("count", "<u4"), ("trim", "<u4")])
FILE = np.dtype([("tenant", "<i4"), ("dir", "<i4"), ("cls", "<i4"), ("blocks", "<u4")])


@dataclass(frozen=True)
class Workload:
    """A stream of runs in the engine's own block numbers.

    Attributes:
        name: what it is called in results.
        capacity: logical blocks of the store that it is scaled for.
        writes: block writes in all.
        ops: structured array of `OP`, in order.
        files: structured array of `FILE`, one row per file.
        nr_blocks: block numbers in use.
    """

    name: str
    capacity: int
    writes: int
    ops: npt.NDArray[np.void]
    files: npt.NDArray[np.void]
    nr_blocks: int

    @property
    def groups(self) -> tuple[int, int, int]:
        """How many tenants, directories and file classes there are."""
        return tuple(int(self.files[key].max()) + 1 for key in ("tenant", "dir", "cls"))  # type: ignore[return-value]


def _dense(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    return np.unique(ids, return_inverse=True)[1].astype(np.int32)


def resolve(name: str, stream: BlockStream, capacity: int) -> Workload:
    """Give the stream's (file, block) pairs block numbers that TRIM frees again.

    Args:
        name: of the workload.
        stream: runs of file blocks, writes and trims, in order.
        capacity: logical blocks of the store.

    Raises:
        TraceError: `trace.stream` when a run lies outside of its file, a column has another
            length than the rest, or there are no writes.
    """
    tables = (stream.dir_id, stream.class_id, stream.writer)
    columns = (stream.op, stream.file, stream.block, stream.count)
    if {len(c) for c in columns} != {len(stream.op)} or {len(t) for t in tables} != {
        stream.nr_files
    }:
        raise _damaged(name, "its columns are not equally long")
    if len(stream.op) and not 0 <= stream.file.min() <= stream.file.max() < stream.nr_files:
        raise _damaged(name, f"a run names a file outside of 0..{stream.nr_files - 1}")
    blocks = np.zeros(stream.nr_files, np.int64)
    np.maximum.at(blocks, stream.file, stream.block.astype(np.int64) + stream.count)
    sizes = blocks.clip(0, np.iinfo(np.uint32).max).astype(np.uint32)
    ops = np.zeros(len(stream.op), OP)
    nr_blocks = lib.lfs_resolve(
        len(ops),
        *(
            ffi.from_buffer(f"{kind}_t[]", np.ascontiguousarray(column, kind))
            for kind, column in zip(("uint8", "int32", "int32", "int32"), columns, strict=True)
        ),
        stream.nr_files,
        ffi.from_buffer("uint32_t[]", sizes),
        ffi.cast("struct lfs_op *", ops.ctypes.data),
    )
    if not nr_blocks:
        raise _damaged(name, "a run lies outside of its file, or nothing is written")
    files = np.zeros(stream.nr_files, FILE)
    files["tenant"] = _dense(stream.writer)
    files["dir"] = _dense(stream.dir_id)
    files["cls"] = _dense(stream.class_id)
    files["blocks"] = sizes
    writes = int(ops["count"][ops["trim"] == 0].sum(dtype=np.int64))
    return Workload(name, capacity, writes, ops, files, int(nr_blocks))


def _damaged(name: str, what: str) -> TraceError:
    return TraceError(
        f"workload {name}: {what}",
        code="trace.stream",
        hint="the stream was not made by mix() or scale(), or it is damaged",
        workload=name,
    )


def _synthetic(name: str, seed: int, capacity: int, total: int) -> Workload:
    ops = np.zeros(total, OP)
    ops["block"] = synthetic_blocks(name, capacity=capacity, total=total, seed=seed)
    ops["count"] = 1
    files = np.zeros(1, FILE)
    files["blocks"] = capacity
    return Workload(name, capacity, total, ops, files, capacity)


def _recorded(name: str, seed: int, capacity: int, total: int) -> Workload:
    return resolve(name, recorded_workloads()[name](seed, capacity, total), capacity)


def workload_names() -> dict[str, tuple[str, ...]]:
    """Names by kind: `recorded` and `synthetic`."""
    return {"recorded": tuple(recorded_workloads()), "synthetic": tuple(SYNTHETIC)}


def load_workload(name: str, *, seed: int, capacity: int, total: int) -> Workload:
    """Make a workload of `total` block writes for a store of `capacity` blocks.

    Raises:
        TraceError: `trace.workload` when there is none of that name.
    """
    kinds = workload_names()
    makers: dict[str, Callable[[int, int, int], Workload]] = {
        **{known: partial(_recorded, known) for known in kinds["recorded"]},
        **{known: partial(_synthetic, known) for known in kinds["synthetic"]},
    }
    if name not in makers:
        raise TraceError(
            f"no workload {name!r}",
            code="trace.workload",
            hint="there are " + ", ".join(sorted(makers)),
        )
    return makers[name](seed, capacity, total)


def workload_from_trace(path: str, *, seed: int, capacity: int, total: int) -> Workload:
    """Scale a recording of one's own onto a store; see `load_workload`.

    Raises:
        TraceError: when the file cannot be read or is no trace.
    """
    stream = load_block_stream(path)
    return resolve(Path(path).stem, scale(stream, capacity, total, seed), capacity)
