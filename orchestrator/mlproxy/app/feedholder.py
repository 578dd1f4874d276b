"""Hold the feed while the daemon runs, and change it when its section changes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from mlproxy.clock import Clock
from mlproxy.config.model import FeedConfig
from mlproxy.errors import FeedError
from mlproxy.events.types import FeedMessage
from mlproxy.log import get_logger

__all__ = ("FeedHolder", "FeedLike", "FeedMaker")

RETRY_SECONDS = 5.0


class FeedLike(Protocol):
    """What the daemon needs of a running feed."""

    def emit(self, message: FeedMessage) -> None:
        """Take a message; never blocks."""

    def status(self) -> Any:
        """Describe the feed: a struct or dict that msgspec can make JSON of."""


FeedMaker = Callable[[FeedConfig], AbstractAsyncContextManager[FeedLike]]


class FeedHolder:
    """An EventSink whose feed can be replaced; keeps what comes meanwhile.

    A feed that dies of a bug is logged and started again: it is never a reason
    to let go of the proxies.

    Args:
        make: section `[feed]` -> the feed's context manager.
        group: task group that the feed's task belongs to.
        clock: time.
        keep: messages kept while no feed is up; the oldest go first.
    """

    def __init__(
        self, make: FeedMaker, group: asyncio.TaskGroup, clock: Clock, *, keep: int = 4096
    ) -> None:
        self._make = make
        self._group = group
        self._clock = clock
        self._waiting: deque[FeedMessage] = deque(maxlen=keep)
        self._feed: FeedLike | None = None
        self._enabled = True
        self._error = ""
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = get_logger()

    def emit(self, message: FeedMessage) -> None:
        """Pass on a message, or keep it while no feed is up."""
        if self._feed is not None:
            self._feed.emit(message)
        elif self._enabled:
            self._waiting.append(message)

    def status(self) -> dict[str, Any]:
        """The feed's own status, with `state` up, down or disabled."""
        if self._feed is not None:
            described: dict[str, Any] = msgspec.to_builtins(self._feed.status())
            return {"state": "up"} | described
        if not self._enabled:
            return {"state": "disabled"}
        return {"state": "down", "waiting": len(self._waiting), "last_error": self._error}

    async def start(self, config: FeedConfig) -> None:
        """Bring a feed up.

        Raises:
            FeedError: it could not be set up; none is up then.
        """
        self._enabled = config.enabled
        if not config.enabled:
            self._waiting.clear()
            return
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._task = self._group.create_task(self._hold(config, self._stop, ready), name="feed")
        await ready

    async def stop(self) -> None:
        """Take the feed down cleanly (it says offline); returns when it is done."""
        if self._task is not None:
            self._stop.set()
            await asyncio.wait([self._task])
            self._task = None

    async def replace(self, old: FeedConfig, new: FeedConfig) -> None:
        """Change to a new configuration; when that fails, go back to the old one.

        Raises:
            FeedError: the new one could not be set up; the old one is up again.
        """
        await self.stop()
        try:
            await self.start(new)
        except FeedError:
            await self.start(old)
            raise

    async def _hold(
        self, config: FeedConfig, stop: asyncio.Event, ready: asyncio.Future[None]
    ) -> None:
        while not stop.is_set():
            try:
                await self._live(config, stop, ready)
            except FeedError as error:
                if not ready.done():
                    ready.set_exception(error)
                    return
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - see the class: the proxies come first
                if not ready.done():
                    wrapped = FeedError(repr(error), code="feed.failed", hint="please report this")
                    ready.set_exception(wrapped)
                    return
                self._failed(error)
            if not stop.is_set():
                await self._clock.wait(stop, RETRY_SECONDS)

    def _failed(self, error: Exception) -> None:
        self._error = repr(error)
        self._log.error("feed.failed", error=repr(error))

    async def _live(
        self, config: FeedConfig, stop: asyncio.Event, ready: asyncio.Future[None]
    ) -> None:
        async with self._make(config) as feed:
            while self._waiting:
                feed.emit(self._waiting.popleft())
            self._feed = feed
            if not ready.done():
                ready.set_result(None)
            try:
                await stop.wait()
            finally:
                self._feed = None
