"""Plays the parts of a demonstration: processes, feeds, broker, and a reader of it all."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import queue
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlproxy import __version__
from mlproxy.clock import Clock, SystemClock
from mlproxy.demo import FeedCount, Part
from mlproxy.errors import FeedError, PluginError
from mlproxy.events.codec import AnyEvent, decode_event
from mlproxy.events.types import FeedEvent, FeedMessage, InfoMessage, ModeEvent
from mlproxy.feed import Feed
from mlproxy.feed.broker import EmbeddedBroker
from mlproxy.feed.config import FeedConfig
from mlproxy.feed.mqtt import Endpoint, MqttTransport
from mlproxy.feed.topics import ROOT, parse_topic
from mlproxy.feed.transport import TransportError

__all__ = ("NODE_PREFIX", "Listener", "play")

NODE_PREFIX = "demo-"
PATIENCE = 10.0
"""Seconds that the last messages may take through the broker."""
_POLL = 0.2
_END = None

_outgoing: Any = None  # the queue to the parent, in a part's process


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of a running demonstration; called in the event loop.

    Attributes:
        broker: the broker listens; gets its host and port.
        event: an event came back from the broker; gets the part's name.
        progress: (part, share done, note).
        ended: a part has ended.
    """

    broker: Callable[[str, int], None]
    event: Callable[[str, AnyEvent], None]
    progress: Callable[[str, float, str], None]
    ended: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Remote:
    """The Stage in a part's process: everything goes to the parent."""

    part: str

    def emit(self, message: FeedMessage) -> None:
        """Send a message to the parent, which publishes it."""
        _outgoing.put((self.part, message))

    def progress(self, done: float, note: str = "") -> None:
        """Tell the parent."""
        _outgoing.put((self.part, (done, note)))


def _begin(outgoing: Any) -> None:
    global _outgoing  # noqa: PLW0603 - a process of its own
    _outgoing = outgoing
    # Ctrl-C is the parent's business; it ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _play(part: Part) -> Any:
    return part.play(_Remote(part.name))


