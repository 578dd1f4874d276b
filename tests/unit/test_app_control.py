"""The control socket: protocol, server, client, lock."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlproxy.app.client import ControlClient
from mlproxy.app.control import control_server, group_id, may_connect
from mlproxy.app.lock import instance_lock, private_directory
from mlproxy.app.protocol import MAX_REQUEST, VERBS, decode_reply, decode_request, encode, failure
from mlproxy.errors import ConfigError, ControlError, MlproxyError, PluginError, Problem


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", "control.bad_json"),
        (b"nonsense", "control.bad_json"),
        (b"\xff", "control.bad_json"),
        (b"[" * 60_000, "control.bad_json"),
        (b"[]", "control.bad_request"),
        (b"{}", "control.bad_request"),
        (b'{"verb": 1}', "control.bad_request"),
        (b'{"verb": "explode"}', "control.unknown_verb"),
        (b'{"verb": "status", "x": 1}', "control.bad_argument"),
        (b'{"verb": "emergency"}', "control.bad_argument"),
        (b'{"verb": "emergency", "on": 1}', "control.bad_argument"),
        (b'{"verb": "emergency", "on": true, "proxy": 3}', "control.bad_argument"),
        (b'{"verb": "status"' + b" " * MAX_REQUEST + b"}", "control.too_long"),
    ],
)
def test_bad_requests(line: bytes, code: str) -> None:
    with pytest.raises(ControlError) as caught:
        decode_request(line)
    assert caught.value.code == code


@given(st.binary(max_size=300))
def test_any_request_is_understood_or_refused(line: bytes) -> None:
    try:
        verb, _ = decode_request(line)
    except ControlError:
        return
    assert verb in VERBS


@given(st.binary(max_size=300))
def test_any_reply_is_understood_or_refused(line: bytes) -> None:
    with contextlib.suppress(ControlError):
        decode_reply(line)


def test_an_error_arrives_as_it_was_raised() -> None:
    problem = Problem("config.syntax", "", "f", "m", "h")
    sent = ConfigError("all wrong", code="config.invalid", hint="fix it", problems=[problem])

    with pytest.raises(ControlError) as caught:
        decode_reply(encode(failure(sent)))

    assert (caught.value.code, caught.value.hint) == ("config.invalid", "fix it")
    assert caught.value.context["problems"] == [problem.as_dict()]


async def answer(verb: str, arguments: dict[str, Any]) -> Any:
    if verb == "plugins":
        raise PluginError("no", code="plugin.test", hint="none")
    if verb == "stop":
        raise ZeroDivisionError
    return {"verb": verb} | arguments


async def call(path: Path, verb: str, **arguments: Any) -> Any:
    def blocking() -> Any:
        with ControlClient(str(path)) as client:
            return client.call(verb, **arguments)

    return await asyncio.to_thread(blocking)


async def test_requests_and_replies(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with control_server(path, answer):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await call(path, "status") == {"verb": "status"}
        assert await call(path, "emergency", on=False, proxy=None) == {
            "verb": "emergency",
            "on": False,
        }
        with pytest.raises(ControlError, match="no") as caught:
            await call(path, "plugins")
        assert caught.value.code == "plugin.test"
        with pytest.raises(ControlError) as caught:
            await call(path, "stop")
        assert caught.value.code == "control.internal"
        assert await call(path, "status") == {"verb": "status"}

    assert not path.exists()


async def test_many_lines_on_one_connection_and_a_too_long_one(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with control_server(path, answer):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"verb":"status"}\n{"verb":"nope"}\nrubbish\n')
        replies = [json.loads(await reader.readline()) for _ in range(3)]
        assert replies[0]["ok"]
        assert [r["error"]["code"] for r in replies[1:]] == [
            "control.unknown_verb",
            "control.bad_json",
        ]
        writer.write(b"x" * (2 * MAX_REQUEST) + b"\n")
        assert json.loads(await reader.readline())["error"]["code"] == "control.too_long"
        assert await reader.read() == b""
        writer.close()


async def test_a_silent_client_does_not_hold_up_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with control_server(path, answer):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"verb":"status"}\n')
        await reader.readline()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


def test_who_may_connect() -> None:
    me = os.geteuid()

    assert may_connect(me, 0, None)
    assert may_connect(0, 0, None)
    assert not may_connect(54_321, 54_321, None)
    assert may_connect(54_321, 77, 77)
    assert not may_connect(54_321, 78, 77)


def test_a_group_that_does_not_exist() -> None:
    with pytest.raises(ControlError) as caught:
        group_id("no-such-group-here")
    assert caught.value.code == "daemon.no_group"


async def test_the_client_says_what_is_wrong(tmp_path: Path) -> None:
    async def code(path: Path) -> str:
        with pytest.raises(ControlError) as caught:
            await call(path, "status")
        return str(caught.value.code)

    assert await code(tmp_path / "nothing") == "control.not_running"
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    assert await code(dead) == "control.not_running"
    assert await code(tmp_path / ("x" * 200)) == "control.unreachable"

    async def liar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"hello\n")
        writer.close()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    for server, expected in ((liar, "control.bad_reply"), (mute, "control.unreachable")):
        path = tmp_path / expected
        async with await asyncio.start_unix_server(server, path):
            assert await code(path) == expected


def test_one_daemon_per_socket(tmp_path: Path) -> None:
    path = tmp_path / "made" / "s"
    with instance_lock(path):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with pytest.raises(ControlError, match=str(os.getpid())) as caught, instance_lock(path):
            pass
        assert caught.value.code == "daemon.already_running"
    path.write_text("stale")
    with instance_lock(path):
        assert not path.exists()


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "below", tmp_path / "file"):
        with pytest.raises(MlproxyError) as caught:
            private_directory(path / "x", what="a directory")
        assert caught.value.code == "daemon.no_directory"
