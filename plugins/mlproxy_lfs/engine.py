"""The simulator from Python: one stream through a main store and twins."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlproxy.errors import MlproxyError
from mlproxy.proxy import InProcessProxy, Program, core_functions, encode_program
from mlproxy_lfs._store import ffi, lib
from mlproxy_lfs.workloads import Workload

__all__ = (
    "GC_LOG",
    "LOGS",
    "Engine",
    "Feature",
    "Geometry",
    "Placement",
    "StoreError",
    "StoreStats",
    "Victim",
)

LOGS = 6
GC_LOG = 3


class StoreError(MlproxyError):
    """Raised when the store is out of space or an argument is out of range."""


class Placement(enum.IntEnum):
    """Who chooses the log of a block."""

    TWO_LOGS = 0
    SEPBIT = 1
    CLAIRVOYANT = 2
    PROGRAM = 3
    PROXY = 4
    ONE_LOG = 5


class Victim(enum.IntEnum):
    """Which segment is cleaned next."""

    GREEDY = 0
    COST_BENEFIT = 1
    LAST_INVALID = 2
    F2FS_CB = 3
    F2FS_MIX = 4


class Feature(enum.IntEnum):
    """Index of a feature; log2 quantities are in sixteenths (see store.h)."""

    LIFE = 0
    BLOCK_AVG = 1
    TENANT_AVG = 2
    DIR_AVG = 3
    CLASS_AVG = 4
    FILE_AVG = 5
    SIZE = 6
    RUN = 7
    NEW = 8
    AGE = 9
    ORIGIN = 10


@dataclass(frozen=True, slots=True)
class Geometry:
    """A store's shape.

    Attributes:
        segments: how many there are.
        segment_blocks: 4 KiB blocks in each.
        over_provisioning: share of the blocks that is not logical capacity.
        reserve: free segments kept beyond the open logs.
    """

    segments: int = 1024
    segment_blocks: int = 512
    over_provisioning: float = 0.125
    reserve: int = 3

    @property
    def capacity(self) -> int:
        """Logical blocks."""
        return int(self.segments * self.segment_blocks * (1 - self.over_provisioning))

    def shrunk(self, share: int) -> Geometry:
        """The same store for one in `share` blocks: as many segments, smaller ones.

        >>> Geometry().shrunk(8).segment_blocks
        64
        """
        return Geometry(
            self.segments, self.segment_blocks // share, self.over_provisioning, self.reserve
        )


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Counters of one store since it was made; blocks unless said otherwise."""

    user: int
    moved: int
    cleaned: int
    free_segments: int
    open_logs: int
    valid: int
    sepbit_life: int
    moved_by_arm: tuple[int, int]
    user_by_arm: tuple[int, int]

    def since(self, before: StoreStats) -> tuple[int, int]:
        """(user writes, moved blocks) since an earlier state."""
        return self.user - before.user, self.moved - before.moved


