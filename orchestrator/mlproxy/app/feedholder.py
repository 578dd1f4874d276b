"""Hold the feed while the daemon runs, and change it when its section changes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from mlproxy.errors import FeedError
from mlproxy.events.types import FeedMessage
from mlproxy.log import get_logger

__all__ = ("FeedHolder", "FeedLike", "FeedMaker")


class FeedLike(Protocol):
    """What the daemon needs of a running feed."""

    def emit(self, message: FeedMessage) -> None:
        """Take a message; never blocks."""

    def status(self) -> dict[str, Any]:
        """Describe the feed, ready for JSON."""


FeedMaker = Callable[[Any], AbstractAsyncContextManager[FeedLike]]


class FeedHolder:
    """An EventSink whose feed can be replaced; keeps what comes meanwhile.

    Args:
        make: configuration section -> the feed's context manager.
        group: task group that the feed's task belongs to.
        keep: messages kept while no feed is up; the oldest go first.
    """

    def __init__(self, make: FeedMaker, group: asyncio.TaskGroup, *, keep: int = 4096) -> None:
        self._make = make
        self._group = group
        self._waiting: deque[FeedMessage] = deque(maxlen=keep)
        self._feed: FeedLike | None = None
        self._stop: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._log = get_logger()

    def emit(self, message: FeedMessage) -> None:
        """Pass on a message, or keep it while no feed is up."""
        if self._feed is None:
            self._waiting.append(message)
        else:
            self._feed.emit(message)

    def status(self) -> dict[str, Any]:
        """The feed's own status, or that it is down."""
        if self._feed is None:
            return {"state": "down", "waiting": len(self._waiting)}
        return self._feed.status()

    async def start(self, config: Any) -> None:
        """Bring a feed up.

        Raises:
            FeedError: it could not be set up; none is up then.
        """
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._task = self._group.create_task(self._hold(config, self._stop, ready), name="feed")
        await ready

    async def stop(self) -> None:
        """Take the feed down cleanly (it says offline); returns when it is done."""
        if self._stop is not None and self._task is not None:
            self._stop.set()
            await asyncio.wait([self._task])
            self._task = None

    async def replace(self, old: Any, new: Any) -> None:
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

    async def _hold(self, config: Any, stop: asyncio.Event, ready: asyncio.Future[None]) -> None:
        try:
            async with self._make(config) as feed:
                while self._waiting:
                    feed.emit(self._waiting.popleft())
                self._feed = feed
                ready.set_result(None)
                try:
                    await stop.wait()
                finally:
                    self._feed = None
        except FeedError as error:
            if not ready.done():
                ready.set_exception(error)
            else:
                self._log.error("feed.failed", code=error.code, error=str(error))
