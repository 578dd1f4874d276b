"""The control socket's server: unix socket, peer credentials, JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import pwd
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from mlproxy.app.protocol import MAX_REQUEST, decode_request, encode, failure
from mlproxy.errors import ControlError, MlproxyError
from mlproxy.log import get_logger

__all__ = ("Handler", "control_server", "group_id", "may_connect")

Handler = Callable[[str, dict[str, Any]], Awaitable[Any]]
MAX_CLIENTS = 32
IDLE_SECONDS = 60.0


def group_id(name: str) -> int:
    """The id of a group.

    Raises:
        ControlError: `daemon.no_group`.
    """
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ControlError(
            f"no group {name!r} on this machine",
            code="daemon.no_group",
            hint="make it (groupadd --system) or leave daemon.socket_group out",
        ) from None


def may_connect(uid: int, gid: int, group: int | None) -> bool:
    """Whether a peer may give commands: root, our own user, or a member of the group."""
    if uid in (0, os.geteuid()):
        return True
    if group is None:
        return False
    if gid == group:
        return True
    with contextlib.suppress(KeyError):
        return group in os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    return False


def _peer(writer: asyncio.StreamWriter) -> tuple[int, int, int]:
    connection = writer.get_extra_info("socket")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", raw)
    return pid, uid, gid


class _Server:
    def __init__(self, handler: Handler, group: int | None) -> None:
        self._handler = handler
        self._group = group
        self._clients: set[asyncio.StreamWriter] = set()
        self._log = get_logger()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: replies to each line, in order."""
        self._clients.add(writer)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self._clients.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid, uid, gid = _peer(writer)
        if not may_connect(uid, gid, self._group):
            self._log.warning("control.refused", pid=pid, uid=uid)
            refused = ControlError(
                f"user {uid} may not control this daemon",
                code="control.refused",
                hint="be the daemon's user or root, or in daemon.socket_group",
            )
            await self._reply(writer, failure(refused))
            return
        if len(self._clients) > MAX_CLIENTS:
            busy = ControlError(
                f"{MAX_CLIENTS} clients are connected", code="control.busy", hint="try again later"
            )
            await self._reply(writer, failure(busy))
            return
        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    line = await reader.readline()
            except ValueError:
                too_long = ControlError(
                    f"request above {MAX_REQUEST} bytes", code="control.too_long", hint="send less"
                )
                await self._reply(writer, failure(too_long))
                return
            if not line:
                return
            await self._reply(writer, await self._answer(line, pid))

    async def _answer(self, line: bytes, pid: int) -> dict[str, Any]:
        try:
            verb, arguments = decode_request(line)
            self._log.debug("control.requested", verb=verb, pid=pid)
            return {"ok": True, "result": await self._handler(verb, arguments)}
        except MlproxyError as error:
            return failure(error)
        except Exception as error:  # noqa: BLE001 - a bug in a verb must not end the daemon
            self._log.exception("control.failed")
            internal = ControlError(repr(error), code="control.internal", hint="please report this")
            return failure(internal)

    async def _reply(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        writer.write(encode(message))
        async with asyncio.timeout(IDLE_SECONDS):
            await writer.drain()

    def close_clients(self) -> None:
        """End all connections."""
        for writer in tuple(self._clients):
            writer.close()


@contextlib.asynccontextmanager
async def control_server(
    path: Path, handler: Handler, *, group: int | None = None
) -> AsyncIterator[None]:
    """Listen on a unix socket while the context lasts.

    Args:
        path: the socket; it must not exist (see `instance_lock`).
        handler: gets the verb and its checked arguments, returns the result.
        group: id of the group whose members may connect, or None.

    Raises:
        ControlError: `daemon.no_socket`, it cannot be made.
    """
    server = _Server(handler, group)
    try:
        # Bound by hand: the mode must be right from the first moment on.
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(old)
        if group is not None:
            os.chown(path, -1, group)
            os.chmod(path, 0o660)  # noqa: PTH101
        running = await asyncio.start_unix_server(server.serve, sock=listener, limit=MAX_REQUEST)
    except OSError as error:
        raise ControlError(
            f"cannot listen on {path}: {error.strerror or error}",
            code="daemon.no_socket",
            hint="set daemon.socket to a place you may write, at most 107 bytes long",
            path=str(path),
        ) from error
    try:
        yield
    finally:
        running.close()
        server.close_clients()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108
        await running.wait_closed()
