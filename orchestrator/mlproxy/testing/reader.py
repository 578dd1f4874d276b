"""Collects what a broker delivers, for tests."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mlproxy.events.codec import AnyEvent, decode_event
from mlproxy.feed.mqtt import Endpoint, MqttTransport
from mlproxy.feed.topics import parse_topic
from mlproxy.feed.transport import Received, TransportError

__all__ = ("FeedReader",)


class FeedReader:
    """Subscribes on entering and keeps every message in `received`.

    It comes back by itself when the broker does.
    """

    def __init__(self, host: str, port: int, topic_filter: str = "mlproxy/#") -> None:
        self._endpoint = Endpoint(host, port, timeout_seconds=2.0)
        self._filter = topic_filter
        self._group = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None
        self._subscribed = asyncio.Event()
        self._changed = asyncio.Condition()
        self._payloads: defaultdict[str, list[bytes]] = defaultdict(list)
        self._all_events: list[AnyEvent] = []
        self._events: list[AnyEvent] = []
        self._seen: set[tuple[str, int]] = set()
        self.received: list[Received] = []

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._task = self._group.create_task(self._run(), name="reader")
        await self._subscribed.wait()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await self._group.__aexit__(None, None, None)

    async def until(self, done: Callable[[], bool], *, seconds: float = 60.0) -> None:
        """Wait until `done()` holds, looking after each message.

        Raises:
            TimeoutError: it did not in time.
        """
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(done)

    def payloads(self, cls: str) -> list[bytes]:
        """Payloads of one class of messages, in order."""
        return self._payloads[cls]

    def events(self, *, duplicates: bool = False) -> list[AnyEvent]:
        """Events in the order of their arrival; without those seen before."""
        return self._all_events if duplicates else self._events

    async def _keep(self, message: Received) -> None:
        cls = parse_topic(message.topic).cls
        async with self._changed:
            self.received.append(message)
            self._payloads[cls].append(message.payload)
            if cls == "event":
                event = decode_event(message.payload)
                self._all_events.append(event)
                if (event.session, event.seq) not in self._seen:
                    self._seen.add((event.session, event.seq))
                    self._events.append(event)
            self._changed.notify_all()

    async def _run(self) -> None:
        while True:
            transport = MqttTransport(self._endpoint, identifier=None, queue=1 << 20)
            try:
                await transport.connect()
                await transport.subscribe(self._filter, qos=1)
                self._subscribed.set()
                async for message in transport.messages():
                    await self._keep(message)
            except TransportError:
                self._subscribed.clear()
                await asyncio.sleep(0.01)
            finally:
                await transport.close(clean=True)
