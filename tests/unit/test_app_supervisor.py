"""Supervision: whatever a subsystem does, its proxies end in emergency and the others go on."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mlproxy.app.supervisor import Limits, Supervisor
from mlproxy.clock import SystemClock
from mlproxy.events.types import MetricMessage, ModeEvent, PluginEvent, RejectEvent, StateMessage
from mlproxy.proxy import Knob
from mlproxy.proxy.types import Kind, Mode, ProxyConfig, Reason, Recommendation, Trial
from mlproxy.subsystem import StepResult, SubsystemContext
from mlproxy.testing import RecordingSink
from mlproxy.testing.sample import RELEASE, DemoOptions, DemoSubsystem, demo_factory

LIMITS = Limits(
    restart_limit=0,
    restart_backoff=0.01,
    report_interval=0.001,
    state_interval=0.001,
)
# For what hangs: the deadline will be missed for certain, so it may be short.
HASTY = dataclasses.replace(LIMITS, start=0.3, step=0.3, stop=0.3)


@pytest.fixture(autouse=True)
def _release() -> Iterator[None]:
    RELEASE.clear()
    yield
    RELEASE.set()


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a condition; the limit only ends a test that has failed already."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions of many kinds
            await asyncio.sleep(0.002)


class Bench:
    """Supervisors over one sink."""

    def __init__(self, directory: Path) -> None:
        self.sink = RecordingSink()
        self.supervisors: dict[str, Supervisor] = {}
        self.directory = directory
        self.group: asyncio.TaskGroup | None = None

    def add(
        self,
        name: str,
        limits: Limits = LIMITS,
        *,
        factory: Any = None,
        overrides: dict[str, dict[str, int]] | None = None,
        **options: Any,
    ) -> Supervisor:
        context = SubsystemContext(
            name, DemoOptions(**options), 1, str(self.directory / name), overrides or {}
        )
        supervisor = Supervisor(
            factory or demo_factory(name), context, limits, self.sink, SystemClock()
        )
        self.supervisors[name] = supervisor
        assert self.group is not None
        self.group.create_task(supervisor.run())
        return supervisor

    def plugin_events(self, name: str) -> list[str]:
        return [e.what for e in self.sink.of(PluginEvent, name)]

    def mode(self, name: str) -> str:
        return str(self.sink.of(StateMessage, f"{name}.demo")[-1].mode)


@asynccontextmanager
async def bench(directory: Path) -> AsyncIterator[Bench]:
    made = Bench(directory)
    async with asyncio.TaskGroup() as group:
        made.group = group
        yield made
        RELEASE.set()
        for supervisor in made.supervisors.values():
            supervisor.request_stop()


async def test_a_subsystem_runs_until_done_and_its_proxy_ends_in_emergency(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        s = b.add("a", steps=5)
        await until(s.settled.is_set)

    assert s.state == "finished"
    assert s.steps == 5
    assert b.plugin_events("a") == ["started", "finished"]
    modes = [(e.old, e.new, e.reason) for e in b.sink.of(ModeEvent)]
    assert modes == [("emergency", "learning", "start"), ("learning", "emergency", "agent-gone")]
    assert b.mode("a") == "emergency"
    assert b.sink.of(MetricMessage)[-1].values == {"steps_total": 5.0}


async def test_stop_is_clean(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        s = b.add("a")
        await until(lambda: s.steps >= 2)
        s.request_stop()
        await until(s.settled.is_set)

    assert s.state == "stopped"
    assert b.mode("a") == "emergency"


@pytest.mark.parametrize(
    ("fault", "phase", "code"),
    [
        ("start-raise", "start", "plugin.start_failed"),
        ("start-hang", "start", "plugin.overrun"),
        ("start-bad", "start", "plugin.start_failed"),
        ("step-raise", "step", "plugin.step_failed"),
        ("step-sleep", "step", "plugin.overrun"),
        ("step-busy", "step", "plugin.overrun"),
        ("step-exit", "step", "plugin.step_failed"),
        ("step-bad", "step", "plugin.step_failed"),
        ("now-raise", "step", "plugin.step_failed"),
    ],
)
async def test_a_broken_subsystem_is_quarantined_and_the_other_goes_on(
    tmp_path: Path, fault: str, phase: str, code: str
) -> None:
    async with bench(tmp_path) as b:
        limits = HASTY if code == "plugin.overrun" else LIMITS
        bad = b.add("bad", limits, fault=fault)
        good = b.add("good")
        await until(bad.settled.is_set)
        steps = good.steps
        await until(lambda: good.steps > steps + 3)
        assert bad.state == "quarantined"
        assert good.state == "running"

    assert bad.failure is not None
    assert (bad.failure.phase, bad.failure.code) == (phase, code)
    assert "quarantined" in b.plugin_events("bad")
    if phase == "step":
        assert b.mode("bad") == "emergency"
        assert b.sink.of(ModeEvent, "bad.demo")[-1].new == "emergency"
    assert [e for e in b.sink.of(PluginEvent, "good") if e.code] == []


@pytest.mark.parametrize(
    ("fault", "code"), [("stop-raise", "plugin.stop_failed"), ("stop-hang", "plugin.overrun")]
)
async def test_a_broken_stop_is_told_and_the_proxy_still_ends_in_emergency(
    tmp_path: Path, fault: str, code: str
) -> None:
    async with bench(tmp_path) as b:
        limits = HASTY if code == "plugin.overrun" else LIMITS
        s = b.add("bad", limits, fault=fault, steps=3)
        await until(s.settled.is_set)
        assert s.state == "quarantined"

    assert s.failure is not None
    assert (s.failure.phase, s.failure.code) == ("stop", code)
    assert b.mode("bad") == "emergency"


async def test_a_subsystem_that_forgets_its_proxy_at_stop_does_not_leave_it_running(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as b:
        s = b.add("a", fault="stop-forget", steps=2)
        await until(s.settled.is_set)

    assert b.mode("a") == "emergency"


async def test_a_failed_subsystem_is_restarted_until_it_works(tmp_path: Path) -> None:
    limits = dataclasses.replace(LIMITS, restart_limit=3)
    async with bench(tmp_path) as b:
        s = b.add("a", limits, fault="step-raise", fault_lives=2)
        await until(lambda: s.restarts == 2 and s.steps > 8)
        assert s.state == "running"
        assert s.failure is None
        assert b.mode("a") == "learning"

    assert b.plugin_events("a")[:6] == [
        "started",
        "quarantined",
        "restarted",
        "started",
        "quarantined",
        "restarted",
    ]


async def test_after_too_many_restarts_it_stays_out(tmp_path: Path) -> None:
    limits = dataclasses.replace(LIMITS, restart_limit=2)
    async with bench(tmp_path) as b:
        s = b.add("a", limits, fault="step-raise")
        await until(s.settled.is_set)

    assert s.restarts == 2
    assert b.plugin_events("a").count("quarantined") == 3
    assert b.plugin_events("a")[-1] == "gave_up"


async def test_a_hung_thread_gets_no_successor_before_it_has_come_back(tmp_path: Path) -> None:
    limits = dataclasses.replace(HASTY, restart_limit=3)
    async with bench(tmp_path) as b:
        s = b.add("a", limits, fault="step-sleep", fault_lives=1)
        await until(lambda: "quarantined" in b.plugin_events("a"))
        assert b.mode("a") == "emergency"
        await asyncio.sleep(0.1)  # several backoffs long
        assert s.restarts == 0
        RELEASE.set()
        await until(lambda: s.restarts == 1 and s.state == "running")
        assert b.mode("a") == "learning"


async def test_a_mode_that_a_hung_thread_stores_afterwards_does_not_last(tmp_path: Path) -> None:
    """The race that the supervisor's docstring describes, made to happen."""
    async with bench(tmp_path) as b:
        s = b.add("a", HASTY, fault="step-sleep")
        await until(s.settled.is_set)
        watched = s._watched["a.demo"]
        watched.proxy.force(Mode.TRUSTED, Reason.PROMOTED, 99)
        assert watched.proxy.snapshot(99).mode is Mode.TRUSTED
        RELEASE.set()
        await until(lambda: watched.proxy.snapshot(99).mode is Mode.EMERGENCY)


