"""The steered store as a subsystem of the daemon: one window of the stream per step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mlproxy import StepResult, SubsystemContext
from mlproxy.events.types import FeedEvent, ModeEvent
from mlproxy.proxy import Proxy, Snapshot
from mlproxy_lfs.decisions import COST_UNIT, PLACEMENT, VICTIM, VICTIM_CHOICES
from mlproxy_lfs.engine import Geometry, StoreStats
from mlproxy_lfs.options import LfsOptions
from mlproxy_lfs.poison import Poison
from mlproxy_lfs.recorded import load_block_stream, mix, scale
from mlproxy_lfs.system import REFERENCE, LfsSystem, SystemOptions, Window
from mlproxy_lfs.workloads import Workload, load_workload, resolve

__all__ = (
    "COST_UNITS",
    "PROXIES",
    "LfsSubsystem",
    "StepEvents",
    "geometry_of",
    "make_workload",
    "proxies_of",
    "system_of",
)

PROXIES = (PLACEMENT, VICTIM)
COST_UNITS: Mapping[str, float] = dict.fromkeys(PROXIES, float(COST_UNIT))
"""Costs are blocks written per block that the user wrote: write amplification."""
VICTIM_TWINS = (REFERENCE, *(choice.name.lower() for choice in VICTIM_CHOICES))
WINDOW = SystemOptions().window
"""Share of the capacity that is written in one step."""
BEHIND = 1.0
"""Seconds behind the pace after which what was missed is given up, not caught up with."""


def geometry_of(options: LfsOptions) -> Geometry:
    """The store's shape."""
    return Geometry(options.segments, options.segment_blocks, options.over_provisioning)


def make_workload(options: LfsOptions, seed: int) -> Workload:
    """The stream that the options ask for, made for their store.

    Args:
        options: validated.
        seed: used where the options give none.

    Raises:
        TraceError: a recording cannot be read or has no room in the store; no such workload.
    """
    seed, capacity = seed_of(options, seed), geometry_of(options).capacity
    # Whole windows only: the costs of a few blocks at the end would mean nothing.
    window = max(1, int(capacity * WINDOW))
    total = window * round((options.capacities or options.stream_capacities) * capacity / window)
    if not options.trace:
        return load_workload(options.workload, seed=seed, capacity=capacity, total=total)
    streams = [load_block_stream(Path(path)) for path in options.trace]
    whole = streams[0] if len(streams) == 1 else mix(streams, [1.0] * len(streams), seed)
    return resolve("trace", scale(whole, capacity, total, seed), capacity)


def seed_of(options: LfsOptions, seed: int) -> int:
    """The options' seed, or else this one."""
    return seed if options.seed is None else options.seed


def system_of(
    workload: Workload,
    options: LfsOptions,
    seed: int,
    overrides: Mapping[str, Mapping[str, int]] | None = None,
    candidates: Sequence[object] = (),
) -> LfsSystem:
    """The steered store that the options describe, for a workload made by `make_workload`.

    Args:
        workload: what is written to it.
        options: validated.
        seed: used where the options give none.
        overrides: proxy name -> fields of its ProxyConfig.
        candidates: recipes from other plugins for the placement decision.

    Raises:
        StoreError: not enough memory.
    """
    return LfsSystem(
        workload,
        SystemOptions(
            geometry=geometry_of(options),
            twin_share=options.twin_share,
            poison=Poison(options.poison) if options.poison else None,
            poison_at=options.poison_at,
            overrides=overrides or {},
        ),
        seed=seed_of(options, seed),
        candidates=candidates,
    )


class StepEvents:
    """Collects what a step of the system has to tell.

    Args:
        system: whose events.
    """

    def __init__(self, system: LfsSystem) -> None:
        self._system = system
        self._changes = dict.fromkeys(PROXIES, 0)
        self._left_out = list(system.left_out)

    def snapshots(self) -> dict[str, Snapshot]:
        """All proxies as they are now."""
        now = self._system.now
        return {p.config.name: p.snapshot(now) for p in proxies_of(self._system)}

    def take(self) -> tuple[dict[str, Snapshot], list[FeedEvent]]:
        """The snapshots after the step, and the events of the step in order of their time."""
        after = self.snapshots()
        events, self._left_out = [*self._left_out, *self._modes()], []
        events += self._system.learner.take_events()
        events += self._system.victim_learner.take_events()
        events.sort(key=lambda e: getattr(e, "at", 0))
        return after, events

    def _modes(self) -> list[FeedEvent]:
        """The step's events, with the numbers that the ring's records have no room for."""
        events: list[FeedEvent] = []
        for event in self._system.events:
            if isinstance(event, ModeEvent):
                self._changes[event.proxy] += 1
                number = self._changes[event.proxy]
                events.append(msgspec.structs.replace(event, mode_seq=number))
            else:  # pragma: no cover - the system sends nothing else today
                events.append(event)
        return events


