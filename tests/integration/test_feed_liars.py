"""The feed against brokers that are dead, mute or lying, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlproxy.errors import FeedError
from mlproxy.events import InfoMessage, MetricMessage, ModelEvent
from mlproxy.feed import Feed
from mlproxy.feed import store as store_module
from mlproxy.feed.config import FeedConfig
from mlproxy.feed.spool import Spool
from mlproxy.testing.mosquitto import Mosquitto, find_mosquitto, free_port
from mlproxy.testing.reader import FeedReader

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CONNACK = bytes([0x20, 2, 0, 0])


class Clock:
    monotonic_ns = staticmethod(time.monotonic_ns)

    def utc_now(self) -> datetime:
        return datetime.now(UTC)


def feed_to(port: int, state_dir: Path | None, **config: object) -> Feed:
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "timeout_seconds": 0.2,
        "drain_seconds": 0.2,
        "reconnect_min_seconds": 0.01,
        "reconnect_max_seconds": 0.05,
    } | config
    info = InfoMessage(version="0.1.0", started_at="2026-02-06T12:00:00Z")
    return Feed(FeedConfig(**settings), node="box", clock=Clock(), state_dir=state_dir, info=info)


def model(at: int) -> ModelEvent:
    return ModelEvent(proxy="q", what="drift", candidate="tree", at=at)


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a status has no event to wait for
            await asyncio.sleep(0.01)


class Liar:
    """Counts the connections and treats each as `serve` does."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.connections = 0
        self.writers: set[asyncio.StreamWriter] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)
            self.writers.discard(writer)


@contextlib.asynccontextmanager
async def lying(serve: Serve, port: int = 0) -> AsyncIterator[tuple[Liar, int]]:
    liar = Liar(serve)
    server = await asyncio.start_server(liar.handle, "127.0.0.1", port)
    try:
        yield liar, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in liar.writers:
            writer.transport.abort()
        await until(lambda: not liar.writers)


async def packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return head, await reader.readexactly(length)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept and never answer."""
    while await reader.read(1024):
        pass


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept and close at once."""


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with noise, different for each connection."""
    rng = random.Random(writer.get_extra_info("peername")[1])
    await reader.read(1024)
    for _ in range(50):
        writer.write(rng.randbytes(rng.randint(1, 200)))
        await writer.drain()
        await asyncio.sleep(0)


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be something else."""
    await reader.read(1024)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    await writer.drain()


async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse each connection: not authorised."""
    await packet(reader)
    writer.write(bytes([0x20, 2, 0, 5]))
    await writer.drain()
    await reader.read(1024)


async def greeting_noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept, then send noise."""
    await packet(reader)
    writer.write(CONNACK)
    await garbage(reader, writer)


