"""Talk to a running daemon. Light: standard library only."""

from __future__ import annotations

import contextlib
import errno
import socket
from types import TracebackType
from typing import Any, Self

from mlproxy.app.protocol import decode_reply, encode
from mlproxy.errors import ControlError

__all__ = ("ControlClient",)

MAX_REPLY = 16 * 1024 * 1024


class ControlClient:
    """A connection to the control socket; a context manager.

    Args:
        path: the socket.
        timeout: seconds to wait for each reply.

    Raises:
        ControlError: on entering: `control.not_running` (no daemon there),
            `control.refused` (no permission), `control.unreachable`.

    Example:
        with ControlClient("/run/mlproxy/control.sock") as client:
            client.call("emergency", on=True)
    """

    def __init__(self, path: str, *, timeout: float = 10.0) -> None:
        self._path = path
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._buffer = b""

    def __enter__(self) -> Self:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._timeout)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            raise self._explain(error) from error
        self._socket = connection
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _explain(self, error: OSError) -> ControlError:
        if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
            return ControlError(
                f"no daemon listens on {self._path}",
                code="control.not_running",
                hint="start it with `mlproxy run`, or name its socket with --socket",
                path=self._path,
            )
        if isinstance(error, PermissionError):
            return ControlError(
                f"may not connect to {self._path}",
                code="control.refused",
                hint="be the daemon's user or root, or in daemon.socket_group",
                path=self._path,
            )
        return ControlError(
            f"cannot talk to the daemon on {self._path}: {error.strerror or error}",
            code="control.unreachable",
            hint="see the daemon's log",
            path=self._path,
        )

    def call(self, verb: str, **arguments: Any) -> Any:
        """Send a request and return the result of its reply.

        Raises:
            ControlError: as on entering; `control.bad_reply`; or the daemon's own error.
        """
        if self._socket is None:
            raise ControlError("not connected", code="control.unreachable", hint="use `with`")
        request = {"verb": verb} | {k: v for k, v in arguments.items() if v is not None}
        try:
            # The daemon may have refused us and closed already: its reply says why.
            with contextlib.suppress(BrokenPipeError):
                self._socket.sendall(encode(request))
            line = self._line(self._socket)
        except OSError as error:
            if error.errno is None:
                error = OSError(errno.ETIMEDOUT, "no reply in time")
            raise self._explain(error) from error
        return decode_reply(line)

    def _line(self, connection: socket.socket) -> bytes:
        while b"\n" not in self._buffer:
            part = connection.recv(65536)
            if not part or len(self._buffer) > MAX_REPLY:
                raise ControlError(
                    "the daemon closed the connection without a reply",
                    code="control.unreachable",
                    hint="it may be shutting down; see its log",
                    path=self._path,
                )
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line
