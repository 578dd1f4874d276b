"""The feed against a real mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import jsonschema
import pytest

from mlproxy.events import (
    InfoMessage,
    LossEvent,
    MetricMessage,
    ModeEvent,
    ModelEvent,
    StateMessage,
    schema,
)
from mlproxy.feed import Feed
from mlproxy.feed.config import FeedConfig
from mlproxy.feed.mqtt import Endpoint, MqttTransport
from mlproxy.feed.topics import parse_topic
from mlproxy.testing.mosquitto import Mosquitto, find_mosquitto, free_port
from mlproxy.testing.reader import FeedReader

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None, reason="needs mosquitto (apt-get install mosquitto)"
)

INFO = InfoMessage(version="0.1.0", started_at="2026-02-06T12:00:00Z")
SOON = 60.0


class Clock:
    monotonic_ns = staticmethod(time.monotonic_ns)

    def utc_now(self) -> datetime:
        return datetime.now(UTC)


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path) as running:
        yield running


@pytest.fixture
def make(tmp_path):
    def make(broker: Mosquitto, **config: object) -> Feed:
        settings = {
            "host": broker.host,
            "port": broker.port,
            "timeout_seconds": 2.0,
            "reconnect_min_seconds": 0.02,
            "reconnect_max_seconds": 0.1,
            "state_min_age_seconds": 0.05,
        } | config
        return Feed(
            FeedConfig(**settings),
            node="box",
            clock=Clock(),
            state_dir=tmp_path / "state",
            info=INFO,
        )

    return make


class Relay:
    """A TCP relay in front of a broker: cutting it is the broker going away.

    The reader stays connected to the broker itself, so that it sees everything
    that the feed gets through.
    """

    host = "127.0.0.1"

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = free_port()
        self.forwarded = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.cut()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await until(lambda: not self._writers)
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward = await asyncio.open_connection(self.host, self._target)
        except OSError:
            writer.transport.abort()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pipe(reader, onward[1]))
            group.create_task(self._pipe(onward[0], writer))

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while data := await reader.read(1024):
                self.forwarded += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)


@pytest.fixture
async def relay(broker):
    async with Relay(broker.port) as relay:
        yield relay


def mode(at: int, new: str = "collaboration") -> ModeEvent:
    return ModeEvent(proxy="p", old="learning", new=new, reason="promoted", at=at)


def model(at: int) -> ModelEvent:
    return ModelEvent(proxy="q", what="drift", candidate="tree", at=at)


def event(at: int) -> ModeEvent | ModelEvent:
    return mode(at) if at % 10 == 0 else model(at)


def state(mode_name: str, at: int = 0, proxy: str = "p") -> StateMessage:
    return StateMessage(
        proxy=proxy,
        subsystem="lfs",
        kind="program",
        mode=mode_name,
        reason="start",
        guard="in-process",
        at=at,
        mode_since=0,
        mode_seq=1,
    )


def ats(reader: FeedReader, *, duplicates: bool = False) -> list[int]:
    return [e.at for e in reader.events(duplicates=duplicates) if not isinstance(e, LossEvent)]


async def until(condition, seconds: float = SOON) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a status has no event to wait for
            await asyncio.sleep(0.01)


async def test_a_late_reader_finds_status_info_and_states(broker, make):
    async with make(broker) as feed:
        feed.emit(state("learning"))
        feed.emit(state("trusted", proxy="q"))
        feed.emit(mode(1))
        await until(lambda: feed.status().sent["event"] == 1)
        async with FeedReader(broker.host, broker.port) as reader:
            await reader.until(lambda: len(reader.received) == 4)
    by_topic = {m.topic: m for m in reader.received}
    assert all(m.retain for m in reader.received)
    assert by_topic["mlproxy/v1/box/status"].payload == b"online"
    modes = [json.loads(by_topic[f"mlproxy/v1/box/state/{p}"].payload)["mode"] for p in "pq"]
    assert modes == ["learning", "trusted"]
    assert json.loads(by_topic["mlproxy/v1/box/info"].payload)["session"] == feed.session


async def test_what_arrives_is_valid_against_the_shipped_schemas(broker, make):
    async with FeedReader(broker.host, broker.port) as reader, make(broker) as feed:
        feed.emit(state("learning"))
        feed.emit(mode(1))
        feed.emit(model(2))
        feed.emit(MetricMessage(proxy="p", values={"cost_ratio": 1.5, "odd": float("nan")}))
        await reader.until(lambda: len({m.topic for m in reader.received}) == 6)
    names = set()
    for message in reader.received:
        topic = parse_topic(message.topic)
        if topic.cls != "status":
            name = f"event-{topic.kind}" if topic.kind else topic.cls
            jsonschema.validate(json.loads(message.payload), schema.load(name))
            names.add(name)
    assert names == {"info", "state", "metric", "event-mode", "event-model"}


async def test_a_clean_stop_sends_all_and_says_offline(broker, make):
    async with FeedReader(broker.host, broker.port) as reader:
        async with make(broker) as feed:
            assert await feed.wait_connected(SOON)
            for at in range(500):
                feed.emit(event(at))
        await reader.until(lambda: reader.payloads("status") == [b"online", b"offline"])
    assert ats(reader) == list(range(500))
    assert parse_topic(reader.received[-1].topic).cls == "status"
    assert feed.status().dropped == {}


CHILD = """
import asyncio, sys, time
from datetime import UTC, datetime
from mlproxy.events import InfoMessage, ModelEvent
from mlproxy.feed import Feed
from mlproxy.feed.config import FeedConfig

