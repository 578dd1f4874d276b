"""The broker inside the daemon (amqtt), for a machine without one.

It runs in its own thread with its own event loop, so neither side's load or bugs
hold up the other; it listens on 127.0.0.1 only and keeps everything in memory.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

from mlproxy.errors import FeedError

__all__ = ("EmbeddedBroker",)

_HOST = "127.0.0.1"


class EmbeddedBroker:
    """An MQTT 3.1.1 broker on loopback.

    Args:
        port: TCP port; 0 takes a free one.
        timeout: for starting and for stopping, each, seconds.
    """

    host = _HOST

    def __init__(self, port: int, *, timeout: float = 10.0) -> None:
        self.port = port
        self._timeout = timeout
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, name="mlproxy-broker", daemon=True)

    def start(self) -> None:
        """Start and wait until it listens; blocks, so call it in a thread.

        Raises:
            FeedError: `feed.broker`.
        """
        self._thread.start()
        if self._ready.wait(self._timeout) and self._error is None:
            return
        raise FeedError(
            f"the embedded broker cannot listen on {_HOST}:{self.port}: "
            f"{self._error or 'no answer in time'}",
            code="feed.broker",
            hint='use the broker that is there with feed.host = "127.0.0.1", '
            "or another feed.embedded_port (0: any free one)",
        )

    def stop(self) -> None:
        """Stop and wait for the end (bounded); blocks, so call it in a thread."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join(self._timeout)

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as exc:  # noqa: BLE001 - handed to the caller of start()
            self._error = exc
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        # Loaded here: 0.2 s that nobody with a real broker should pay.
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        from amqtt.broker import Broker

        lines: set[asyncio.StreamWriter] = set()

        class Mended(Broker):  # type: ignore[misc]  # amqtt is not typed for us
            """Mends what amqtt 0.12 does wrong when clients come and go."""

            def __init__(self, configuration: dict[str, Any]) -> None:
                super().__init__(configuration)
                self._subscriptions = _Steady()
                self._retained_messages = _Steady()

            async def _publish_retained_messages_for_subscription(
                self, subscription: tuple[str, int], session: Any
            ) -> None:
                # It is called with everybody's subscriptions for each new client.
                owners = self._subscriptions.get(subscription[0], [])
                if any(owner is session for owner, _ in owners):
                    await super()._publish_retained_messages_for_subscription(subscription, session)

            async def stream_connected(
                self,
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                listener_name: str,
            ) -> None:
                # No connection may outlive its handler.
                lines.add(writer)
                try:
                    await super().stream_connected(reader, writer, listener_name)
                finally:
                    lines.discard(writer)
                    writer.transport.abort()

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        broker = Mended(_configuration(self.port))
        try:
            await broker.start()
        except Exception as exc:
            raise exc.__cause__ or exc from exc
        self.port = _port(broker)
        self._ready.set()
        await self._stop.wait()
        try:
            async with asyncio.timeout(self._timeout):
                await broker.shutdown()
        finally:
            for line in tuple(lines):
                line.transport.abort()
            # Transports close in the next turns of the loop; then it may end.
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                await asyncio.wait(others, timeout=1.0)
            await asyncio.sleep(0)


class _Steady(dict[str, Any]):
    """A dict that may change while somebody iterates over it (amqtt awaits in between)."""

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().keys()))

    def items(self) -> Any:
        """A copy of the items."""
        return list(super().items())


def _configuration(port: int) -> dict[str, Any]:
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"{_HOST}:{port}", "max_connections": 64}},
        # Without the default plugins: they log each packet and fill $SYS.
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }


def _port(broker: Any) -> int:
    """Return the port really bound; amqtt has no public way to ask."""
    server = broker._servers["default"].instance  # noqa: SLF001
    return int(server.sockets[0].getsockname()[1])
