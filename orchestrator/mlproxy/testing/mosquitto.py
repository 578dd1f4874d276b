"""A real mosquitto on a free loopback port, for tests and trials."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ("Mosquitto", "find_mosquitto", "free_port")


def find_mosquitto() -> str | None:
    """Return the path of the mosquitto binary (Debian has it in /usr/sbin), or None."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Mosquitto:
    """Runs mosquitto while it is open; may be stopped and started in between.

    Nothing is kept over a restart: no persistence, so retained messages are gone.

    Args:
        directory: for its configuration.
        port: 0 takes a free one; it stays the same over restarts.
        options: further lines of its configuration; those about access replace
            `allow_anonymous true`.
    """

    host = "127.0.0.1"

    def __init__(self, directory: Path, *, port: int = 0, options: Sequence[str] = ()) -> None:
        self.port = port or free_port()
        self._config = directory / f"mosquitto-{self.port}.conf"
        # The last two as in configs/mosquitto: see there.
        lines = [
            f"listener {self.port} {self.host}",
            *options,
            "set_tcp_nodelay true",
            "max_queued_messages 0",
        ]
        if not any(line.startswith("allow_anonymous") for line in options):
            lines.append("allow_anonymous true")
        if os.geteuid() == 0:
            lines.append("user root")
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, patience_seconds: float = 10.0) -> None:
        """Start it and wait until it listens.

        Raises:
            RuntimeError: it is not installed or did not come up.
        """
        binary = find_mosquitto()
        if binary is None:
            raise RuntimeError("mosquitto is not installed (apt-get install mosquitto)")
        self._process = subprocess.Popen(  # noqa: S603
            [binary, "-c", str(self._config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection((self.host, self.port), timeout=1.0).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        self.stop()
        raise RuntimeError(f"mosquitto does not listen on {self.host}:{self.port}")

    def stop(self) -> None:
        """Kill it (its clients lose their connections) and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def restart(self) -> None:
        """Stop and start again, without holding up the loop."""
        await asyncio.to_thread(self.stop)
        await asyncio.to_thread(self.start)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