async def never_acknowledging(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept and never acknowledge a message."""
    await packet(reader)
    writer.write(CONNACK)
    await silent(reader, writer)


async def acknowledging_others(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Acknowledge messages that were never sent."""
    await packet(reader)
    writer.write(CONNACK)
    for mid in range(1, 65000, 1000):
        writer.write(bytes([0x40, 2]) + struct.pack(">H", mid + 1))
    await silent(reader, writer)


async def sick_of_events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a broker until the first event comes, then hang up."""
    await packet(reader)
    writer.write(CONNACK)
    while True:
        head, body = await packet(reader)
        if head >> 4 == 3:
            topic_length = struct.unpack_from(">H", body)[0]
            topic, rest = body[2 : 2 + topic_length], body[2 + topic_length :]
            if b"/event/" in topic:
                return
            if head & 0x06:
                writer.write(bytes([0x40, 2]) + rest[:2])
        elif head >> 4 == 8:
            writer.write(bytes([0x90, 3]) + body[:2] + b"\x01")
        await writer.drain()


LIARS = (
    silent,
    closing,
    garbage,
    http,
    refusing,
    greeting_noise,
    never_acknowledging,
    acknowledging_others,
    sick_of_events,
)


@pytest.mark.parametrize("serve", LIARS, ids=lambda serve: serve.__name__)
async def test_a_lying_broker_gets_retries_and_loses_nothing(serve, tmp_path):
    async with lying(serve) as (liar, port):
        async with feed_to(port, tmp_path) as feed:
            for at in range(50):
                feed.emit(model(at))
                feed.emit(MetricMessage(proxy="p", values={"n_count": at}))
            await until(lambda: liar.connections >= 3)
            await until(lambda: bool(feed.status().last_error))
            await until(lambda: feed.status().spooled == 50)
            assert feed.status().sent["event"] == 0
        assert feed.status().spooled == 50
    spool = Spool(tmp_path / "feed-spool", 8 << 20)
    assert [r.ordinal for r in spool.peek(99)] == list(range(1, 51))
    spool.close()


@pytest.mark.skipif(find_mosquitto() is None, reason="needs mosquitto (apt-get install mosquitto)")
@pytest.mark.parametrize("serve", [silent, sick_of_events], ids=lambda serve: serve.__name__)
async def test_when_a_real_broker_takes_over_everything_arrives(serve, tmp_path):
    port = free_port()
    with Mosquitto(tmp_path) as behind:
        gate: list[Serve] = [serve]

        async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await gate[0](reader, writer)

        async def honest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, onward = await asyncio.open_connection(behind.host, behind.port)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pipe(reader, onward))
                group.create_task(_pipe(there, writer))

        async with (
            lying(switch, port) as (liar, _),
            FeedReader(behind.host, behind.port) as reader,
            feed_to(port, tmp_path) as feed,
        ):
            for at in range(200):
                feed.emit(model(at))
            await until(lambda: liar.connections >= 3)
            gate[0] = honest
            await reader.until(lambda: len(reader.events()) == 200)
        assert [e.seq for e in reader.events()] == list(range(1, 201))
        assert feed.status().dropped == {}


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


async def test_without_a_spool_memory_is_bounded_and_drops_are_counted():
    async with feed_to(free_port(), None, queue_bytes=16 << 10) as feed:
        for at in range(1000):
            feed.emit(model(at))
        status = feed.status()
        assert status.dropped["model"] + status.queued == 1000
        assert 0 < status.queued < 100
        assert status.spooled == 0
    # What was left at the end had nowhere to go.
    assert feed.status().dropped == {"model": 1000}


async def test_after_the_end_messages_are_counted_not_raised(tmp_path):
    async with feed_to(free_port(), tmp_path) as feed:
        pass
    feed.emit(model(1))
    feed.emit(MetricMessage(proxy="p"))
    assert feed.status().dropped == {"model": 1, "metric": 1}


async def test_a_hanging_disk_holds_up_neither_emit_nor_the_loop(tmp_path, monkeypatch):
    free, hung = threading.Event(), threading.Event()
    real = Spool.append

    def hanging(self, records):
        hung.set()
        free.wait(20)
        real(self, records)

    monkeypatch.setattr(store_module.Spool, "append", hanging)
    turns = 0
    async with feed_to(free_port(), tmp_path) as feed:
        feed.emit(model(0))
        await until(hung.is_set)
        for at in range(1, 10_001):
            feed.emit(model(at))
            if at % 100 == 0:
                await asyncio.sleep(0)
                turns += 1
        assert turns == 100
        assert not free.is_set()
        assert feed.status().spooled == 0
        free.set()
        await until(lambda: feed.status().spooled == 10_001)
    assert feed.status().dropped == {}


async def test_a_full_disk_is_reported_and_memory_takes_over(tmp_path, monkeypatch):
    def full(self, records):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_module.Spool, "append", full)
        async with feed_to(free_port(), tmp_path) as feed:
            for at in range(100):
                feed.emit(model(at))
            await until(lambda: "No space left" in feed._store.last_error)
            assert feed.status().queued == 100
        assert feed.status().dropped == {"model": 100}


async def test_an_exception_in_the_body_comes_out_as_it_is(tmp_path):
    with pytest.raises(ValueError, match="mine"):
        async with feed_to(free_port(), tmp_path):
            raise ValueError("mine")


async def test_being_cancelled_still_ends_cleanly(tmp_path):
    async def body() -> None:
        async with feed_to(free_port(), tmp_path) as feed:
            feed.emit(model(1))
            started.set()
            await asyncio.sleep(60)

    started = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(body())
        await started.wait()
        task.cancel()
    assert task.cancelled()
    spool = Spool(tmp_path / "feed-spool", 8 << 20)
    assert spool.records == 1
    spool.close()


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"username": "u", "password_file": "/nonexistent"}, "feed.password_file"),
        ({"tls": True, "ca_file": "/nonexistent"}, "feed.ca_file"),
        ({"spool_dir": "/dev/null/spool"}, "feed.spool"),
    ],
)
async def test_a_setup_that_cannot_work_is_a_coded_error(config, code):
    with pytest.raises(FeedError) as caught:
        async with feed_to(free_port(), None, **config):
            pass
    assert caught.value.code == code


async def test_two_daemons_cannot_share_a_spool(tmp_path):
    async with feed_to(free_port(), tmp_path):
        with pytest.raises(FeedError) as caught:
            async with feed_to(free_port(), tmp_path):
                pass
    assert caught.value.code == "feed.spool_busy"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (ModelEvent(proxy="A/b", what="x", candidate="y"), "feed.bad_id"),
        (ModelEvent(proxy="q", what="x" * (300 << 10), candidate="y"), "feed.unencodable"),
    ],
)
async def test_a_callers_mistake_is_raised_and_leaves_no_gap(message, code, tmp_path):
    async with feed_to(free_port(), tmp_path) as feed:
        feed.emit(model(1))
        with pytest.raises(FeedError) as caught:
            feed.emit(message)
        feed.emit(model(2))
        assert caught.value.code == code
        assert feed.status().emitted["event"] == 2
