"""One supervised task per subsystem: start, step, report, stop; quarantine and restart.

Who calls what from where
-------------------------
All of a plugin's methods run in the subsystem's *worker* thread, one at a time,
and the event loop only waits for them. The proxies are read (snapshots) there
too, between steps, because a proxy is not meant for two threads at once.

When a step hangs, its thread cannot be had: then the proxies are stopped from a
second thread, the *guard*. That call may run beside whatever the hung thread
does inside the proxy. It is safe in the sense that matters: `Proxy.stop` ends in
the one mode store that the decision path reads, and a stopped proxy neither
takes recommendations nor gets promoted. The hung thread might have been in the
middle of a transition and store its own mode afterwards, so the guard looks
again, and repeats the stop, until a snapshot shows emergency; and it looks again
whenever the abandoned thread has come back. Besides, a proxy with a heartbeat
limit falls to emergency by itself, as nobody sends heartbeats for it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from mlproxy.app.report import champion_event, changes, mode_event, state_message, word
from mlproxy.app.sinks import EventSink
from mlproxy.app.worker import Worker
from mlproxy.clock import Clock
from mlproxy.errors import MlproxyError, PluginError, ProxyError
from mlproxy.events.types import (
    FeedEvent,
    MetricMessage,
    ModeEvent,
    ModelEvent,
    PluginEvent,
    StateMessage,
)
from mlproxy.proxy.types import Mode, Proxy, ProxyConfig, Reason, Snapshot
from mlproxy.subsystem import StepResult, Subsystem, SubsystemContext, SubsystemFactory

__all__ = ("Limits", "Supervisor", "SupervisorState")

T = TypeVar("T")
SupervisorState = Literal[
    "starting", "running", "finished", "stopping", "stopped", "quarantined", "backoff"
]
GUARD_SECONDS = 1.0
_FAILED = {
    "start": "plugin.start_failed",
    "step": "plugin.step_failed",
    "stop": "plugin.stop_failed",
}
MAX_BACKOFF = 60.0
_ENDED = ("proxy.closed", "proxy.gone")
"""Errors of a proxy that nobody holds any more: its default acts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines and intervals of supervision, in seconds (see `[daemon]`)."""

    start: float = 30.0
    step: float = 5.0
    stop: float = 5.0
    restart_limit: int = 3
    restart_backoff: float = 1.0
    report_interval: float = 0.1
    state_interval: float = 1.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a subsystem is in quarantine."""

    code: str
    phase: str
    message: str

    def as_dict(self) -> dict[str, str]:
        """Return the failure, ready for JSON."""
        return dataclasses.asdict(self)


@dataclass(slots=True)
class _Watched:
    """One proxy and what was last seen of it."""

    proxy: Proxy
    config: ProxyConfig
    guard: str
    snapshot: Snapshot | None = None
    told: Snapshot | None = None
    models: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    told_models: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    own_modes: bool = False
    last_mode: str = "emergency"
    told_modes: deque[tuple[str, str, int]] = dataclasses.field(
        default_factory=lambda: deque(maxlen=16)
    )

    def look(self, now: int, *, last: bool = False) -> bool:
        """Take a snapshot; return whether it shows emergency.

        Args:
            now: proxy time.
            last: the subsystem has ended: a proxy that is closed or gone then has its
                default, and needs no more.

        Raises:
            ProxyError: what the proxy raises.
        """
        try:
            self.snapshot = self.proxy.snapshot(now)
        except ProxyError as error:
            if not last or error.code not in _ENDED:
                raise
            if self.snapshot is not None and self.snapshot.mode != Mode.EMERGENCY:
                # It cannot tell any more, and this is what the kernel made of it.
                self.snapshot = dataclasses.replace(
                    self.snapshot,
                    mode=Mode.EMERGENCY,
                    reason=Reason.AGENT_GONE,
                    now=max(now, self.snapshot.now),
                    mode_since=max(now, self.snapshot.now),
                    mode_seq=self.snapshot.mode_seq + 1,
                )
            return True
        return self.snapshot.mode == Mode.EMERGENCY


@dataclass(slots=True)
class _Run:
    """One life of the subsystem: its object, its thread and its proxies."""

    worker: Worker
    subsystem: Subsystem | None = None
    context: SubsystemContext | None = None
    hung: bool = False
    stopped: bool = False


