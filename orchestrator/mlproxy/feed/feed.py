"""The feed: takes messages from any thread, gets them to the broker whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mlproxy.errors import FeedError
from mlproxy.events.codec import encode, kind_of
from mlproxy.events.types import (
    FeedEvent,
    FeedMessage,
    InfoMessage,
    LossEvent,
    MetricMessage,
    StateMessage,
)
from mlproxy.feed.broker import EmbeddedBroker
from mlproxy.feed.mqtt import Endpoint, MqttTransport
from mlproxy.feed.outbox import Outbox
from mlproxy.feed.sender import Sender
from mlproxy.feed.stamp import FeedClock, Stamper
from mlproxy.feed.states import StateTable
from mlproxy.feed.store import EventStore
from mlproxy.feed.topics import Topics
from mlproxy.feed.transport import Transport

if TYPE_CHECKING:
    from mlproxy.feed.config import FeedConfig

__all__ = ("Feed", "FeedStatus")

FEED_PROXY = "feed"
_SPILL_SHARE = 2


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """What the feed is doing.

    Attributes:
        connected: the broker has taken us and knows that we are online.
        broker: its address, `mqtt://host:port`.
        embedded: whether it runs inside the daemon.
        session: id of this life of the daemon, in every message.
        emitted: newest `seq` per class (event, state, metric, info).
        sent: acknowledged (QoS 1) or written (QoS 0) messages per class.
        queued: events waiting in memory.
        spooled: events waiting on disk, those of earlier sessions included.
        spooled_bytes: what they take there.
        dropped: messages thrown away, by kind.
        reconnects: connections made after the first.
        last_error: why the last connection attempt or disk access failed, "".
    """

    connected: bool
    broker: str
    embedded: bool
    session: str
    emitted: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    queued: int = 0
    spooled: int = 0
    spooled_bytes: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    reconnects: int = 0
    last_error: str = ""


class Feed:
    """Publishes messages over MQTT; nothing it does holds up who emits them.

    Use it as an async context manager. It starts the embedded broker if no
    broker is configured, keeps a connection, and keeps what cannot be sent: in
    memory, then on disk, both bounded. Leaving it sends what is queued (at most
    `drain_seconds`), says `offline`, and puts the rest on disk.

    Args:
        config: the table `[feed]`.
        node: this machine's id in the topics (see `topics.node_id`).
        clock: for stamps.
        state_dir: the spool goes below it unless `config.spool_dir` is given;
            without both there is no spool and only memory.
        info: the birth document; its `session` names this life of the daemon
            (one is made up if it is empty).
        make_transport: another transport than MQTT, given the endpoint.
        rng: for the jitter of the reconnects.

    Raises:
        FeedError: on entering: `feed.bad_id`, `feed.broker` (the embedded broker
            cannot listen), `feed.spool`, `feed.spool_busy`, `feed.password_file`,
            `feed.ca_file`. Never for a broker that is away.
    """

    def __init__(
        self,
        config: FeedConfig,
        *,
        node: str,
        clock: FeedClock,
        state_dir: str | Path | None,
        info: InfoMessage,
        make_transport: Callable[[Endpoint], Transport] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._config = config
        self._topics = Topics(node)
        self._stamper = Stamper(node, info.session, clock)
        self._spool_dir = _spool_dir(config, state_dir)
        self._make_transport = make_transport or self._mqtt
        self._rng = rng or random.Random()
        self._lock = threading.Lock()
        self._outbox = Outbox(max_bytes=config.queue_bytes, max_metrics=config.queue_metrics)
        self._states = StateTable(
            min_age=config.state_min_age_seconds, max_age=config.state_max_age_seconds
        )
        self._info = self._stamper.stamp(info, "info")
        self._endpoint = _endpoint(config)
        self._reported: Counter[str] = Counter()
        self._broker: EmbeddedBroker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._store: EventStore | None = None
        self._sender: Sender | None = None
        self._group: asyncio.TaskGroup | None = None
        self._sending: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._spill_wake = asyncio.Event()
        self._woken = False
        self._closed = False

    @property
    def session(self) -> str:
        """Id of this life of the daemon."""
        return self._stamper.session

    @property
    def node(self) -> str:
        """This machine's id in the topics."""
        return self._topics.node

    async def __aenter__(self) -> Self:
        config = self._config
        await asyncio.to_thread(self._endpoint.password)
        await asyncio.to_thread(self._endpoint.tls_context)
        store = EventStore(self._outbox, spill_bytes=config.queue_bytes // _SPILL_SHARE)
        try:
            if self._spool_dir is not None:
                await store.open(self._spool_dir, config.spool_bytes)
            if config.host is None:
                await self._start_broker()
        except BaseException:
            await store.close()
            raise
        self._store = store
        self._sender = Sender(
            store=store,
            outbox=self._outbox,
            states=self._states,
            topics=self._topics,
            make_transport=lambda: self._make_transport(self._endpoint),
            info=lambda: encode(self._info),
            report_losses=self._report_losses,
            on_lost=self._spill_wake.set,
            inflight=config.inflight,
            drain_seconds=config.drain_seconds,
            reconnect_min_seconds=config.reconnect_min_seconds,
            reconnect_max_seconds=config.reconnect_max_seconds,
            rng=self._rng,
        )
        self._loop = asyncio.get_running_loop()
        self._group = await asyncio.TaskGroup().__aenter__()
        self._sending = self._group.create_task(self._run(self._sender), name="feed sender")
        self._group.create_task(self._spill(store, self._sender), name="feed spill")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._sender is not None
        assert self._store is not None
        assert self._group is not None
        assert self._sending is not None
        self._sender.stop()
        # A broker that does not answer must not hold up the stop; without a
        # connection there is nothing to wait for.
        patience = self._config.drain_seconds + 1.0 if self._sender.online.is_set() else 0.0
        giving_up = asyncio.get_running_loop().call_later(patience, self._sending.cancel)
        try:
            # A bug in a task of ours has cancelled the body: let the group tell.
            ours = exc_type is not None and issubclass(exc_type, asyncio.CancelledError)
            await self._group.__aexit__(
                *((exc_type, exc, traceback) if ours else (None, None, None))
            )
        finally:
            giving_up.cancel()
            with self._lock:
                self._closed = True
            await self._store.close()
            if self._broker is not None:
                await asyncio.to_thread(self._broker.stop)

    def emit(self, message: FeedMessage) -> None:
        """Queue a message; callable from any thread, never blocks.

        Events are sent in order and kept while the broker is away. A state
        replaces the proxy's last one, an info document the birth document.
        After the feed was left, a message is counted as dropped.

        Raises:
            FeedError: `feed.bad_id` (proxy name), `feed.unencodable`,
                `feed.unknown_message`: mistakes of the caller.
        """
        with self._lock:
            if self._closed:
                self._outbox.count_drop(Counter({_class(message): 1}))
                return
            if isinstance(message, InfoMessage):
                encode(message)
                self._info = self._stamper.stamp(message, "info")
                self._notify(info=True)
                return
            if isinstance(message, StateMessage):
                topic = self._topics.state(message.proxy)
                self._states.put(message, topic, self._stamped(message, "state"))
            elif isinstance(message, MetricMessage):
                topic = self._topics.metric(message.proxy)
                self._outbox.add_metric(topic, self._stamped(message, "metric"))
            else:
                kind = kind_of(message)
                assert isinstance(message, FeedEvent)
                topic = self._topics.event(message.proxy, kind)
                self._outbox.add_event(kind, topic, self._stamped(message, "event"))
            self._notify()

    def status(self) -> FeedStatus:
        """Return what the feed is doing; callable from any thread."""
        sender, store = self._sender, self._store
        classes = ("event", "state", "metric", "info")
        return FeedStatus(
            connected=sender is not None and sender.online.is_set(),
            broker=str(self._endpoint),
            embedded=self._config.host is None,
            session=self.session,
            emitted={cls: self._stamper.last(cls) for cls in classes},
            sent={cls: sender.sent[cls] if sender else 0 for cls in classes},
            queued=self._outbox.events,
            spooled=store.records if store else 0,
            spooled_bytes=store.bytes if store else 0,
            dropped=dict(self._outbox.dropped()),
            reconnects=max(0, sender.connections - 1) if sender else 0,
            last_error=(sender.last_error if sender else "") or (store.last_error if store else ""),
        )

    async def wait_connected(self, seconds: float) -> bool:
        """Wait until the broker has taken us, at most `seconds`; return whether it has."""
        assert self._sender is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._sender.online.wait()
        return self._sender.online.is_set()

    def _stamped(self, message: FeedMessage, cls: str) -> bytes:
        try:
            return encode(self._stamper.stamp(message, cls))
        except FeedError:
            # A message that is never sent must not leave a gap.
            self._stamper.take_back(cls)
            raise

    def _report_losses(self) -> None:
        """Emit a loss event if messages were thrown away since the last one."""
        dropped = self._outbox.dropped()
        fresh = {k: n - self._reported.get(k, 0) for k, n in dropped.items()}
        fresh = {k: n for k, n in fresh.items() if n}
        if fresh:
            self._reported = dropped
            total = dropped.total()
            self.emit(LossEvent(proxy=FEED_PROXY, dropped=fresh, total=total))

    def _notify(self, *, info: bool = False) -> None:
        """Wake the tasks, with one call into the loop however many messages."""
        if self._loop is None or (self._woken and not info):
            return
        self._woken = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody to wake
            self._loop.call_soon_threadsafe(self._on_notify, info)

    def _on_notify(self, info: bool) -> None:
        self._woken = False
        self._spill_wake.set()
        if self._sender is not None:
            self._sender.wake()
            if info:
                self._sender.renew_info()

    async def _run(self, sender: Sender) -> None:
        try:
            await sender.run()
        finally:
            sender.online.clear()
            self._ended.set()
            self._spill_wake.set()

    async def _spill(self, store: EventStore, sender: Sender) -> None:
        """Move events to disk: all while the broker is away, else what is too much."""
        while not self._ended.is_set():
            await self._spill_wake.wait()
            self._spill_wake.clear()
            if not await store.spill(everything=not sender.online.is_set()):
                await asyncio.sleep(1.0)
                self._spill_wake.set()

    async def _start_broker(self) -> None:
        self._broker = EmbeddedBroker(self._config.embedded_port)
        await asyncio.to_thread(self._broker.start)
        self._endpoint = replace(self._endpoint, host=self._broker.host, port=self._broker.port)

    def _mqtt(self, endpoint: Endpoint) -> Transport:
        return MqttTransport(endpoint, identifier=f"mlproxy-{self.node}")


def _class(message: FeedMessage) -> str:
    if isinstance(message, StateMessage | MetricMessage | InfoMessage):
        return type(message).__name__.removesuffix("Message").lower()
    return kind_of(message)


def _spool_dir(config: FeedConfig, state_dir: str | Path | None) -> Path | None:
    if not config.spool:
        return None
    if config.spool_dir is not None:
        return Path(config.spool_dir)
    return Path(state_dir) / "feed-spool" if state_dir else None


def _endpoint(config: FeedConfig) -> Endpoint:
    return Endpoint(
        host=config.host or EmbeddedBroker.host,
        port=config.port if config.host else config.embedded_port,
        username=config.username,
        password_file=config.password_file,
        tls=config.tls,
        ca_file=config.ca_file,
        keepalive_seconds=config.keepalive_seconds,
        timeout_seconds=config.timeout_seconds,
    )
