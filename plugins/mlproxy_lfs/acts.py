"""One act of the demonstration: a steered store beside two that are not, on the same stream."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlproxy.app.report import state_message
from mlproxy.demo import Stage
from mlproxy.events.types import FeedEvent, MetricMessage, ModeEvent, ModelEvent
from mlproxy.proxy import Mode, Snapshot
from mlproxy_lfs.decisions import PLACEMENT, VICTIM
from mlproxy_lfs.engine import Engine, Placement, StoreStats, Victim
from mlproxy_lfs.options import LfsOptions
from mlproxy_lfs.subsystem import (
    COST_UNITS,
    StepEvents,
    geometry_of,
    make_workload,
    proxies_of,
    system_of,
)
from mlproxy_lfs.system import LfsSystem

__all__ = ("Act", "ActResult", "play_act")

POINT = 10
"""Windows (fiftieths of the capacity) in one point of a curve."""
SHOWN = {"default": Placement.TWO_LOGS, "sepbit": Placement.SEPBIT}
"""Stores that nobody steers, for comparison; all clean by cost-benefit."""


@dataclass(frozen=True, slots=True)
class Act:
    """What is played.

    Attributes:
        options: of the subsystem, as for the daemon.
        seed: of everything random.
    """

    options: LfsOptions
    seed: int


@dataclass(slots=True)
class ActResult:
    """What came of it; write amplifications are of the whole stream unless said otherwise.

    Attributes:
        workload: what was written.
        capacity: logical blocks of the store.
        segments: of the store; each of `segment_blocks` blocks.
        written: blocks that the user wrote.
        whole: store -> blocks written per user block; `mlproxy` is the steered one.
        late: the same over the last third.
        since_poison: the same from the capacity on at which the models turned bad.
        curves: store or twin -> [(blocks written by the user, amplification of that stretch)].
        losses: candidate -> [(blocks written, prequential loss)].
        modes: proxy -> its mode changes.
        champions: proxy -> its changes of champion and its drifts.
        mode_share: proxy -> mode -> share of the time.
        model_share: share of the user's blocks that the model placed.
        final: proxy -> its last mode, before the end.
        cpu_seconds: processor time, loading included.
        load_seconds: of it for the stream.
    """

    workload: str
    capacity: int
    segments: int
    segment_blocks: int
    written: int = 0
    whole: dict[str, float] = field(default_factory=dict)
    late: dict[str, float] = field(default_factory=dict)
    since_poison: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    losses: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    modes: dict[str, list[ModeEvent]] = field(default_factory=dict)
    champions: dict[str, list[ModelEvent]] = field(default_factory=dict)
    mode_share: dict[str, dict[str, float]] = field(default_factory=dict)
    model_share: float = 0.0
    final: dict[str, str] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    load_seconds: float = 0.0


class _Play:
    """The stores of one act, window by window."""

    def __init__(self, act: Act) -> None:
        began = time.process_time()
        options = act.options
        workload = make_workload(options, act.seed)
        self.load_seconds = time.process_time() - began
        self.system: LfsSystem = system_of(workload, options, act.seed)
        self.events = StepEvents(self.system)
        self.result = ActResult(
            options.workload, self.system.capacity, options.segments, options.segment_blocks
        )
        # A second engine: nothing of the steered store's can leak into the others.
        self._others = Engine(workload, seed=act.seed)
        self._stores = {
            name: self._others.add_store(
                geometry_of(options), placement=placement, victim=Victim.COST_BENEFIT
            )
            for name, placement in SHOWN.items()
        }
        self._marks: dict[str, dict[str, StoreStats]] = {}
        self._point = self.stats()
        self._twins: dict[str, list[float]] = {}
        self._windows = 0

    def stats(self) -> dict[str, StoreStats]:
        """Counters of the steered store and of the others."""
        found = {"mlproxy": self.system.engine.stats(self.system.main)}
        return found | {n: self._others.stats(s) for n, s in self._stores.items()}

    def mark(self, name: str) -> None:
        """Remember the counters, the first time."""
        if name not in self._marks:
            self._marks[name] = self.stats()

    def window(self) -> tuple[Mapping[str, Snapshot], list[FeedEvent]]:
        """One window on all stores."""
        seen = self.system.step()
        self._others.run(self.system.now)
        for name, cost in seen.twins.items():
            self._twins.setdefault(name, []).append(cost)
        self._windows += 1
        if self._windows % POINT == 0:
            self._draw()
        after, events = self.events.take()
        for event in events:
            if isinstance(event, ModeEvent):
                self.result.modes.setdefault(event.proxy, []).append(event)
            elif isinstance(event, ModelEvent) and event.what != "published":
                self.result.champions.setdefault(event.proxy, []).append(event)
        return after, events

    def _draw(self) -> None:
        now, at = self.stats(), float(self.system.now)
        for name, stats in now.items():
            point = (at, stats.amplification(self._point[name]))
            self.result.curves.setdefault(name, []).append(point)
        self._point = now
        for name, costs in self._twins.items():
            curve = self.result.curves.setdefault(f"twin {name}", [])
            curve.append((at, sum(costs) / len(costs)))
        self._twins.clear()
        for name, line in self.system.learner.report()["candidates"].items():
            if line["loss"] is not None:
                self.result.losses.setdefault(name, []).append((at, float(line["loss"])))

    def end(self, after: Mapping[str, Snapshot]) -> ActResult:
        """Add everything up."""
        result, now = self.result, self.stats()
        result.written = now["mlproxy"].user
        result.whole = {name: stats.amplification() for name, stats in now.items()}
        for key, into in (("late", result.late), ("poison", result.since_poison)):
            if key in self._marks:
                marked = self._marks[key]
                into.update({n: s.amplification(marked[n]) for n, s in now.items()})
        acted = now["mlproxy"].user_by_arm
        result.model_share = acted[1] / max(1, sum(acted))
        for name, snapshot in after.items():
            whole = sum(snapshot.mode_time) or 1
            result.final[name] = snapshot.mode.name.lower()
            result.mode_share[name] = {
                mode.name.lower(): snapshot.mode_time[mode] / whole for mode in Mode
            }
        return result


def _publish(play: _Play, after: Mapping[str, Snapshot], stage: Stage) -> None:
    """States and metrics, as the daemon sends them."""
    reports = {
        PLACEMENT: play.system.learner.report(),
        VICTIM: play.system.victim_learner.report(),
    }
    for proxy in proxies_of(play.system):
        name = proxy.config.name
        stage.emit(
            state_message(
                proxy.config,
                "lfs",
                proxy.guard,
                after[name],
                reports[name],
                unit=COST_UNITS[name],
            )
        )
    latest = {name: curve[-1][1] for name, curve in play.result.curves.items()}
    values = {f"{name.replace(' ', '_').replace('-', '_')}_ratio": v for name, v in latest.items()}
    stage.emit(MetricMessage(proxy=PLACEMENT, values=values))


def play_act(act: Act, stage: Stage) -> ActResult:
    """Play one act to its end.

    Raises:
        TraceError: the stream cannot be made.
        StoreError: a store is full.
    """
    began = time.process_time()
    stage.progress(0.0, "loading the stream")
    play = _Play(act)
    system, options = play.system, act.options
    total = system.engine.workload.writes
    after: Mapping[str, Snapshot] = play.events.snapshots()
    while not system.done:
        if system.now >= 2 * total / 3:
            play.mark("late")
        if options.poison and system.now >= options.poison_at * system.capacity:
            play.mark("poison")
        after, events = play.window()
        for event in events:
            stage.emit(event)
        if play.result.curves and system.now // (system.capacity // 10) % 2 == 0:
            _publish(play, after, stage)
        costs = {n: c[-1][1] for n, c in play.result.curves.items()}
        if costs:
            note = f"default {costs['default']:.2f}, mlproxy {costs['mlproxy']:.2f}"
            stage.progress(system.now / total, note)
    for proxy in proxies_of(system):
        proxy.stop(system.now)
    result = play.end(after)
    result.load_seconds = play.load_seconds
    result.cpu_seconds = time.process_time() - began
    return result
