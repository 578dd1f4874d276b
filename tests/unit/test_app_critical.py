"""Pressure reaches those subsystems that name it, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mlproxy.app.critical import RETRY_SECONDS, PressureWatch
from mlproxy.app.daemon import Daemon
from mlproxy.config.load import Source, load
from mlproxy.events.types import ModeEvent, PluginEvent
from mlproxy.hooks import Hooks
from mlproxy.plugin.registry import Registry
from mlproxy.psi import PsiSource
from mlproxy.testing import FakeClock, RecordingSink
from mlproxy.testing.sample import RELEASE, demo_factory

LINE = "avg10=0.00 avg60=0.00 avg300=0.00"
SOURCE = PsiSource(on_percent=10, off_percent=2, window_seconds=1, quiet_seconds=1)


class Memory:
    """The pressure file of a fake machine."""

    def __init__(self, root: Path) -> None:
        self.file = root / "proc/pressure/memory"
        self.file.parent.mkdir(parents=True)
        self.total = 0
        self.stall(0)

    def stall(self, seconds: float) -> None:
        self.total += round(seconds * 1e6)
        self.file.write_text(f"some {LINE} total=0\nfull {LINE} total={self.total}\n")


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Told:
    def __init__(self) -> None:
        self.heard: list[tuple[str, bool, str]] = []

    async def __call__(self, source: str, on: bool, words: str, code: str) -> None:
        del words
        self.heard.append((source, on, code))


@asynccontextmanager
async def watching(
    root: Path, sources: dict[str, PsiSource]
) -> AsyncIterator[tuple[PressureWatch, Told, Callable[[float], Any]]]:
    clock, told = FakeClock(), Told()
    watch = PressureWatch(told, clock, root=str(root))
    watch.set_sources(sources)

    async def pass_time(seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            clock.advance(0.25)
            await settle()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch.run())
        await settle()
        yield watch, told, pass_time
        task.cancel()


async def test_a_change_is_told_once(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    async with watching(tmp_path, {"m": SOURCE}) as (watch, told, pass_time):
        await pass_time(1)
        assert told.heard == []
        memory.stall(0.5)
        await pass_time(0.5)
        assert told.heard == [("m", True, "psi.pressure")]
        assert "50" in watch.critical["m"][0]
        await pass_time(1)
        assert len(told.heard) == 1
        await pass_time(2)
        assert told.heard[1:] == [("m", False, "psi.pressure")]
        assert watch.critical == {}


async def test_what_cannot_be_read_is_critical_until_it_can(tmp_path: Path) -> None:
    async with watching(tmp_path, {"m": SOURCE}) as (watch, told, pass_time):
        assert told.heard == [("m", True, "psi.off")]
        assert "psi=1" in watch.critical["m"][0]
        Memory(tmp_path)
        await pass_time(RETRY_SECONDS)
        assert told.heard[1:] == [("m", False, "psi.pressure")]


async def test_a_source_may_become_unreadable_while_critical(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    async with watching(tmp_path, {"m": SOURCE}) as (_, told, pass_time):
        await pass_time(1)
        memory.stall(0.5)
        await pass_time(0.5)
        memory.file.unlink()
        await pass_time(0.5)
        assert told.heard == [("m", True, "psi.pressure"), ("m", True, "psi.off")]


async def test_sources_that_stay_keep_what_is_known(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    async with watching(tmp_path, {}) as (watch, told, pass_time):
        await pass_time(1)
        watch.set_sources({"m": SOURCE, "n": SOURCE})
        await pass_time(1)
        memory.stall(0.5)
        await pass_time(0.5)
        assert sorted(told.heard) == [("m", True, "psi.pressure"), ("n", True, "psi.pressure")]
        watch.set_sources({"m": SOURCE})
        assert set(watch.critical) == {"m"}
        watch.set_sources({"m": SOURCE.model_copy(update={"on_percent": 99.0})})
        assert watch.critical == {}
        await pass_time(2)
        assert len(told.heard) == 2


# -- the daemon ---------------------------------------------------------------------


class Box:
    """A daemon with two subsystems on a machine whose memory may run short."""

    def __init__(self, directory: Path) -> None:
        self.memory = Memory(directory / "root")
        self.file = directory / "m.toml"
        self.sink = RecordingSink()
        self.state = directory / "state"
        self.write('critical = ["tight"]')
        factories = {n: demo_factory(n) for n in ("demo", "other")}
        registry = Registry(Hooks(), [], factories, {n: n for n in factories})
        source = Source(self.file, (), {})
        config, _ = load(source, registry=registry)
        self.daemon = Daemon(
            config, registry, source=source, sinks=(self.sink,), root=str(directory / "root")
        )

    def write(self, demo: str, on: float = 10.0) -> None:
        self.file.write_text(
            f"[daemon]\nstate_dir = '{self.state}'\n"
            f"[subsystem.demo]\n{demo}\n"
            f"[psi.tight]\non_percent = {on}\nwindow_seconds = 0.1\nquiet_seconds = 0.0\n"
        )

    def modes(self, name: str) -> list[tuple[str, str]]:
        return [(e.new, e.reason) for e in self.sink.of(ModeEvent, f"{name}.demo")]

    def proxy(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.daemon.status()["subsystems"][name]["proxies"]
        return found.get(f"{name}.demo", {})

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - conditions of many kinds
                await asyncio.sleep(0.002)

    async def storm(self, condition: Callable[[], object]) -> None:
        """Stall all the time until the condition holds."""
        async with asyncio.timeout(20):
            while not condition():
                self.memory.stall(10)
                await asyncio.sleep(0.01)


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    RELEASE.clear()
    made = Box(tmp_path)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.daemon.run())
        await made.daemon.ready.wait()
        await made.until(lambda: made.modes("demo") and made.modes("other"))
        yield made
        RELEASE.set()
        made.daemon.request_stop()
        await task


async def test_pressure_puts_proxies_into_emergency_and_lets_them_go(box: Box) -> None:
    await box.storm(lambda: ("emergency", "critical") in box.modes("demo"))
    status = box.daemon.status()["subsystems"]
    assert "limit 10%" in status["demo"]["critical"]["tight"]
    assert status["other"]["critical"] == {}
    await box.until(lambda: box.proxy("demo")["mode"] == "learning")

    assert box.modes("other") == [("learning", "start")]
    told = [(e.what, e.code) for e in box.sink.of(PluginEvent, "demo") if e.phase == "critical"]
    assert told == [("critical", "psi.pressure"), ("relieved", "")]


async def test_the_alarm_survives_a_restart_of_the_subsystem(box: Box) -> None:
    await box.storm(lambda: ("emergency", "critical") in box.modes("demo"))
    box.memory.file.unlink()  # now it stays critical
    await box.until(lambda: "psi.off" in [e.code for e in box.sink.of(PluginEvent, "demo")])
    box.write('critical = ["tight"]\nsteps = 1000000')
    assert (await box.daemon.reload())["restarted"] == ["demo"]
    await box.until(lambda: box.proxy("demo"))

    assert box.proxy("demo")["mode"] == "emergency"
    assert "psi=1" in box.daemon.status()["subsystems"]["demo"]["critical"]["tight"]


async def test_a_reload_changes_who_listens_to_what(box: Box) -> None:
    box.write('critical = ["tight"]', on=99.5)
    assert (await box.daemon.reload())["restarted"] == ["demo"]
    box.write("critical = []", on=99.5)
    assert (await box.daemon.reload())["restarted"] == ["demo"]
    for _ in range(30):
        box.memory.stall(10)
        await asyncio.sleep(0.01)

    assert ("emergency", "critical") not in box.modes("demo")