async def test_operator_emergency_holds_across_a_restart(tmp_path: Path) -> None:
    limits = dataclasses.replace(LIMITS, restart_limit=3)
    async with bench(tmp_path) as b:
        s = b.add("a", limits, fault="step-raise", fault_step=30, fault_lives=1)
        await until(lambda: s.steps > 1)
        assert await s.emergency(True) == ["a.demo"]
        assert b.mode("a") == "emergency"
        await until(lambda: s.restarts == 1 and s.state == "running")
        state = b.sink.of(StateMessage, "a.demo")[-1]
        assert (state.mode, state.operator_hold) == ("emergency", True)
        assert await s.emergency(False, "a.demo") == ["a.demo"]
        assert b.mode("a") == "learning"


async def test_operator_emergency_reaches_the_proxy_of_a_hung_step(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        s = b.add("a", fault="step-busy")
        await until(lambda: s.steps >= 2)
        await s.emergency(True)
        proxy = s._watched["a.demo"].proxy
        assert proxy.snapshot(5).operator_hold
        assert proxy.snapshot(5).mode is Mode.EMERGENCY


async def test_operator_emergency_of_a_finished_subsystem_is_no_error(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        s = b.add("a", steps=2)
        await until(s.settled.is_set)
        assert await s.emergency(True) == ["a.demo"]
        assert b.mode("a") == "emergency"


async def test_overrides_reach_the_proxy(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        s = b.add("a", overrides={"a.demo": {"alpha": 7, "budget": 9}})
        await until(lambda: s.steps >= 1)
        config = s._watched["a.demo"].config
        assert (config.alpha, config.budget) == (7, 9)


class Eventful(DemoSubsystem):
    """Tells of its own modes, gets recommendations refused, changes champions."""

    def step(self) -> StepResult:
        result = super().step()
        assert self._proxy is not None
        name = self._proxy.config.name
        stale = Recommendation(Kind.CHOICE, seq=0, expiry=1 << 40, model_id=1, model_version=1)
        self._proxy.submit(stale, self._count)
        events = []
        if self._count == 2:
            self._proxy.force(Mode.COLLABORATION, Reason.PROMOTED, self._count)
            events = [
                ModeEvent(
                    proxy=name,
                    old="learning",
                    new="collaboration",
                    reason="promoted",
                    at=self._count,
                )
            ]
        champion = "tree" if self._count >= 4 else "linear"
        report = {"champion": champion, "drifts": 2, "candidates": {"tree": {"loss": 0.5}}}
        return dataclasses.replace(result, events=events, models={name: report})


async def test_what_a_subsystem_tells_is_not_told_twice(tmp_path: Path) -> None:
    factory = dataclasses.replace(demo_factory("a"), create=lambda: Eventful("a"))
    async with bench(tmp_path) as b:
        s = b.add("a", factory=factory, steps=6)
        await until(s.settled.is_set)

    promoted = [e for e in b.sink.of(ModeEvent) if e.new == "collaboration"]
    assert len(promoted) == 1
    assert b.sink.of(ModeEvent)[-1].new == "emergency"
    assert len(b.sink.of(ModeEvent)) == 3
    assert sum(e.count for e in b.sink.of(RejectEvent)) == 6
    assert b.sink.of(RejectEvent)[-1].reason == "replay"
    assert b.sink.of(RejectEvent)[-1].total == 6
    state = b.sink.of(StateMessage)[-1]
    assert (state.champion, state.drifts) == ("tree", 2)
    assert state.models == {"tree": {"loss": 0.5}}


class Holder:
    """A subsystem with a knob proxy, which it leaves behind in one way or another."""

    name = "holder"
    period_seconds = 0.001

    def __init__(self, knob: Path, end: str) -> None:
        self.knob, self.end = knob, end
        self.steps = 0

    def start(self, context: SubsystemContext) -> list[Any]:
        config = ProxyConfig(
            "holder.demo", Kind.CHOICE, Trial.SWITCHBACK, epoch=10_000_000, share_trusted=999_999
        )
        self.proxy = context.knob_proxy(config, [Knob(str(self.knob), 0, 99)], settings=[[1], [5]])
        self.proxy.start(0)
        if self.end == "start":
            raise RuntimeError("fails on purpose")
        return [self.proxy]

    def step(self) -> StepResult:
        if not self.steps:
            self.proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
            self.proxy.submit(Recommendation(Kind.CHOICE, 1, 1 << 62, 1, 1, value=1), 0)
        if self.proxy.knob_status().applied:
            assert self.knob.read_text() == "5"
            self.steps += 1
            if self.end == "step":
                raise RuntimeError("fails on purpose")
            return StepResult(done=True)
        return StepResult(worked=False)

    def now(self, proxy: str) -> int:
        return 0

    def stop(self) -> None:
        if self.end == "closes":
            self.proxy.stop(0)
            self.proxy.close()


@pytest.mark.parametrize("end", ["closes", "forgets", "start", "step"])
async def test_knobs_are_given_back_however_a_subsystem_ends(tmp_path: Path, end: str) -> None:
    knob = tmp_path / "knob"
    knob.write_text("7\n")
    factory = dataclasses.replace(
        demo_factory("holder"), create=lambda: Holder(knob, end), proxies=("holder.demo",)
    )
    async with bench(tmp_path) as b:
        s = b.add("holder", factory=factory)
        await until(s.settled.is_set)
        assert knob.read_text().strip() == "7"
        assert await s.emergency(True) == ([] if end == "start" else ["holder.demo"])

    journals = tmp_path / "holder" / "knob-journal"
    assert list(journals.iterdir()) == []
    if end != "start":
        assert b.mode("holder") == "emergency"
        last = b.sink.of(ModeEvent)[-1]
        assert (last.new, last.reason) == ("emergency", "agent-gone")
    assert s.state == ("finished" if end in ("closes", "forgets") else "quarantined")
