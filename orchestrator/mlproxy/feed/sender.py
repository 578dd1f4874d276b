"""The task that keeps a connection and sends what waits."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable

from mlproxy.errors import FeedError
from mlproxy.feed.backoff import Backoff
from mlproxy.feed.outbox import Outbox
from mlproxy.feed.record import Record
from mlproxy.feed.states import StateTable
from mlproxy.feed.store import EventStore
from mlproxy.feed.topics import OFFLINE, ONLINE, Topics
from mlproxy.feed.transport import Transport, TransportError, Will

__all__ = ("Sender",)

_log = logging.getLogger("mlproxy.feed")
_METRICS_PER_ROUND = 64
_LOSS_REPORT_SECONDS = 1.0


class Sender:
    """Connects, greets, sends, and starts over when the connection is lost.

    On each connection: `online`, the info document, all states; then events in
    order (from disk first) with QoS 1, metrics with QoS 0, states when due.

    Args:
        make_transport: gives a new transport per connection.
        info: gives the encoded info document.
        report_losses: called while connected; emits a loss event if need be.
        on_lost: called whenever there is no connection (any more).
        inflight: events sent before the first must be acknowledged.
        drain_seconds: how long a clean stop may go on sending.
    """

    def __init__(
        self,
        *,
        store: EventStore,
        outbox: Outbox,
        states: StateTable,
        topics: Topics,
        make_transport: Callable[[], Transport],
        info: Callable[[], bytes],
        report_losses: Callable[[], None],
        on_lost: Callable[[], None],
        inflight: int,
        drain_seconds: float,
        reconnect_min_seconds: float,
        reconnect_max_seconds: float,
        rng: random.Random,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._states = states
        self._topics = topics
        self._make_transport = make_transport
        self._info = info
        self._report_losses = report_losses
        self._on_lost = on_lost
        self._inflight = inflight
        self._drain_seconds = drain_seconds
        self._backoff = Backoff(reconnect_min_seconds, reconnect_max_seconds, rng)
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._deadline = 0.0
        self._info_due = False
        self.online = asyncio.Event()
        self.connections = 0
        self.sent: Counter[str] = Counter()
        self.last_error = ""

    def wake(self) -> None:
        """Something was queued."""
        self._wake.set()

    def renew_info(self) -> None:
        """The info document has changed."""
        self._info_due = True
        self._wake.set()

    def stop(self) -> None:
        """Send what is there (bounded), say `offline`, end `run`."""
        self._deadline = asyncio.get_running_loop().time() + self._drain_seconds
        self._stop.set()
        self._wake.set()

    async def run(self) -> None:
        """Run until stopped. Never raises for what a broker does."""
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            transport = self._make_transport()
            began = loop.time()
            try:
                await transport.connect(Will(self._topics.status, OFFLINE))
                began = loop.time()
                await self._session(transport)
            except (TransportError, FeedError) as exc:
                if str(exc) != self.last_error:
                    _log.warning("no connection to the broker: %s", str(exc))
                self.last_error = str(exc)
            if self._stop.is_set():
                return
            delay = self._backoff.next(held=loop.time() - began if self.online.is_set() else 0.0)
            self.online.clear()
            self._on_lost()
            await _wait(self._stop, delay)

    async def _session(self, transport: Transport) -> None:
        clean = False
        try:
            async with asyncio.TaskGroup() as group:
                await transport.publish(self._topics.status, ONLINE, qos=1, retain=True)
                watcher = group.create_task(self._watch(transport), name="feed watch")
                self._greet()
                await self._pump(transport, watcher)
                await _end(watcher)
                await transport.publish(self._topics.status, OFFLINE, qos=1, retain=True)
                clean = True
        except* (TransportError, FeedError) as group_error:
            raise _first(group_error) from group_error
        finally:
            await transport.close(clean=clean)

    def _greet(self) -> None:
        self._info_due = True
        self._states.renew()
        self.connections += 1
        self.last_error = ""
        self.online.set()
        _log.info("connected to the broker")

    async def _watch(self, transport: Transport) -> None:
        """Notice a lost connection, and a stale will that overwrote `online`.

        The will of a connection that was lost unnoticed may be sent after we
        are back; retained, it would tell everybody that we are gone.
        """
        try:
            await transport.subscribe(self._topics.status, qos=1)
        except TransportError as exc:
            # Not every account may read. If the line is dead, the next line says so.
            _log.debug("cannot watch the own status: %s", str(exc))
        async for message in transport.messages():
            if message.payload != ONLINE and not self._stop.is_set():
                await asyncio.sleep(0.2)
                await transport.publish(self._topics.status, ONLINE, qos=1, retain=True)

    async def _pump(self, transport: Transport, watcher: asyncio.Task[None]) -> None:
        loop = asyncio.get_running_loop()
        report_at = 0.0
        # The group cancels us when the watcher fails; `_end` says why that may not do.
        while not watcher.done():
            self._wake.clear()
            now = loop.time()
            if now >= report_at:
                self._report_losses()
                report_at = now + _LOSS_REPORT_SECONDS
            await self._send_retained(transport)
            busy = await self._send_events(transport)
            busy |= await self._send_metrics(transport)
            if self._stop.is_set() and (not busy or loop.time() >= self._deadline):
                return
            if not busy:
                next_state = self._states.seconds_to_next(loop.time())
                waits = (_LOSS_REPORT_SECONDS, next_state)
                await _wait(self._wake, min(w for w in waits if w is not None))

    async def _send_retained(self, transport: Transport) -> None:
        if self._info_due:
            self._info_due = False
            await transport.publish(self._topics.info, self._info(), qos=1, retain=True)
            self.sent["info"] += 1
        due = self._states.take_due(asyncio.get_running_loop().time())
        for topic, payload in due:
            await transport.publish(topic, payload, qos=1, retain=True)
            self.sent["state"] += 1

    async def _send_events(self, transport: Transport) -> bool:
        batch = await self._store.take(self._inflight)
        if not batch:
            return False
        arrived = False
        try:
            await self._publish_all(transport, batch)
            arrived = True
        finally:
            if not arrived:
                self._store.returned(batch)
        self.sent["event"] += len(batch)
        await self._store.delivered(batch)
        return True

    async def _publish_all(self, transport: Transport, batch: list[Record]) -> None:
        """Send a batch without waiting between; tasks start in order of creation."""
        if len(batch) == 1:
            await transport.publish(batch[0].topic, batch[0].payload, qos=1)
            return
        try:
            async with asyncio.TaskGroup() as group:
                for r in batch:
                    group.create_task(transport.publish(r.topic, r.payload, qos=1))
        except* TransportError as group_error:
            raise _first(group_error) from group_error

    async def _send_metrics(self, transport: Transport) -> bool:
        batch = self._outbox.take_metrics(_METRICS_PER_ROUND)
        sent = 0
        try:
            for topic, payload in batch:
                await transport.publish(topic, payload, qos=0)
                sent += 1
        finally:
            self.sent["metric"] += sent
            if sent < len(batch):
                self._outbox.count_drop(Counter(metric=len(batch) - sent))
        return bool(batch)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel until it is done: `asyncio.wait_for` of 3.11 may swallow a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.05)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    if not event.is_set():
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf
