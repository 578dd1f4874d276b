"""The simulator from Python: one stream through a main store and twins."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlproxy.errors import MlproxyError
from mlproxy.proxy import InProcessProxy, Program, check_program, core_functions, encode_program
from mlproxy_lfs._store import ffi, lib
from mlproxy_lfs.workloads import FILE, OP, Workload

__all__ = (
    "GC_LOG",
    "LOGS",
    "MAX_STORES",
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
MAX_LOGS = 8
MAX_STORES = int(lib.LFS_MAX_STORES)
"""So many stores run beside each other on one stream."""
_OUTSIDE = -2
_NOT_CONNECTED = -3


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

        Raises:
            StoreError: `lfs.store` for a share below 1.

        >>> Geometry().shrunk(8).segment_blocks
        64
        """
        if share < 1:
            raise StoreError(f"no store sees one in {share} blocks", code="lfs.store")
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

    def amplification(self, before: StoreStats | None = None) -> float:
        """Blocks written per user block, since an earlier state or since the beginning."""
        user, moved = (self.user, self.moved) if before is None else self.since(before)
        return 1.0 + moved / user if user else 1.0


class Engine:
    """A workload running through stores.

    Args:
        workload: what is written.
        seed: of the twins' sampling hash and of the label sampling.

    Raises:
        StoreError: `lfs.memory` when there is not enough of it, `lfs.workload` when the
            workload's files or groups are not what they should be.

    >>> from mlproxy_lfs.workloads import load_workload
    >>> geometry = Geometry(segments=64, segment_blocks=64)
    >>> engine = Engine(load_workload("uniform", seed=1, capacity=geometry.capacity, total=9000))
    >>> main = engine.add_store(geometry)
    >>> engine.run(9000)
    >>> engine.clock, engine.stats(main).user, engine.check(main)
    (9000, 9000, 0)
    """

    def __init__(self, workload: Workload, *, seed: int = 1) -> None:
        _check_workload(workload)
        self.workload = workload
        self._stores = 0
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
        self._core = False

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
            StoreError: `lfs.store` when there are too many, the share is no power of two to 64,
                the geometry is empty or too large, or writing has begun.
        """
        sizes = (geometry.segments, geometry.segment_blocks, geometry.reserve, share, slice_)
        if not all(0 <= size < 1 << 32 for size in sizes):
            raise StoreError(f"{geometry} or share {share} is out of range", code="lfs.store")
        shape = ffi.new(
            "struct lfs_geometry *",
            {
                "nr_segments": geometry.segments,
                "segment_blocks": geometry.segment_blocks,
                "reserve": geometry.reserve,
            },
        )
        index = lib.lfs_add_store(
            self._engine, shape, share, slice_, _number(placement), _number(victim)
        )
        if index < 0:
            raise StoreError(
                f"no store with share {share}, slice {slice_} and {geometry} can be added",
                code="lfs.store",
                hint="shares are powers of two up to 64 and leave at least one block per segment;"
                " at most 16 stores, all before the first write",
            )
        self._stores = int(index) + 1
        return int(index)

    def _known(self, store: int) -> int:
        if not 0 <= store < self._stores:
            raise StoreError(
                f"there is no store {store}", code="lfs.store", hint=f"{self._stores} were added"
            )
        return store

    def connect(self, proxy: InProcessProxy) -> None:
        """Let `proxy` decide in stores with `Placement.PROXY` and take the labels.

        Raises:
            StoreError: `lfs.program` when the proxy expects more features than there are.
        """
        self._check_features(proxy.config.nr_features, f"proxy {proxy.config.name}")
        self._set_core(ffi.cast("void *", proxy.pointer))
        self._proxy = proxy  # keeps its memory alive

    def _set_core(self, proxy: Any) -> None:
        core = core_functions()
        names = ("program_eval",) if proxy == ffi.NULL else ("decide", "publish", "program_eval")
        functions = {name: ffi.cast("void *", core[f"mlp_{name}"]) for name in names}
        lib.lfs_set_core(self._engine, ffi.new("struct lfs_core *", functions | {"proxy": proxy}))
        self._core = True

    @staticmethod
    def _check_features(nr_features: int, what: str) -> None:
        if nr_features > len(Feature):
            raise StoreError(
                f"{what} has {nr_features} features, a store offers {len(Feature)}",
                code="lfs.program",
            )

    def set_labels(self, *, user: int, gc: int, live: int, horizon: int, gc_store: int = 0) -> None:
        """Sample one in so many writes, relocations and (per write) live blocks.

        Args:
            user: one in so many user writes; 0: none.
            gc: one in so many relocations of `gc_store`; 0: none, and no live blocks either.
            live: every so many writes one live block drawn at random; 0: none.
            horizon: user block writes until a sample becomes a label, 1 to 2^27.
            gc_store: whose relocations are sampled; -1: of none.

        Raises:
            StoreError: `lfs.labels` for a number or a store that cannot be.
        """
        fits = all(0 <= n < 1 << 32 for n in (user, gc, live, horizon)) and abs(gc_store) < 1 << 31
        if not fits or lib.lfs_set_labels(self._engine, user, gc, live, horizon, gc_store):
            raise StoreError(
                f"no labels every ({user}, {gc}, {live}) writes with horizon {horizon}"
                f" and relocations of store {gc_store}",
                code="lfs.labels",
                hint="horizons are 1 to 2^27 writes, the store must exist",
            )

    def set_program(self, store: int, program: Program) -> None:
        """Give a store with `Placement.PROGRAM` its program for one stream.

        Raises:
            ProgramError: `program.encode` or `program.invalid` when it is none.
            StoreError: `lfs.program` when its stream or features are not the store's,
                `lfs.store` when there is no such store.
        """
        data = encode_program(program)
        check_program(data)
        self._check_features(program.nr_features, "the program")
        known = self._known(store)
        if lib.lfs_set_program(
            self._engine, known, program.stream, ffi.from_buffer(data), len(data)
        ):
            raise StoreError(
                f"stream {program.stream} of store {store} takes no such program",
                code="lfs.program",
                hint="streams are 0 (user writes) and 1 (relocations)",
            )
        if not self._core:
            self._set_core(ffi.NULL)

    def set_victim(self, store: int, victim: Victim) -> None:
        """Change a store's victim policy.

        Raises:
            StoreError: `lfs.store` when there is no such store or policy.
        """
        self._accept(lib.lfs_set_victim(self._engine, self._known(store), _number(victim)), victim)

    def set_dither(self, store: int, seed: int) -> None:
        """Dither the scores of cost-benefit by up to 2%: as good, but not the same choices.

        Raises:
            StoreError: `lfs.store` when there is no such store.
        """
        known = self._known(store)
        self._accept(not 0 <= seed < 1 << 64 or lib.lfs_set_dither(self._engine, known, seed), seed)

    def set_placement(self, store: int, placement: Placement) -> None:
        """Change who chooses the log.

        Raises:
            StoreError: `lfs.store` when there is no such store or placement.
        """
        known = self._known(store)
        self._accept(lib.lfs_set_placement(self._engine, known, _number(placement)), placement)

    @staticmethod
    def _accept(refused: int, value: int) -> None:
        if refused:
            raise StoreError(f"a store does not know {value!r}", code="lfs.store")

    def set_future(self, logs: int = LOGS) -> None:
        """Give `Placement.CLAIRVOYANT` each write's death and `logs` equally used classes.

        Raises:
            StoreError: `lfs.store` for fewer than one or more than eight logs, `lfs.workload`
                when the workload does not write what it says, `lfs.memory`.
        """
        if not 1 <= logs <= MAX_LOGS:
            raise StoreError(f"a store has 1 to {MAX_LOGS} logs, not {logs}", code="lfs.store")
        writes = self.workload.writes
        deaths = np.zeros(writes, np.uint32)
        found = lib.lfs_deaths(
            self._ops,
            len(self.workload.ops),
            self.workload.nr_blocks,
            ffi.cast("uint32_t *", deaths.ctypes.data),
            writes,
        )
        if found != writes:
            raise StoreError(
                f"{self.workload.name} says it has {writes} block writes, {found} were found",
                code="lfs.workload",
            )
        dying = np.flatnonzero(deaths != np.iinfo(np.uint32).max)
        dying = dying[dying >= self.workload.capacity]
        left = deaths[dying].astype(np.int64) - dying
        shares = [k / logs for k in range(1, logs)]
        cuts = np.quantile(left, shares).astype(np.uint32) if len(left) else np.zeros(0, np.uint32)
        future = ffi.cast("uint32_t *", deaths.ctypes.data)
        if lib.lfs_set_future(self._engine, future, writes, cuts.tolist(), len(cuts)):
            raise StoreError("no memory for the future", code="lfs.memory")
        self._deaths = deaths  # keeps its memory alive

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
            StoreError: `lfs.full` when a store has no room left: that engine is at its end;
                `lfs.workload` when an operation lies outside of the workload's blocks or files;
                `lfs.program` when a store's proxy is not connected.
        """
        bad = lib.lfs_run(self._engine, self._ops, len(self.workload.ops), self._at, max(until, 0))
        if bad == _OUTSIDE:
            raise StoreError(
                f"operation {self._at[0]} of {self.workload.name} lies outside of its"
                f" {self.workload.nr_blocks} blocks or {len(self.workload.files)} files",
                code="lfs.workload",
            )
        if bad == _NOT_CONNECTED:
            raise StoreError(
                "a store is placed by a proxy, but none is connected",
                code="lfs.program",
                hint="call connect() first",
            )
        if bad:
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
        lib.lfs_stats(self._engine, self._known(store), self._stats)
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
        return int(lib.lfs_check(self._engine, self._known(store)))


def _number(choice: int) -> int:
    """The choice as a C int; what does not fit is none that exists."""
    return int(choice) if 0 <= choice < 1 << 31 else -1


def _check_workload(workload: Workload) -> None:
    for name, table, dtype in (("ops", workload.ops, OP), ("files", workload.files, FILE)):
        if table.dtype != dtype or table.ndim != 1 or not table.flags.c_contiguous:
            raise StoreError(
                f"the {name} of {workload.name} must be a contiguous array of {dtype}",
                code="lfs.workload",
            )
    least = min(workload.files[key].min(initial=0) for key in ("tenant", "dir", "cls"))
    sizes = (workload.nr_blocks, workload.capacity)
    if not len(workload.files) or least < 0 or not all(0 < size < 1 << 32 for size in sizes):
        raise StoreError(
            f"{workload.name} has no blocks, no capacity, no files, or a file of group {least}",
            code="lfs.workload",
        )


def log16(values: Sequence[int]) -> list[int]:
    """The features' log2 scale, in sixteenths.

    >>> log16([0, 1, 15, 1 << 20])
    [0, 16, 64, 320]
    """
    return [int(lib.lfs_log16(value)) for value in values]