class Engine:
    """A workload running through stores.

    Args:
        workload: what is written.
        seed: of the twins' sampling hash and of the label sampling.

    Raises:
        StoreError: `lfs.memory` when there is not enough of it.

    >>> from mlproxy_lfs.workloads import load_workload
    >>> geometry = Geometry(segments=64, segment_blocks=64)
    >>> engine = Engine(load_workload("uniform", seed=1, capacity=geometry.capacity, total=9000))
    >>> main = engine.add_store(geometry)
    >>> engine.run(9000)
    >>> engine.clock, engine.stats(main).user, engine.check(main)
    (9000, 9000, 0)
    """

    def __init__(self, workload: Workload, *, seed: int = 1) -> None:
        self.workload = workload
        self._ops = ffi.cast("struct lfs_op *", workload.ops.ctypes.data)
        engine = lib.lfs_new(
            workload.nr_blocks,
            len(workload.files),
            ffi.cast("struct lfs_file *", workload.files.ctypes.data),
            *workload.groups,
            workload.capacity,
            seed,
        )
        if engine == ffi.NULL:
            raise StoreError("no memory for the store", code="lfs.memory")
        self._engine = ffi.gc(engine, lib.lfs_free)
        self._at = ffi.new("uint64_t *")
        self._stats = ffi.new("struct lfs_store_stats *")
        self._deaths: npt.NDArray[np.uint32] | None = None
        self._proxy: InProcessProxy | None = None

    def add_store(
        self,
        geometry: Geometry,
        *,
        share: int = 1,
        slice_: int = 0,
        placement: Placement = Placement.TWO_LOGS,
        victim: Victim = Victim.COST_BENEFIT,
    ) -> int:
        """Add a store that sees one in `share` blocks; return its index.

        Raises:
            StoreError: `lfs.store` when there are too many or the share is no power of two to 64.
        """
        shape = ffi.new(
            "struct lfs_geometry *",
            {
                "nr_segments": geometry.segments,
                "segment_blocks": geometry.segment_blocks,
                "reserve": geometry.reserve,
            },
        )
        index = lib.lfs_add_store(self._engine, shape, share, slice_, placement, victim)
        if index < 0:
            raise StoreError(
                f"no store with share {share} and slice {slice_} can be added",
                code="lfs.store",
                hint="shares are powers of two up to 64, at most 16 stores",
            )
        return int(index)

    def connect(self, proxy: InProcessProxy) -> None:
        """Let `proxy` decide in stores with `Placement.PROXY` and take the labels."""
        core = core_functions()
        native = ffi.new(
            "struct lfs_core *",
            {
                "proxy": ffi.cast("void *", proxy.pointer),
                "decide": ffi.cast("void *", core["mlp_decide"]),
                "publish": ffi.cast("void *", core["mlp_publish"]),
                "program_eval": ffi.cast("void *", core["mlp_program_eval"]),
            },
        )
        lib.lfs_set_core(self._engine, native)
        self._proxy = proxy  # keeps its memory alive

    def set_labels(self, *, user: int, gc: int, live: int, horizon: int, gc_store: int = 0) -> None:
        """Sample one in so many writes, relocations and (per write) live blocks."""
        lib.lfs_set_labels(self._engine, user, gc, live, horizon, gc_store)

    def set_program(self, store: int, program: Program) -> None:
        """Give a store with `Placement.PROGRAM` its program for one stream."""
        data = encode_program(program)
        lib.lfs_set_program(self._engine, store, program.stream, ffi.from_buffer(data), len(data))

    def set_victim(self, store: int, victim: Victim) -> None:
        """Change a store's victim policy."""
        lib.lfs_set_victim(self._engine, store, victim)

    def set_dither(self, store: int, seed: int) -> None:
        """Dither the scores of cost-benefit by up to 2%: as good, but not the same choices."""
        lib.lfs_set_dither(self._engine, store, seed)

    def set_placement(self, store: int, placement: Placement) -> None:
        """Change who chooses the log."""
        lib.lfs_set_placement(self._engine, store, placement)

    def set_future(self, logs: int = LOGS) -> None:
        """Give `Placement.CLAIRVOYANT` each write's death and `logs` equally used classes."""
        writes = self.workload.writes
        deaths = np.zeros(writes, np.uint32)
        lib.lfs_deaths(
            self._ops,
            len(self.workload.ops),
            self.workload.nr_blocks,
            ffi.cast("uint32_t *", deaths.ctypes.data),
            writes,
        )
        dying = np.flatnonzero(deaths != np.iinfo(np.uint32).max)
        dying = dying[dying >= self.workload.capacity]
        left = deaths[dying].astype(np.int64) - dying
        shares = [k / logs for k in range(1, logs)]
        cuts = np.quantile(left, shares).astype(np.uint32) if len(left) else np.zeros(0, np.uint32)
        self._deaths = deaths
        lib.lfs_set_future(
            self._engine,
            ffi.cast("uint32_t *", deaths.ctypes.data),
            writes,
            cuts.tolist(),
            len(cuts),
        )

    @property
    def clock(self) -> int:
        """User block writes so far."""
        return int(lib.lfs_clock(self._engine))

    @property
    def done(self) -> bool:
        """Whether the workload has ended."""
        return int(self._at[0]) >= len(self.workload.ops)

    def run(self, until: int) -> None:
        """Go on until so many user writes in all, or to the end of the workload.

        Raises:
            StoreError: `lfs.full` when a store has no room left.
        """
        if lib.lfs_run(self._engine, self._ops, len(self.workload.ops), self._at, until):
            raise StoreError(
                f"a store is full after {self.clock} writes of {self.workload.name}",
                code="lfs.full",
                hint="give it more over-provisioning or fewer logs",
            )

    def rewind(self) -> None:
        """Let the workload begin again; blocks, history and clock stay as they are.

        A block that lived at the end is written again when its turn comes: block
        numbers are as many as live at once, so there is room for all of them.
        """
        self._at[0] = 0

    def stats(self, store: int) -> StoreStats:
        """Counters of one store."""
        lib.lfs_stats(self._engine, store, self._stats)
        s = self._stats
        return StoreStats(
            user=s.user,
            moved=s.moved,
            cleaned=s.cleaned,
            free_segments=s.free_segments,
            open_logs=s.open_logs,
            valid=s.valid,
            sepbit_life=s.sepbit_life,
            moved_by_arm=(s.moved_by_arm[0], s.moved_by_arm[1]),
            user_by_arm=(s.user_by_arm[0], s.user_by_arm[1]),
        )

    def check(self, store: int) -> int:
        """Walk a store; 0, or the number of the broken invariant."""
        return int(lib.lfs_check(self._engine, store))


def log16(values: Sequence[int]) -> list[int]:
    """The features' log2 scale, in sixteenths.

    >>> log16([0, 1, 15, 1 << 20])
    [0, 16, 64, 320]
    """
    return [int(lib.lfs_log16(value)) for value in values]
