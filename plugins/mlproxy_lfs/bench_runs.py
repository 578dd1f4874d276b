"""One run of the GC bench: a policy, or the whole steered system, on one workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mlproxy.errors import TraceError
from mlproxy.events.types import ModeEvent
from mlproxy.proxy import Mode
from mlproxy_lfs.decisions import PLACEMENT
from mlproxy_lfs.engine import Engine, Geometry, Placement, Victim
from mlproxy_lfs.poison import Poison
from mlproxy_lfs.system import LfsSystem, SystemOptions
from mlproxy_lfs.workloads import Workload, load_workload, workload_from_trace

__all__ = ("DEFAULT_POLICY", "POLICIES", "Job", "Row", "Scale", "run_job")

WARM = 3
"""Capacities after which `wa_warm` begins: fill, and two of transient."""

DEFAULT_POLICY = "cost-benefit"
POLICIES: dict[str, tuple[Placement, Victim]] = {
    "greedy": (Placement.TWO_LOGS, Victim.GREEDY),
    DEFAULT_POLICY: (Placement.TWO_LOGS, Victim.COST_BENEFIT),
    "f2fs-mix": (Placement.TWO_LOGS, Victim.F2FS_MIX),
    "last-invalid": (Placement.TWO_LOGS, Victim.LAST_INVALID),
    "sepbit": (Placement.SEPBIT, Victim.COST_BENEFIT),
    "clairvoyant": (Placement.CLAIRVOYANT, Victim.COST_BENEFIT),
}


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how large the runs are, in capacities and segments."""

    capacities: int = 14
    poison_capacities: int = 7
    flip_at: float = 5.0
    geometry: Geometry = field(default_factory=Geometry)