class _Reader:
    """Subscribes to the nodes of the demonstration and counts what comes back."""

    def __init__(self, endpoint: Endpoint, tell: Callable[[str, AnyEvent], None]) -> None:
        self._transport = MqttTransport(endpoint, identifier=None, queue=1 << 20)
        self._tell = tell
        self._seen: set[tuple[str, int]] = set()
        self._changed = asyncio.Condition()
        self.messages = 0
        self.modes = 0

    @property
    def events(self) -> int:
        """How many different events came back."""
        return len(self._seen)

    async def run(self, sessions: Mapping[str, str]) -> None:
        """Read until cancelled; `sessions` are those of this demonstration's feeds, to parts."""
        async for message in self._transport.messages():
            if parse_topic(message.topic).cls == "event":
                event = decode_event(message.payload)
                part = sessions.get(event.session)
                if part is not None and (event.session, event.seq) not in self._seen:
                    self._seen.add((event.session, event.seq))
                    self.modes += isinstance(event, ModeEvent)
                    self._tell(part, event)
            self.messages += 1
            async with self._changed:
                self._changed.notify_all()

    async def until(self, events: int, seconds: float) -> None:
        """Wait until so many events came back, at most `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self.events >= events)

    @contextlib.asynccontextmanager
    async def subscribed(self) -> AsyncIterator[None]:
        """Hold the connection.

        Raises:
            FeedError: `feed.unreachable`.
        """
        try:
            await self._transport.connect()
            await self._transport.subscribe(f"{ROOT}/#", qos=1)
        except TransportError as error:
            await self._transport.close(clean=True)
            raise FeedError(
                f"no connection to the broker: {error}",
                code="feed.unreachable",
                hint="check [feed], or leave feed.host out: a broker runs inside then",
            ) from error
        try:
            yield
        finally:
            await self._transport.close(clean=True)


async def play(
    parts: Sequence[Part],
    feed: FeedConfig,
    listener: Listener,
    *,
    processes: int = 2,
    clock: Clock | None = None,
) -> tuple[dict[str, Any], FeedCount]:
    """Play all parts, side by side, each with a feed of its own.

    Args:
        parts: what to play; started in this order.
        feed: `[feed]`; without a host a broker runs inside, on a free port.
        listener: hears of what happens.
        processes: parts that run at the same time.
        clock: for stamps.

    Returns:
        Results by part name, and what the feed counted.

    Raises:
        FeedError: the broker cannot be started or reached.
        PluginError: `demo.failed`, a part raised or its process died.
    """
    async with AsyncExitStack() as stack:
        config, endpoint = await _broker(feed, stack)
        listener.broker(endpoint.host, endpoint.port)
        reader = _Reader(endpoint, listener.event)
        await stack.enter_async_context(reader.subscribed())
        feeds: dict[str, Feed] = {}
        for part in parts:
            feeds[part.name] = await stack.enter_async_context(
                _feed(part, config, clock or SystemClock())
            )
        emitted = 0

        def take(name: str, what: Any) -> None:
            nonlocal emitted
            if isinstance(what, FeedMessage):
                emitted += isinstance(what, FeedEvent)
                feeds[name].emit(what)
            else:
                listener.progress(name, *what)

        sessions = {one.session: name for name, one in feeds.items()}
        reading = asyncio.create_task(reader.run(sessions), name="demo reader")
        try:
            results = await _run(parts, take, listener.ended, processes)
            await reader.until(emitted, PATIENCE)
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, TransportError):
                await reading
        dropped = sum(sum(one.status().dropped.values()) for one in feeds.values())
        return results, FeedCount(
            broker=str(endpoint),
            embedded=feed.host is None,
            emitted=emitted,
            read=reader.events,
            messages=reader.messages,
            dropped=dropped,
            modes=reader.modes,
        )


async def _broker(feed: FeedConfig, stack: AsyncExitStack) -> tuple[FeedConfig, Endpoint]:
    if feed.host is None:
        broker = EmbeddedBroker(0)
        await asyncio.to_thread(broker.start)
        stack.push_async_callback(asyncio.to_thread, broker.stop)
        feed = feed.model_copy(update={"host": broker.host, "port": broker.port})
    endpoint = Endpoint(
        host=feed.host or "",
        port=feed.port,
        username=feed.username,
        password_file=feed.password_file,
        tls=feed.tls,
        ca_file=feed.ca_file,
    )
    return feed.model_copy(update={"enabled": True, "spool": False}), endpoint


def _feed(part: Part, config: FeedConfig, clock: Clock) -> Feed:
    info = InfoMessage(
        version=__version__,
        session="",
        started_at=clock.utc_now().isoformat(),
        proxies=part.proxies,
    )
    return Feed(config, node=NODE_PREFIX + part.name, clock=clock, state_dir=None, info=info)


async def _run(
    parts: Sequence[Part],
    take: Callable[[str, Any], None],
    ended: Callable[[str], None],
    processes: int,
) -> dict[str, Any]:
    """Run the parts in processes; what they send goes to `take`, in the event loop."""
    context = multiprocessing.get_context("spawn")
    incoming = context.Queue()
    loop = asyncio.get_running_loop()

    def pass_on(item: tuple[str, Any]) -> None:
        loop.call_soon_threadsafe(take, *item)

    with _pump(incoming, pass_on):
        pool = ProcessPoolExecutor(
            min(processes, len(parts)), context, initializer=_begin, initargs=(incoming,)
        )
        try:
            waiting = {part.name: loop.run_in_executor(pool, _play, part) for part in parts}
            for name, future in waiting.items():
                future.add_done_callback(partial(_tell_end, ended, name))
            results = {part.name: await _result(part, waiting[part.name]) for part in parts}
        except BaseException:
            _end(pool)
            raise
        pool.shutdown()
    # The pump has ended: what it passed on is in the loop before what follows.
    await asyncio.sleep(0)
    return results


def _tell_end(ended: Callable[[str], None], name: str, future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and future.exception() is None:
        ended(name)


async def _result(part: Part, future: asyncio.Future[Any]) -> Any:
    try:
        return await future
    except BrokenProcessPool as error:
        reason = "its process died (out of memory?)"
        raise _failed(part, reason) from error
    except Exception as error:
        raise _failed(part, f"{type(error).__name__}: {error}") from error


def _failed(part: Part, reason: str) -> PluginError:
    return PluginError(
        f"part {part.name} failed: {reason}",
        code="demo.failed",
        hint="run it again; if it fails again with the same --seed, please report it",
        part=part.name,
    )


def _end(pool: ProcessPoolExecutor) -> None:
    """Stop at once: the processes do nothing that needs an orderly end."""
    for process in list((pool._processes or {}).values()):  # noqa: SLF001 - no public way in 3.11
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _pump(incoming: Any, pass_on: Callable[[Any], None]) -> Iterator[None]:
    """A thread that passes on what arrives, until the block ends and all has arrived."""
    ending = threading.Event()

    def run() -> None:
        while True:
            try:
                item = incoming.get(timeout=_POLL)
            except queue.Empty:
                if ending.is_set():
                    return
                continue
            if item is _END:
                return
            pass_on(item)

    thread = threading.Thread(target=run, name="demo pump", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        # After an orderly end every process has flushed its queue: this comes last.
        incoming.put(_END)
        thread.join(PATIENCE)
        incoming.close()
        # A process that was ended may have died with the queue's lock.
        incoming.cancel_join_thread()
