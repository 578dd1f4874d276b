"""The broker inside the daemon, and `events tail`."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from datetime import UTC, datetime

import click.testing
import msgspec
import pytest

from mlproxy.cli.events import group
from mlproxy.errors import FeedError
from mlproxy.events import InfoMessage, ModeEvent, ModelEvent, StateMessage
from mlproxy.feed import Feed
from mlproxy.feed.broker import EmbeddedBroker
from mlproxy.feed.config import FeedConfig
from mlproxy.feed.mqtt import Endpoint, MqttTransport
from mlproxy.testing.mosquitto import free_port
from mlproxy.testing.reader import FeedReader


class Clock:
    monotonic_ns = staticmethod(time.monotonic_ns)

    def utc_now(self) -> datetime:
        return datetime(2026, 2, 6, 12, 0, 0, tzinfo=UTC)


def embedded(state_dir, **config: object) -> Feed:
    info = InfoMessage(version="0.1.0", started_at="2026-02-06T12:00:00Z")
    settings = FeedConfig(**({"embedded_port": 0} | config))
    return Feed(settings, node="box", clock=Clock(), state_dir=state_dir, info=info)


def address(feed: Feed) -> tuple[str, int]:
    host, _, port = feed.status().broker.removeprefix("mqtt://").rpartition(":")
    return host, int(port)


STATE = StateMessage(
    proxy="p",
    subsystem="lfs",
    kind="program",
    mode="learning",
    reason="start",
    guard="in-process",
    at=0,
    mode_since=0,
    mode_seq=1,
)
MODE = ModeEvent(proxy="p", old="learning", new="trusted", reason="promoted", at=1)


async def test_end_to_end(tmp_path):
    async with embedded(tmp_path) as feed:
        feed.emit(STATE)
        assert await feed.wait_connected(60.0)
        assert feed.status().embedded
        async with FeedReader(*address(feed)) as reader:
            # Retained ones come on subscribing.
            await reader.until(lambda: len(reader.received) >= 3)
            for at in range(300):
                feed.emit(ModelEvent(proxy="p", what="drift", candidate="tree", at=at))
            feed.emit(MODE)
            await reader.until(lambda: len(reader.events()) == 301)
            assert [e.seq for e in reader.events()] == list(range(1, 302))
            assert set(reader.payloads("status")) == {b"online"}
            assert json.loads(reader.payloads("state")[0])["mode"] == "learning"
            assert json.loads(reader.payloads("info")[0])["session"] == feed.session


async def test_listens_on_loopback_only_and_frees_the_port(tmp_path):
    async with embedded(tmp_path) as feed:
        host, port = address(feed)
        assert host == "127.0.0.1"
        assert await feed.wait_connected(60.0)
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind((host, port))


async def test_a_stop_right_after_connecting_is_a_clean_one(tmp_path):
    # wait_for of Python 3.11 swallows a cancellation that races with a reply.
    for _ in range(20):
        async with embedded(tmp_path) as feed:
            assert await feed.wait_connected(60.0)
        assert not feed._sending.cancelled()


async def test_a_taken_port_is_a_coded_error_with_a_way_out(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FeedError) as caught:
            async with embedded(tmp_path, embedded_port=port):
                pass
    assert caught.value.code == "feed.broker"
    assert "feed.host" in caught.value.hint
    assert str(port) in str(caught.value)
    # Nothing half-done stays: the spool is free again.
    async with embedded(tmp_path):
        pass


async def test_the_broker_says_nothing_to_the_log(tmp_path, caplog):
    caplog.set_level("DEBUG")
    async with embedded(tmp_path) as feed:
        assert await feed.wait_connected(60.0)
        async with FeedReader(*address(feed)) as reader:
            await reader.until(lambda: len(reader.received) >= 2)
    names = {r.name.partition(".")[0] for r in caplog.records}
    assert not names & {"amqtt", "transitions"}


def test_stop_without_start_and_twice():
    broker = EmbeddedBroker(0)
    broker.stop()
    broker.start()
    broker.stop()
    broker.stop()


async def test_clients_that_come_and_go_at_once_do_not_disturb_each_other(tmp_path):
    async with embedded(tmp_path) as feed:
        assert await feed.wait_connected(60.0)
        for i in range(50):
            feed.emit(msgspec.structs.replace(STATE, proxy=f"p{i}"))
        await feed_has_sent(feed, 50)
        host, port = address(feed)

        async def come_and_go(number: int) -> None:
            line = MqttTransport(Endpoint(host, port), identifier=None)
            await line.connect()
            await line.subscribe(f"mlproxy/v1/box/state/p{number}", qos=1)
            message = await anext(line.messages())
            assert message.topic == f"mlproxy/v1/box/state/p{number}"
            await line.close(clean=True)

        for _round in range(4):
            async with asyncio.TaskGroup() as group:
                for number in range(12):
                    group.create_task(come_and_go(number))
        assert (feed.status().connected, feed.status().reconnects) == (True, 0)


async def feed_has_sent(feed: Feed, states: int) -> None:
    async with asyncio.timeout(60.0):
        while feed.status().sent["state"] < states:  # noqa: ASYNC110 - a status has no event
            await asyncio.sleep(0.01)


async def tail(*args: str) -> asyncio.subprocess.Process:
    code = "from mlproxy.cli.events import group; group()"
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "tail", *args),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_tail_prints_lines_and_json(tmp_path):
    async with embedded(tmp_path) as feed:
        assert await feed.wait_connected(60.0)
        where = ("--port", str(address(feed)[1]))
        async with asyncio.timeout(60.0):
            people = await tail(*where, "--count", "2")
            machine = await tail(
                *where, "--count", "2", "--json", "--kind", "mode", "--node", "box"
            )
            ended = asyncio.gather(people.wait(), machine.wait())
            while not ended.done():
                feed.emit(MODE)
                feed.emit(ModelEvent(proxy="q", what="champion", candidate="tree"))
                await asyncio.sleep(0.05)
            assert await ended == [0, 0]
            lines = (await people.communicate())[0].decode().splitlines()
            documents = [json.loads(x) for x in (await machine.communicate())[0].splitlines()]
    assert sorted(lines) == [
        "2026-02-06T12:00:00.000000Z box p mode learning -> trusted (promoted)",
        "2026-02-06T12:00:00.000000Z box q model champion tree",
    ]
    assert [(d["kind"], d["new"]) for d in documents] == [("mode", "trusted")] * 2
    assert documents[1]["seq"] == documents[0]["seq"] + 2


def test_tail_without_a_broker_says_what_to_do():
    result = click.testing.CliRunner().invoke(group, ["tail", "--port", str(free_port())])
    assert isinstance(result.exception, FeedError)
    assert result.exception.code == "feed.unreachable"
    assert "--host" in result.exception.hint


def test_tail_takes_the_broker_from_the_configuration():
    port = free_port()
    config = FeedConfig(host="127.0.0.1", port=port)
    result = click.testing.CliRunner().invoke(group, ["tail"], obj=config)
    assert f":{port}" in str(result.exception)


@pytest.mark.parametrize("option", ["--node", "--proxy", "--kind"])
def test_tail_refuses_what_is_no_id(option):
    result = click.testing.CliRunner().invoke(group, ["tail", option, "a/#"])
    assert isinstance(result.exception, FeedError)
    assert result.exception.code == "feed.bad_id"