def proxies_of(system: LfsSystem) -> tuple[Proxy, Proxy]:
    """The system's two proxies."""
    return system.placement, system.victim


class LfsSubsystem:
    """Runs the steered store inside the daemon.

    Args:
        clock: seconds, for the pace.
    """

    name = "lfs"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.period_seconds = 1.0
        self._clock = clock
        self._system: LfsSystem | None = None
        self._due = 0.0
        self._rounds = 1

    def start(self, context: SubsystemContext) -> Sequence[Proxy]:
        """Load the stream and set up store, twins, models and proxies.

        Raises:
            TraceError: the stream cannot be made.
            StoreError: not enough memory.
        """
        options: LfsOptions = context.options
        self._options = options
        workload = make_workload(options, context.seed)
        self._system = system = system_of(
            workload,
            options,
            context.seed,
            context.overrides,
            context.models.get(PLACEMENT, ()),
        )
        self._events = StepEvents(system)
        self._main: StoreStats = system.engine.stats(system.main)
        self._due = self._clock()
        return proxies_of(system)

    def step(self) -> StepResult:
        """Write one window, learn from it, recommend.

        Raises:
            StoreError: `lfs.full`.
        """
        system = self._running()
        before = system.now
        window = system.step()
        _, events = self._events.take()
        done = system.done and self._options.capacities > 0
        if system.done and not done:
            system.engine.rewind()
            self._rounds += 1
        return StepResult(
            worked=not self._early(system.now - before),
            done=done,
            metrics=self._metrics(window),
            models={
                PLACEMENT: system.learner.report(),
                VICTIM: system.victim_learner.report(),
            },
            events=events,
        )

    def now(self, proxy: str) -> int:  # noqa: ARG002 - both proxies have the store's time
        """Blocks that the user has written so far."""
        return self._system.now if self._system is not None else 0

    def stop(self) -> None:
        """Stop the proxies; the store goes with the object."""
        if self._system is not None:
            for proxy in proxies_of(self._system):
                proxy.stop(self._system.now)

    def _running(self) -> LfsSystem:
        if self._system is None:
            raise RuntimeError("step() before start()")
        return self._system

    def _early(self, blocks: int) -> bool:
        """Whether to wait before the next window; sets for how long."""
        pace = self._options.pace_blocks_per_second
        if not pace:
            return False
        now = self._clock()
        self._due = max(self._due + blocks / pace, now - BEHIND)
        if self._due <= now:
            return False
        self.period_seconds = self._due - now
        return True

    def _metrics(self, window: Window) -> dict[str, dict[str, float]]:
        system = self._running()
        after = system.engine.stats(system.main)
        whole = 1 + after.moved / after.user if after.user else 1.0
        twins: dict[str, Any] = {
            f"twin_{name.replace('-', '_')}_ratio": cost for name, cost in window.twins.items()
        }
        common = {
            "write_amplification_ratio": window.main,
            "write_amplification_whole_ratio": whole,
            "written_blocks": float(after.user),
            "moved_blocks": float(after.moved),
            "written_capacities": after.user / system.capacity,
            "stream_rounds": float(self._rounds),
        }
        model = after.user_by_arm[1] - self._main.user_by_arm[1]
        share = model / max(1, after.user - self._main.user)
        self._main = after
        priced = {f"twin_{name.replace('-', '_')}_ratio" for name in VICTIM_TWINS}
        return {
            PLACEMENT: common
            | {key: cost for key, cost in twins.items() if key not in priced}
            | {"model_share_ratio": share},
            VICTIM: {
                "write_amplification_ratio": window.main,
                "write_amplification_whole_ratio": whole,
            }
            | {key: cost for key, cost in twins.items() if key in priced},
        }