class Clock:
    monotonic_ns = staticmethod(time.monotonic_ns)
    def utc_now(self):
        return datetime.now(UTC)

async def main(port, state_dir, count):
    config = FeedConfig(host="127.0.0.1", port=port, reconnect_min_seconds=0.02)
    info = InfoMessage(version="0.1.0", started_at="2026-02-06T12:00:00Z", session="child")
    async with Feed(config, node="box", clock=Clock(), state_dir=state_dir, info=info) as feed:
        for at in range(count):
            feed.emit(ModelEvent(proxy="q", what="drift", candidate="tree", at=at))
        while feed.status().spooled < count or (count == 0 and not feed.status().connected):
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await asyncio.sleep(60)

asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
"""


@contextlib.contextmanager
def child(port: int, state_dir, count: int):
    args = [sys.executable, "-c", CHILD, str(port), str(state_dir), str(count)]
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


async def test_the_broker_tells_of_a_killed_daemon(broker, tmp_path):
    async with FeedReader(broker.host, broker.port, "mlproxy/v1/box/status") as reader:
        with child(broker.port, tmp_path / "state", 0) as process:
            await reader.until(lambda: reader.payloads("status") == [b"online"])
            process.send_signal(signal.SIGKILL)
            await reader.until(lambda: reader.payloads("status") == [b"online", b"offline"])
    async with FeedReader(broker.host, broker.port, "mlproxy/v1/box/status") as late:
        await late.until(lambda: bool(late.received))
    assert (late.received[0].payload, late.received[0].retain) == (b"offline", True)


async def test_a_broker_that_comes_later_gets_everything(broker, relay, make):
    async with FeedReader(broker.host, broker.port) as reader, make(relay) as feed:
        for at in range(300):
            feed.emit(event(at))
        feed.emit(state("learning"))
        await until(lambda: feed.status().spooled == 300)
        await until(lambda: "refused" in feed.status().last_error)
        assert not feed.status().connected
        await relay.open()
        await reader.until(lambda: len(reader.events()) == 300)
        await reader.until(lambda: bool(reader.payloads("state")))
        await until(lambda: feed.status().spooled == 0)
        status = feed.status()
    assert ats(reader) == list(range(300))
    assert [e.seq for e in reader.events()] == list(range(1, 301))
    assert (status.dropped, status.reconnects, status.last_error) == ({}, 0, "")


async def test_cuts_in_the_middle_of_sending_lose_nothing(broker, relay, make):
    await relay.open()
    async with FeedReader(broker.host, broker.port) as reader, make(relay) as feed:
        assert await feed.wait_connected(SOON)
        for cut in range(5):
            before = relay.forwarded
            for at in range(cut * 400, cut * 400 + 300):
                feed.emit(event(at))
            # Somewhere in the middle of the stream, a frame torn or not.
            await until(lambda: relay.forwarded > before + 20_000)  # noqa: B023
            await relay.cut()
            await until(lambda: not feed.status().connected)
            for at in range(cut * 400 + 300, cut * 400 + 400):
                feed.emit(event(at))
            await relay.open()
            await until(lambda: feed.status().connected)
        await reader.until(lambda: len(reader.events()) == 2000)
        status = feed.status()
    assert ats(reader) == list(range(2000))
    assert [e.seq for e in reader.events()] == list(range(1, 2001))
    assert status.dropped == {}
    assert status.reconnects == 5


async def test_a_restarted_broker_gets_status_info_and_states_again(broker, relay, make):
    await relay.open()
    async with make(relay) as feed:
        feed.emit(state("learning"))
        feed.emit(state("trusted", proxy="q"))
        feed.emit(mode(1))
        await until(lambda: feed.status().sent["event"] == 1)
        await relay.cut()
        await broker.restart()
        for at in range(2, 102):
            feed.emit(event(at))
        async with FeedReader(broker.host, broker.port) as reader:
            assert reader.received == []
            await relay.open()
            await reader.until(lambda: len(reader.events()) == 100)
            await reader.until(lambda: len(reader.payloads("state")) >= 2)
        status = feed.status()
    assert reader.payloads("status") == [b"online"]
    assert len(reader.payloads("info")) == 1
    assert ats(reader) == list(range(2, 102))
    assert [e.seq for e in reader.events()] == list(range(2, 102))
    assert {json.loads(p)["proxy"] for p in reader.payloads("state")} == {"p", "q"}
    assert status.reconnects == 1


async def test_mosquitto_itself_stopped_and_started(broker, make):
    async with make(broker) as feed:
        feed.emit(state("learning"))
        await until(lambda: feed.status().sent["state"] == 1)
        await asyncio.to_thread(broker.stop)
        await until(lambda: not feed.status().connected)
        for at in range(100):
            feed.emit(event(at))
        await until(lambda: feed.status().spooled == 100)
        await asyncio.to_thread(broker.start)
        await until(lambda: feed.status().sent["event"] == 100)
        # What is sent leaves the disk when the broker has acknowledged it, a moment later.
        await until(lambda: feed.status().spooled == 0)
        async with FeedReader(broker.host, broker.port) as reader:
            await reader.until(lambda: len(reader.received) == 3)
    assert {parse_topic(m.topic).cls for m in reader.received} == {"status", "info", "state"}


async def test_a_killed_daemon_leaves_its_events_to_the_next(broker, relay, make, tmp_path):
    with child(relay.port, tmp_path / "state", 200) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    async with FeedReader(broker.host, broker.port) as reader, make(relay) as feed:
        assert feed.status().spooled == 200
        feed.emit(mode(1000))
        await relay.open()
        await reader.until(lambda: len(reader.events()) == 201)
    sessions = [e.session for e in reader.events()]
    assert sessions == ["child"] * 200 + [feed.session]
    assert [e.seq for e in reader.events()] == [*range(1, 201), 1]
    assert ats(reader) == [*range(200), 1000]


async def test_what_a_clean_stop_could_not_send_is_sent_by_the_next(broker, relay, make):
    async with make(relay) as first:
        for at in range(50):
            first.emit(event(at))
    assert first.status().spooled == 50
    await relay.open()
    async with FeedReader(broker.host, broker.port) as reader, make(relay):
        await reader.until(lambda: len(reader.events()) == 50)
    assert ats(reader) == list(range(50))


async def test_a_full_spool_keeps_mode_changes_and_reports_the_rest(broker, relay, make):
    async with (
        FeedReader(broker.host, broker.port) as reader,
        make(relay, spool_bytes=64 << 10, queue_bytes=16 << 10) as feed,
    ):
        for at in range(3000):
            feed.emit(mode(at) if at % 100 == 0 else model(at))
            if at % 20 == 0:
                await asyncio.sleep(0)
        for at in range(1030):
            feed.emit(MetricMessage(proxy="p", values={"n_count": at}))
        await until(lambda: feed.status().queued == 0)
        dropped = feed.status().dropped
        assert feed.status().spooled_bytes <= 64 << 10
        await relay.open()
        await reader.until(lambda: any(isinstance(e, LossEvent) for e in reader.events()))
        await reader.until(lambda: len(reader.payloads("metric")) == 1024)
    events = reader.events()
    assert [e.at for e in events if isinstance(e, ModeEvent)] == list(range(0, 3000, 100))
    kept = [e.at for e in events if isinstance(e, ModelEvent)]
    assert dropped == {"model": 2970 - len(kept), "metric": 6}
    assert kept == sorted(kept)
    (loss,) = [e for e in events if isinstance(e, LossEvent)]
    assert (loss.dropped, loss.total, loss.proxy) == (dropped, sum(dropped.values()), "feed")
    # The gaps that a reader sees are what the loss event says.
    assert loss.seq == 3001
    assert loss.seq - len(events) == dropped["model"]
    assert [json.loads(p)["values"]["n_count"] for p in reader.payloads("metric")] == list(
        range(6, 1030)
    )


async def test_threads_share_one_sequence(broker, make):
    async with FeedReader(broker.host, broker.port) as reader, make(broker) as feed:
        threads = [
            threading.Thread(
                target=lambda n=n: [feed.emit(model(n * 1000 + i)) for i in range(500)]
            )
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        await reader.until(lambda: len(reader.payloads("event")) >= 2000)
        for thread in threads:
            thread.join()
    events = reader.events(duplicates=True)
    assert [e.seq for e in events] == list(range(1, 2001))
    for n in range(4):
        own = [e.at for e in events if e.at // 1000 == n]
        assert own == list(range(n * 1000, n * 1000 + 500))


async def test_a_burst_goes_through_while_the_loop_turns(broker, make):
    turns = 0
    async with FeedReader(broker.host, broker.port) as reader, make(broker) as feed:
        assert await feed.wait_connected(SOON)
        for at in range(10_000):
            feed.emit(event(at))
        while feed.status().sent["event"] < 10_000:
            await asyncio.sleep(0)
            turns += 1
        await reader.until(lambda: len(reader.payloads("event")) >= 10_000)
    assert [e.seq for e in reader.events(duplicates=True)] == list(range(1, 10_001))
    assert turns > 10_000 / 64  # at least once per batch


async def test_a_late_will_of_a_lost_connection_is_corrected(broker, make):
    async with FeedReader(broker.host, broker.port, "mlproxy/v1/box/status") as reader:
        async with make(broker) as feed:
            assert await feed.wait_connected(SOON)
            await reader.until(lambda: reader.payloads("status") == [b"online"])
            await until(lambda: feed.status().sent["info"] == 1)
            other = MqttTransport(Endpoint(broker.host, broker.port), identifier=None)
            await other.connect()
            # Until the feed watches its status, an offline would go unnoticed.
            for _ in range(100):
                await other.publish("mlproxy/v1/box/status", b"offline", qos=1, retain=True)
                await asyncio.sleep(0.05)
                if len(reader.payloads("status")) >= 3:
                    break
            await reader.until(lambda: reader.payloads("status")[-1] == b"online")
            await other.close(clean=True)
        await reader.until(lambda: reader.payloads("status")[-1] == b"offline")


async def test_a_state_is_sent_on_change_and_again_at_max_age(broker, make):
    config = {"state_max_age_seconds": 0.2, "state_min_age_seconds": 0.0}
    async with FeedReader(broker.host, broker.port) as reader, make(broker, **config) as feed:
        feed.emit(state("learning"))
        await reader.until(lambda: len(reader.payloads("state")) == 1)
        feed.emit(state("trusted"))
        await reader.until(lambda: len(reader.payloads("state")) == 4)
    states = [json.loads(p) for p in reader.payloads("state")]
    assert [s["mode"] for s in states[:4]] == ["learning", "trusted", "trusted", "trusted"]
    assert [s["seq"] for s in states[:4]] == [1, 2, 2, 2]


async def test_a_new_info_document_replaces_the_old(broker, make):
    async with FeedReader(broker.host, broker.port) as reader, make(broker) as feed:
        await reader.until(lambda: len(reader.payloads("info")) == 1)
        feed.emit(InfoMessage(version="0.1.0", started_at="x", proxies=("p", "q")))
        await reader.until(lambda: len(reader.payloads("info")) == 2)
    first, second = (json.loads(p) for p in reader.payloads("info"))
    assert (first["seq"], second["seq"]) == (1, 2)
    assert second["proxies"] == ["p", "q"]


def run(*command: object) -> None:
    subprocess.run(list(map(str, command)), check=True, stderr=subprocess.DEVNULL)


async def test_a_wrong_password_is_reported_and_events_are_kept(tmp_path, make):
    secret, passwd = tmp_path / "secret", tmp_path / "passwd"
    secret.write_text("right\n")
    run("mosquitto_passwd", "-b", "-c", passwd, "daemon", "right")
    options = ["allow_anonymous false", f"password_file {passwd}"]
    with Mosquitto(tmp_path, options=options) as broker:
        async with make(broker) as feed:
            feed.emit(mode(1))
            await until(lambda: "authori" in feed.status().last_error.lower())
            await until(lambda: feed.status().spooled == 1)
        async with make(broker, username="daemon", password_file=str(secret)) as feed:
            await until(lambda: feed.status().sent["event"] == 1)


async def test_the_shipped_access_list_lets_a_node_write_below_itself_only(tmp_path, make):
    secret, passwd = tmp_path / "secret", tmp_path / "passwd"
    secret.write_text("pw")
    run("mosquitto_passwd", "-b", "-c", passwd, "box", "pw")
    run("mosquitto_passwd", "-b", passwd, "other", "pw")
    acl = Path(__file__).parents[2] / "configs/mosquitto/mlproxy.acl"
    options = ["allow_anonymous false", f"password_file {passwd}", f"acl_file {acl}"]
    with Mosquitto(tmp_path, options=options) as broker:
        account = {"username": "box", "password_file": str(secret)}
        seen = MqttTransport(Endpoint(broker.host, broker.port, **account), identifier=None)
        await seen.connect()
        await seen.subscribe("mlproxy/v1/box/status", qos=1)
        messages = seen.messages()
        intruder = MqttTransport(
            Endpoint(broker.host, broker.port, "other", str(secret)), identifier=None
        )
        await intruder.connect()
        await intruder.publish("mlproxy/v1/box/status", b"intruder", qos=1)
        async with make(broker, **account) as feed:
            feed.emit(mode(1))
            await until(lambda: feed.status().sent["event"] == 1)
            async with asyncio.timeout(SOON):
                assert (await anext(messages)).payload == b"online"
        await seen.close(clean=True)
        await intruder.close(clean=True)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
async def test_tls_checks_the_brokers_name(tmp_path, make):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    subject = ("-subj", "/CN=box", "-addext", "subjectAltName=IP:127.0.0.1")
    run("openssl", "req", "-x509", "-new", "-key", key, "-days", "2", *subject, "-out", cert)
    with Mosquitto(tmp_path, options=[f"certfile {cert}", f"keyfile {key}"]) as broker:
        async with make(broker, tls=True, ca_file=str(cert)) as feed:
            feed.emit(mode(1))
            await until(lambda: feed.status().sent["event"] == 1)
            assert feed.status().broker.startswith("mqtts://")
        async with make(broker, tls=True) as feed:
            await until(lambda: "CERTIFICATE_VERIFY_FAILED" in feed.status().last_error)
        async with make(broker, tls=True, ca_file=str(cert), host="localhost") as feed:
            await until(lambda: "match" in feed.status().last_error)
