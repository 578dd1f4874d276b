"""A daemon inside the test: what a reload does to the feed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mlproxy.app.daemon import Daemon, Ended
from mlproxy.app.feedholder import FeedLike
from mlproxy.config.load import Source, load
from mlproxy.errors import FeedError
from mlproxy.events.types import FeedMessage, StateMessage
from mlproxy.feed.config import FeedConfig
from mlproxy.hooks import Hooks
from mlproxy.plugin.registry import PluginRecord, Registry
from mlproxy.testing import RecordingSink
from mlproxy.testing.sample import demo_factory


class Feeds:
    """Makes feeds that only remember; port 666 cannot be set up."""

    def __init__(self) -> None:
        self.made: list[tuple[FeedConfig, RecordingSink]] = []
        self.open = 0
        self.crash = asyncio.Event()

    @asynccontextmanager
    async def __call__(self, section: FeedConfig) -> AsyncIterator[FeedLike]:
        if section.port == 666:
            raise FeedError("not this one", code="feed.broker")
        sink = RecordingSink()
        self.made.append((section, sink))
        self.open += 1

        class One:
            def emit(self, message: FeedMessage) -> None:
                sink.emit(message)

            def status(self) -> dict[str, Any]:
                return {"connected": True}

        try:
            async with asyncio.TaskGroup() as group:
                watcher = group.create_task(self._crash())
                yield One()
                watcher.cancel()
        finally:
            self.open -= 1

    async def _crash(self) -> None:
        await self.crash.wait()
        self.crash.clear()
        raise RuntimeError("a bug in the feed")


class Box:
    def __init__(self, directory: Path) -> None:
        self.file = directory / "m.toml"
        self.state = directory / "state"
        self.write()
        self.source = Source(self.file, (), {})
        records = [PluginRecord("demo", "demo", "loaded", subsystems=("demo",))]
        factories = {"demo": demo_factory("demo")}
        registry = Registry(Hooks(), records, factories, {"demo": "demo"})
        config, _ = load(self.source, registry=registry)
        self.feeds = Feeds()
        self.daemon = Daemon(config, registry, source=self.source, feed=self.feeds)

    def write(self, feed: str = "", demo: str = "") -> None:
        self.file.write_text(
            f"[daemon]\nstate_dir = '{self.state}'\n"
            f"[feed]\nport = 1\n{feed}[subsystem.demo]\n{demo}"
        )

    def steps(self) -> int:
        return int(self.daemon.status()["subsystems"]["demo"]["steps"])


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Box]:
    box = Box(directory)
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        task = group.create_task(box.daemon.run())
        await box.daemon.ready.wait()
        while box.steps() < 2:  # noqa: ASYNC110 - a number, not an event
            await asyncio.sleep(0.005)
        yield box
        box.daemon.request_stop()
        assert await task is Ended.STOPPED
    assert box.feeds.open == 0


async def test_the_feed_is_told_of_every_state_to_the_last(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        sink = box.feeds.made[0][1]

    assert sink.of(StateMessage)[-1].mode == "emergency"
    assert box.daemon.status()["subsystems"]["demo"]["state"] == "stopped"


async def test_an_unchanged_feed_is_not_touched(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        box.write(demo="fault_step = 9\n")
        result = await box.daemon.reload()

        assert (result["restarted"], result["feed"]) == (["demo"], False)
        assert len(box.feeds.made) == 1


async def test_a_changed_feed_is_replaced_and_subsystems_are_not(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        steps = box.steps()
        box.write(feed="keepalive_seconds = 9\n")
        result = await box.daemon.reload()

        assert (result["restarted"], result["feed"]) == ([], True)
        assert [c.keepalive_seconds for c, _ in box.feeds.made] == [10, 9]
        assert box.feeds.open == 1
        assert box.steps() >= steps
        box.write(feed="enabled = false\n")
        await box.daemon.reload()
        assert box.daemon.status()["feed"] == {"state": "disabled"}
        assert box.feeds.open == 0


async def test_when_the_new_feed_cannot_be_the_old_one_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        box.write(demo="fault_step = 9\n")
        text = box.file.read_text().replace("port = 1\n", "port = 666\n")
        box.file.write_text(text)
        with pytest.raises(FeedError):
            await box.daemon.reload()

        assert [c.port for c, _ in box.feeds.made] == [1, 1]
        assert box.feeds.open == 1
        assert box.daemon.config.subsystems["demo"].options.model_dump()["fault_step"] == 3
        assert box.daemon.status()["reloads"] == 0


async def test_a_feed_that_dies_of_a_bug_does_not_take_the_daemon_along(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        steps = box.steps()
        box.feeds.crash.set()
        while box.daemon.status()["feed"]["state"] == "up":  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert "a bug in the feed" in box.daemon.status()["feed"]["last_error"]
        while box.steps() <= steps + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_feed_that_cannot_be_set_up_stops_the_start(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.file.write_text(box.file.read_text().replace("port = 1\n", "port = 666\n"))
    config, _ = load(box.source, registry=box.daemon.registry)
    daemon = Daemon(config, box.daemon.registry, feed=box.feeds)

    with pytest.raises(FeedError, match="not this one"):
        await daemon.run()
    assert not list(box.state.glob("*.sock"))
