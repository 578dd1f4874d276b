"""The MQTT 3.1.1 transport, on aiomqtt.

aiomqtt leaves some things to its caller: both queues are unbounded unless told
otherwise, a failed connect leaves its socket open, and connecting runs in a
thread that cannot be cancelled. This module takes care of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiomqtt

from mlproxy.errors import FeedError
from mlproxy.feed.transport import Received, TransportError, Will

__all__ = ("Endpoint", "MqttTransport")

_log = logging.getLogger("mlproxy.feed.mqtt")
_log.disabled = True  # what matters arrives as an exception

# What paho and aiomqtt let through besides MqttError when a broker lies:
# packets that cannot be unpacked, a reply to nothing, a closed socket.
_BROKEN = (aiomqtt.MqttError, OSError, ValueError, RuntimeError, IndexError)
_REFUSED = 0x80


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a broker is and how to talk to it."""

    host: str
    port: int
    username: str | None = None
    password_file: str | None = None
    tls: bool = False
    ca_file: str | None = None
    keepalive_seconds: int = 10
    timeout_seconds: float = 5.0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    def password(self) -> str | None:
        """Read the password file (its first line).

        Raises:
            FeedError: `feed.password_file`.
        """
        if self.password_file is None:
            return None
        try:
            text = Path(self.password_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise FeedError(
                f"cannot read the password file {self.password_file}: {exc}",
                code="feed.password_file",
                hint="feed.password_file must name a readable UTF-8 text file",
            ) from exc
        return text.partition("\n")[0].rstrip("\r")

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS context (1.2 or later, host name checked).

        Raises:
            FeedError: `feed.ca_file`.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as exc:  # ssl.SSLError is one
            raise FeedError(
                f"cannot load the CA file {self.ca_file}: {exc}",
                code="feed.ca_file",
                hint="feed.ca_file must name a PEM file",
            ) from exc
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _TlsLine
        return context


class _TlsLine(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


class MqttTransport:
    """A `Transport` on aiomqtt; make a new one per connection.

    Args:
        endpoint: the broker.
        identifier: the client id. Keep it the same over reconnects: then the
            broker drops a half-dead predecessor at once, not when its keep-alive
            ends, and its late will cannot overwrite our `online`.
        queue: bound of the incoming queue; more is discarded.
    """

    def __init__(self, endpoint: Endpoint, *, identifier: str | None, queue: int = 64) -> None:
        self._endpoint = endpoint
        self._identifier = identifier
        self._queue = queue
        self._client: aiomqtt.Client | None = None

    async def connect(self, will: Will | None = None) -> None:
        """Connect; see `Transport`."""
        endpoint = self._endpoint
        client = aiomqtt.Client(
            endpoint.host,
            endpoint.port,
            username=endpoint.username,
            password=await asyncio.to_thread(endpoint.password),
            tls_context=await asyncio.to_thread(endpoint.tls_context),
            identifier=self._identifier,
            protocol=aiomqtt.ProtocolVersion.V311,
            will=None if will is None else aiomqtt.Will(will.topic, will.payload, 1, retain=True),
            clean_session=True,
            keepalive=endpoint.keepalive_seconds,
            timeout=endpoint.timeout_seconds,
            max_queued_incoming_messages=self._queue,
            max_queued_outgoing_messages=256,
            max_inflight_messages=128,
            # Without it each batch waits 40 ms for the broker's delayed ACK.
            socket_options=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
            logger=_log,
        )
        client.pending_calls_threshold = 1024
        # aiomqtt offers no parameter for paho's limit on the TCP connect.
        client._client.connect_timeout = endpoint.timeout_seconds  # noqa: SLF001
        # Connecting runs in a thread that cannot be cancelled; leaving it alone
        # would leak the socket that it opens later. So a cancelled connect
        # waits (bounded by the timeouts) and then takes back what was opened.
        entering = asyncio.ensure_future(_enter(client))
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            await _abandon(client, entering)
            raise
        except _BROKEN as exc:
            raise TransportError(_text(exc)) from exc
        self._client = client

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        """Publish; see `Transport`."""
        try:
            await self._connected.publish(topic, payload, qos=qos, retain=retain)
        except _BROKEN as exc:
            raise TransportError(_text(exc)) from exc

    async def subscribe(self, topic_filter: str, *, qos: int) -> None:
        """Subscribe; see `Transport`."""
        try:
            granted = await self._connected.subscribe(topic_filter, qos=qos)
        except _BROKEN as exc:
            raise TransportError(_text(exc)) from exc
        codes = [c if isinstance(c, int) else c.value for c in granted]
        if any(code >= _REFUSED for code in codes):
            raise TransportError(f"the broker refuses a subscription to {topic_filter}")

    async def messages(self) -> AsyncIterator[Received]:
        """Yield what arrives; see `Transport`."""
        try:
            async for message in self._connected.messages:
                yield Received(str(message.topic), bytes(message.payload), bool(message.retain))
        except _BROKEN as exc:
            raise TransportError(_text(exc)) from exc

    async def close(self, *, clean: bool) -> None:
        """Disconnect; see `Transport`."""
        client, self._client = self._client, None
        if client is None:
            return
        if not clean:
            # Cutting the line below the protocol is what makes the broker send the will.
            line = client._client.socket()  # noqa: SLF001
            if isinstance(line, socket.socket):
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)
            client.timeout = 0.01
        await _leave(client)

    @property
    def _connected(self) -> aiomqtt.Client:
        if self._client is None:
            raise TransportError("not connected")
        return self._client


async def _enter(client: aiomqtt.Client) -> None:
    try:
        await client.__aenter__()
    except BaseException:
        client.timeout = 0.01
        await _leave(client)
        raise


async def _abandon(client: aiomqtt.Client, entering: asyncio.Future[None]) -> None:
    """Undo a connect that nobody waits for any more; takes at most its timeouts."""
    while not entering.done():
        # With a socket the thread has ended (but for a few instructions) and
        # what remains, the wait for the broker's consent, can be cancelled.
        opened = client._client.socket() is not None  # noqa: SLF001
        await asyncio.wait([entering], timeout=0.1)
        if opened:
            entering.cancel()
            await asyncio.wait([entering])
    if not entering.cancelled() and entering.exception() is None:
        await _leave(client)


async def _leave(client: aiomqtt.Client) -> None:
    with contextlib.suppress(*_BROKEN):
        await client.__aexit__(None, None, None)
    # aiomqtt keeps why the connection was lost in a future that complains when
    # nobody has looked; we have seen it (as an exception) or do not care.
    lost = client._disconnected  # noqa: SLF001
    if lost.done() and not lost.cancelled():
        lost.exception()


def _text(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__