@dataclass(frozen=True, slots=True)
class Job:
    """A workload with one seed and what to run on it."""

    workload: str
    kind: str
    seed: int
    policies: tuple[str, ...]
    scale: Scale
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured run.

    Attributes:
        workload: its name.
        kind: `recorded` or `synthetic`.
        seed: of stream, models and hashes.
        policy: which policy, `mlproxy`, or a poisoned `mlproxy`.
        capacities: written in all; the first is the fill.
        wa: blocks written per user block, from the end of the fill to the end.
        wa_warm: the same from `WARM` capacities on.
        mode_times: share of that time (from the end of the fill) per mode of the placement proxy.
        modes: placement mode changes: capacities written, mode, reason.
        victim_modes: the same of the victim proxy.
        champions: how often the champion changed, and the last one.
        trusted_at_flip: poison-flip only: whether the model was trusted then.
        out_after: capacities from the flip until the proxy had left trusted.
    """

    workload: str
    kind: str
    seed: int
    policy: str
    capacities: int
    wa: float
    wa_warm: float
    mode_times: Mapping[str, float] = field(default_factory=dict)
    modes: tuple[tuple[float, str, str], ...] = ()
    victim_modes: tuple[tuple[float, str, str], ...] = ()
    champions: tuple[int, str] = (0, "")
    trusted_at_flip: bool | None = None
    out_after: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


class _Marks:
    """Counters of a store at the ends of the fill and of the transient."""

    def __init__(self, engine: Engine, store: int, capacity: int) -> None:
        self._engine, self._store = engine, store
        self._due = [capacity, WARM * capacity]
        self._marks = [engine.stats(store)] * 2

    def look(self) -> None:
        for index, due in enumerate(self._due):
            if self._engine.clock <= due:
                self._marks[index] = self._engine.stats(self._store)

    def amplification(self) -> tuple[float, float]:
        end = self._engine.stats(self._store)
        whole, warm = (end.amplification(mark) for mark in self._marks)
        return whole, warm


def _policy(job: Job, workload: Workload, name: str, capacities: int) -> Row:
    placement, victim = POLICIES[name]
    geometry = job.scale.geometry
    engine = Engine(workload, seed=job.seed)
    store = engine.add_store(geometry, placement=placement, victim=victim)
    if placement is Placement.CLAIRVOYANT:
        engine.set_future()
    marks = _Marks(engine, store, geometry.capacity)
    for end in (1, WARM, capacities):
        engine.run(min(end, capacities) * geometry.capacity)
        marks.look()
    wa, warm = marks.amplification()
    return Row(job.workload, job.kind, job.seed, name, capacities, wa, warm)


def _modes(events: list[ModeEvent], capacity: int) -> tuple[tuple[float, str, str], ...]:
    changed = [e for e in events if e.old != e.new or e.reason == "promoted"]
    return tuple((round(e.at / capacity, 3), e.new, e.reason) for e in changed)


def _steered(job: Job, workload: Workload, name: str, capacities: int) -> Row:
    poison, flip_at = None, 0.0
    if name.startswith("poison-"):
        _, how, kind = name.split("-")
        poison = Poison(kind)
        flip_at = 0.0 if how == "start" else job.scale.flip_at
    options = SystemOptions(
        geometry=job.scale.geometry,
        poison=poison,
        poison_at=flip_at,
        canary="-blind-" not in name,
    )
    system = LfsSystem(workload, options, seed=job.seed)
    capacity = system.capacity
    marks = _Marks(system.engine, system.main, capacity)
    events: list[ModeEvent] = []
    spent: dict[str, int] = {}
    changes, last = 0, ""
    trusted_at_flip: bool | None = None
    out_after: float | None = None
    while not system.done and system.now < capacities * capacity:
        before = system.now
        window = system.step()
        marks.look()
        mode = window.modes[PLACEMENT]
        if before >= capacity:
            word = mode.name.lower()
            spent[word] = spent.get(word, 0) + system.now - before
        events += [e for e in system.events if isinstance(e, ModeEvent)]
        for event in system.learner.take_events():
            if event.what == "champion":
                changes, last = changes + 1, event.candidate
        system.victim_learner.take_events()
        flipped = flip_at > 0 and system.now >= flip_at * capacity
        if flipped and trusted_at_flip is None:
            trusted_at_flip = mode is Mode.TRUSTED
        if flipped and trusted_at_flip and out_after is None and mode is not Mode.TRUSTED:
            out_after = system.now / capacity - flip_at
    broken = system.engine.check(system.main)
    if broken:
        raise TraceError(f"invariant {broken} of the store broke", code="lfs.invariant")
    total = sum(spent.values()) or 1
    wa, warm = marks.amplification()
    return Row(
        job.workload,
        job.kind,
        job.seed,
        name,
        capacities,
        wa,
        warm,
        mode_times={word: writes / total for word, writes in sorted(spent.items())},
        modes=_modes([e for e in events if e.proxy == PLACEMENT], capacity),
        victim_modes=_modes([e for e in events if e.proxy != PLACEMENT], capacity),
        champions=(changes, last),
        trusted_at_flip=trusted_at_flip,
        out_after=out_after,
    )


def run_job(job: Job) -> list[Row]:
    """Run everything of a job on one loading of its workload.

    Poisoned runs are shorter; the default is run at their length too.

    Raises:
        TraceError: when the workload or the trace cannot be loaded.
        StoreError: when a store runs out of space.
    """
    scale = job.scale
    capacity = scale.geometry.capacity
    total = scale.capacities * capacity
    if job.trace:
        workload = workload_from_trace(job.trace, seed=job.seed, capacity=capacity, total=total)
    else:
        workload = load_workload(job.workload, seed=job.seed, capacity=capacity, total=total)
    rows = []
    for name in job.policies:
        if name in POLICIES:
            rows.append(_policy(job, workload, name, scale.capacities))
        elif name == "mlproxy":
            rows.append(_steered(job, workload, name, scale.capacities))
        elif name == "default-short":
            row = _policy(job, workload, DEFAULT_POLICY, scale.poison_capacities)
            rows.append(_renamed(row, name))
        else:
            rows.append(_steered(job, workload, name, scale.poison_capacities))
    return rows


def _renamed(row: Row, name: str) -> Row:
    return Row(row.workload, row.kind, row.seed, name, row.capacities, row.wa, row.wa_warm)