class Supervisor:
    """Runs one subsystem until it is done, stopped or out of restarts.

    Args:
        factory: how to make it.
        context: what to start it with.
        limits: deadlines and intervals.
        sink: where messages go.
        clock: time.
        plugin: name of the plugin that brought it.
    """

    def __init__(
        self,
        factory: SubsystemFactory,
        context: SubsystemContext,
        limits: Limits,
        sink: EventSink,
        clock: Clock,
        *,
        plugin: str = "",
    ) -> None:
        self.name = factory.name
        self.plugin = plugin or factory.name
        self.state: SupervisorState = "starting"
        self.failure: Failure | None = None
        self.restarts = 0
        self.steps = 0
        self.settled = asyncio.Event()
        """Set when this subsystem will do nothing more: finished, stopped or out."""
        self.started = asyncio.Event()
        """Set once it has run, or failed to."""
        self._factory = factory
        self._context = context
        self._limits = limits
        self._sink = sink
        self._clock = clock
        self._stop = asyncio.Event()
        self._watched: dict[str, _Watched] = {}
        self._holds: dict[str, bool] = {}
        self._hold_all = False
        self._critical: dict[str, str] = {}
        self._over = False
        self._guard = Worker(f"mlproxy-guard-{self.name}")
        self._current: _Run | None = None
        self._last_report = float("-inf")
        self._last_state = float("-inf")

    # -- life ---------------------------------------------------------------

    async def run(self) -> None:
        """Run until done, stopped or out of restarts; never raises for the plugin."""
        try:
            while True:
                run = _Run(Worker(f"mlproxy-{self.name}"))
                self._current = run
                ended = await self._live(run)
                if ended:
                    self.state = "stopped" if self._stop.is_set() else "finished"
                    self._tell(self.state)
                    return
                if not await self._wait_for_restart(run):
                    return
                self.restarts += 1
                self.failure = None
                self._tell("restarted", message=f"restart {self.restarts}")
        finally:
            self._over = True
            if self._current is not None:
                self._current.worker.close()
            self._guard.close()
            self.started.set()
            self.settled.set()

    def request_stop(self) -> None:
        """Ask for a clean stop; `run` returns when it is done."""
        self._stop.set()

    def hold(
        self,
        *,
        everything: bool,
        proxies: Mapping[str, bool],
        critical: Mapping[str, str] | None = None,
    ) -> None:
        """Start in emergency (before `run`).

        Args:
            everything: the operator's word for all proxies.
            proxies: his word for single ones, which wins.
            critical: pressure sources that are critical already, in words.
        """
        self._hold_all = everything
        self._holds = dict(proxies)
        self._critical = dict(critical or {})

    async def _live(self, run: _Run) -> bool:
        """One life. Returns False when it ended in quarantine."""
        phase = "start"
        try:
            await self._start(run)
            self._tell("started")
            self.started.set()
            self.state = "running"
            phase = "step"
            while not self._stop.is_set():
                result = await self._call(run, "step", self._limits.step, lambda: self._step(run))
                if result.done:
                    break
                if not result.worked:
                    period = max(0.001, float(getattr(run.subsystem, "period_seconds", 1.0)))
                    await self._clock.wait(self._stop, period)
            phase = "stop"
            self.state = "stopping"
            await self._call(run, "stop", self._limits.stop, lambda: self._end(run))
        except PluginError as error:
            await self._quarantine(run, error, str(error.context.get("phase", phase)))
            return False
        finally:
            run.worker.close()
        self._emit_changes(StepResult(), forced=True)
        self._emit_states(final=True)
        return True

    async def _start(self, run: _Run) -> None:
        def start() -> Sequence[Proxy]:
            Path(self._context.state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
            run.subsystem = self._factory.create()
            run.context = dataclasses.replace(self._context)  # with a list of its own
            return list(run.subsystem.start(run.context))

        proxies = await self._call(run, "start", self._limits.start, start)

        def look() -> dict[str, _Watched]:
            watched = {}
            for proxy in proxies:
                config = proxy.config
                name = config.name
                if name in watched:
                    raise PluginError(
                        f"two proxies are named {name!r}", code="plugin.bad_proxy", phase="start"
                    )
                watched[name] = _Watched(proxy, config, proxy.guard)
            return watched

        self._watched = {}
        self._watched = await self._call(run, "start", self._limits.start, look)
        holds = {n: True for n in self._watched if self._holds.get(n, self._hold_all)}
        if holds:
            await self._call(run, "start", self._limits.step, lambda: self._apply(run, holds))
        if self._critical:
            await self._call(run, "start", self._limits.step, lambda: self._alarm(run, True))
        await self._call(run, "start", self._limits.step, lambda: self._look(run))
        self._emit_changes(StepResult())
        self._emit_states(final=True)

    def _step(self, run: _Run) -> StepResult:
        """In the worker: one step, and a look at the proxies when it is due."""
        if run.subsystem is None:  # pragma: no cover - start comes first
            raise RuntimeError("not started")
        result = run.subsystem.step()
        if not isinstance(result, StepResult):
            raise TypeError(f"step() returned {type(result).__name__}, not StepResult")
        now = self._clock.monotonic()
        if result.done or result.events or now - self._last_report >= self._limits.report_interval:
            self._last_report = now
            self._look(run)
        return result

    def _end(self, run: _Run) -> None:
        """In the worker: stop the subsystem, then see that its proxies are in emergency."""
        run.stopped = True
        if run.subsystem is None:
            return
        try:
            run.subsystem.stop()
        finally:
            try:
                for name, watched in self._watched.items():
                    now = run.subsystem.now(name)
                    if not watched.look(now, last=True):
                        watched.proxy.stop(now, Reason.AGENT_GONE)
                        watched.look(now, last=True)
            finally:
                self._close(run)

    def _close(self, run: _Run) -> None:
        """Give back what the proxies hold: theirs, and those that a failed start has left."""
        made = run.context.made if run.context is not None else []
        with contextlib.ExitStack() as stack:  # all of them, whatever one raises
            for proxy in [*(w.proxy for w in self._watched.values()), *made]:
                stack.callback(proxy.close)

    def _look(self, run: _Run) -> None:
        """In the worker: take snapshots."""
        if run.subsystem is not None:
            for name, watched in self._watched.items():
                watched.look(run.subsystem.now(name))

    async def _call(self, run: _Run, phase: str, deadline: float, function: Callable[[], T]) -> T:
        """Run in the worker; every way to fail becomes a PluginError with the phase."""
        try:
            value = await run.worker.call(function, deadline)
        except TimeoutError as error:
            run.hung = True
            raise PluginError(
                f"did not return from {phase}() within {deadline:g} s",
                code="plugin.overrun",
                hint="do less per step, or never wait inside it",
                plugin=self.plugin,
                phase=phase,
            ) from error
        except MlproxyError as error:
            raise PluginError(
                str(error.args[0]),
                code=error.code,
                hint=error.hint,
                plugin=self.plugin,
                phase=phase,
            ) from error
        except Exception as error:
            raise PluginError(
                f"{type(error).__name__}: {error}",
                code=_FAILED[phase],
                plugin=self.plugin,
                phase=phase,
            ) from error
        if phase == "step" and isinstance(value, StepResult):
            self.steps += 1
            self._take(value)
        return value

    # -- quarantine -----------------------------------------------------------

    async def _quarantine(self, run: _Run, error: PluginError, phase: str) -> None:
        self.state = "quarantined"
        self.failure = Failure(error.code, phase, str(error.args[0]))
        if not run.hung and not run.stopped:
            # The thread is free: stop() is owed, and what it raises changes nothing.
            try:
                await run.worker.call(lambda: self._end(run), self._limits.stop)
            except TimeoutError:
                run.hung = True
            except Exception:  # noqa: BLE001, S110 - the first failure is the one to tell
                pass
        await self._force_emergency(run)
        self._tell("quarantined", phase=phase, code=error.code, message=str(error.args[0]))
        self._emit_changes(StepResult(), forced=True)
        self._emit_states(final=True)
        self.started.set()

    async def _force_emergency(self, run: _Run) -> None:
        """Stop every proxy from the guard thread, whatever the worker does (module docstring)."""

        def stop_all() -> None:
            for name, watched in self._watched.items():
                last = watched.snapshot.now if watched.snapshot else 0
                try:
                    now = max(last, run.subsystem.now(name)) if run.subsystem else last
                except Exception:  # noqa: BLE001 - the plugin's clock is not to be relied on now
                    now = last
                for _ in range(100):
                    if watched.look(now, last=True):
                        break
                    watched.proxy.stop(now, Reason.AGENT_GONE)
                    watched.look(now, last=True)
            if not run.hung or not run.worker.alive:
                self._close(run)

        try:
            await self._guard.call(stop_all, GUARD_SECONDS)
        except Exception as error:  # noqa: BLE001 - now() or a proxy of the plugin's own hangs
            self._guard.close()
            self._guard = Worker(f"mlproxy-guard-{self.name}")
            self._tell(
                "guard_failed", phase="stop", code="plugin.guard_failed", message=repr(error)
            )

    async def _wait_for_restart(self, run: _Run) -> bool:
        """Wait out the backoff; False when there is no further life."""
        if self.restarts >= self._limits.restart_limit:
            self._tell(
                "gave_up",
                code="plugin.gave_up",
                message=f"not restarted again after {self.restarts} restarts",
            )
            self.settled.set()
            await self._watch_abandoned(run)
            return False
        backoff = min(MAX_BACKOFF, self._limits.restart_backoff * 2**self.restarts)
        self.state = "backoff" if not run.hung else "quarantined"
        while not await self._clock.wait(self._stop, backoff):
            # A thread that hangs holds on to whatever it had: no second one beside it.
            if not run.hung or not run.worker.alive:
                await self._force_emergency(run)
                self.state = "starting"
                return True
        self.state = "quarantined"
        return False

    async def _watch_abandoned(self, run: _Run) -> None:
        """Stay until stopped; look at the proxies again when a hung thread has come back."""
        while run.worker.alive and not await self._clock.wait(self._stop, MAX_BACKOFF / 60):
            pass
        await self._force_emergency(run)
        await self._stop.wait()

    # -- operator -------------------------------------------------------------

    async def emergency(self, on: bool, proxy: str | None = None) -> list[str]:
        """Put proxies into emergency by the operator's word, or release them.

        A hold survives restarts of the subsystem.

        Args:
            on: True to hold, False to release (which also clears a latch).
            proxy: only this one; None: all.

        Returns:
            Names of the proxies that were told.

        Raises:
            PluginError: `plugin.emergency_failed`, a proxy could not be reached.
        """
        if proxy is None:
            self._hold_all = on
            self._holds.clear()
        else:
            self._holds[proxy] = on
        names = {n: on for n in self._watched if proxy in (None, n)}
        if names:
            await self._reach(lambda run: self._apply(run, names))
        return sorted(names)

    async def critical(self, source: str, on: bool, words: str, code: str) -> None:
        """Hear that a source of `subsystem.NAME.critical` is critical, or no longer.

        While any of them is, all proxies are in emergency; that survives restarts.

        Args:
            source: its name.
            on: whether it is.
            words: what was measured.
            code: why it is: `psi.pressure`, or that it cannot be measured.

        Raises:
            PluginError: `plugin.emergency_failed`, a proxy could not be reached.
        """
        before = bool(self._critical)
        self._critical.pop(source, None)
        if on:
            self._critical[source] = words
        what, why = ("critical", code) if on else ("relieved", "")
        self._tell(what, phase="critical", code=why, message=f"{source}: {words}")
        after = bool(self._critical)
        if before != after and self._watched:
            await self._reach(lambda run: self._alarm(run, after))

    async def _reach(self, function: Callable[[_Run], None]) -> None:
        """Tell the proxies something between two steps or, when the worker is busy, beside one.

        Raises:
            PluginError: `plugin.emergency_failed`.
        """
        run = self._current
        if run is None or self._over:
            return  # none yet, or all of them stopped for good
        told = False
        if self.state == "running":
            try:
                await run.worker.call(lambda: function(run), GUARD_SECONDS)
                told = True
            except TimeoutError:
                pass  # busy: the guard does it from beside
        if not told:
            try:
                await self._guard.call(lambda: function(run), GUARD_SECONDS)
            except Exception as error:
                raise PluginError(
                    f"subsystem {self.name!r} could not be told: {error!r}",
                    code="plugin.emergency_failed",
                    hint="stop the daemon: its proxies then fall to emergency by themselves",
                    plugin=self.plugin,
                    phase="emergency",
                ) from error
        self._emit_changes(StepResult())
        self._emit_states(final=True)

    def _apply(self, run: _Run, names: Mapping[str, bool]) -> None:
        """In the worker or the guard: tell proxies the operator's word."""
        for name, on in names.items():
            self._say(run, name, "operator_emergency", on=on)

    def _alarm(self, run: _Run, on: bool) -> None:
        """In the worker or the guard: tell all proxies of the subsystem's need."""
        for name in self._watched:
            self._say(run, name, "critical", on=on)

    def _say(
        self, run: _Run, name: str, word: Literal["operator_emergency", "critical"], *, on: bool
    ) -> None:
        watched = self._watched[name]
        last = watched.snapshot.now if watched.snapshot else 0
        now = run.subsystem.now(name) if run.subsystem else last
        try:
            getattr(watched.proxy, word)(on, now)
        except ProxyError as error:
            # Between two lives: the next one hears of it at its start.
            if error.code not in _ENDED:
                raise
        watched.look(now, last=True)

    def proxies(self) -> list[str]:
        """Names of the proxies, as far as known."""
        return sorted(set(self._watched) | set(self._factory.proxies))

    # -- reporting --------------------------------------------------------------

    def _take(self, result: StepResult) -> None:
        for name, numbers in result.metrics.items():
            if name in self._watched:
                self._watched[name].metrics = numbers
        for name, report in result.models.items():
            if name in self._watched:
                self._watched[name].models = report
        self._emit_changes(result)
        now = self._clock.monotonic()
        if result.done or now - self._last_state >= self._limits.state_interval:
            self._last_state = now
            self._emit_states()

    def _emit_changes(self, result: StepResult, *, forced: bool = False) -> None:
        own_champions = set()
        for event in result.events:
            watched = self._watched.get(event.proxy)
            if isinstance(event, ModeEvent) and watched is not None:
                watched.own_modes = True
                if (event.new, event.reason, event.at) in watched.told_modes:
                    continue  # a snapshot was quicker than the subsystem
                watched.last_mode = event.new
            if isinstance(event, ModelEvent) and event.what == "champion":
                own_champions.add(event.proxy)
            self._sink.emit(event)
        for name, watched in self._watched.items():
            new, old = watched.snapshot, watched.told
            if new is None:
                continue
            messages: list[FeedEvent] = []
            if new is not old:
                with_mode = not watched.own_modes
                messages = changes(name, old, new, with_mode=with_mode, unit=self._unit(name))
            if forced and watched.own_modes and watched.last_mode != word(new.mode):
                # The subsystem can no longer tell of its own modes.
                messages.append(mode_event(name, watched.last_mode, new, self._unit(name)))
            for message in messages:
                if isinstance(message, ModeEvent):
                    watched.told_modes.append((message.new, message.reason, message.at))
                    watched.last_mode = message.new
                self._sink.emit(message)
            if new is old:
                continue
            champion = champion_event(name, watched.told_models, watched.models, new)
            if champion is not None and name not in own_champions:
                self._sink.emit(champion)
            watched.told_models = watched.models
            urgent = old is None or _face(old) != _face(new)
            watched.told = new
            if urgent:
                self._emit_state(watched)

    def _emit_states(self, *, final: bool = False) -> None:
        for name, watched in self._watched.items():
            self._emit_state(watched)
            if watched.metrics:
                values = {str(k): float(v) for k, v in watched.metrics.items()}
                self._sink.emit(MetricMessage(proxy=name, values=values))
                if final:
                    watched.metrics = {}

    def _emit_state(self, watched: _Watched) -> None:
        if watched.snapshot is not None:
            self._sink.emit(self._state(watched, watched.snapshot))

    def _state(self, watched: _Watched, snapshot: Snapshot) -> StateMessage:
        config = watched.config
        unit = self._unit(config.name)
        return state_message(config, self.name, watched.guard, snapshot, watched.models, unit)

    def _unit(self, proxy: str) -> float:
        return self._factory.cost_units.get(proxy, 1.0)

    def _tell(self, what: str, *, phase: str = "", code: str = "", message: str = "") -> None:
        self._sink.emit(
            PluginEvent(proxy=self.name, what=what, phase=phase, code=code, message=message)
        )

    def status(self) -> dict[str, Any]:
        """Everything about the subsystem, ready for JSON."""
        proxies = {}
        for name, watched in self._watched.items():
            if watched.snapshot is not None:
                message = self._state(watched, watched.snapshot)
                proxies[name] = msgspec.to_builtins(message) | {"metrics": dict(watched.metrics)}
        return {
            "name": self.name,
            "plugin": self.plugin,
            "state": self.state,
            "steps": self.steps,
            "restarts": self.restarts,
            "failure": self.failure.as_dict() if self.failure else None,
            "critical": dict(self._critical),
            "proxies": proxies,
        }


def _face(s: Snapshot) -> tuple[object, ...]:
    """What makes a state worth sending at once."""
    return (s.mode_seq, s.reason, s.latched, s.operator_hold, s.trips, s.model_version)
