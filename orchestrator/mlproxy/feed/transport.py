"""The seam between the feed and an MQTT library."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

__all__ = ("Received", "Transport", "TransportError", "Will")


class TransportError(Exception):
    """The connection could not be made or was lost; the feed tries again."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes (retained, QoS 1) when the connection dies."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the broker."""

    topic: str
    payload: bytes
    retain: bool


class Transport(Protocol):
    """One connection to a broker; used once. Every method raises `TransportError`."""

    async def connect(self, will: Will | None = None) -> None:
        """Connect and wait for the broker's consent."""

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        """Publish; with QoS 1 return when the broker has acknowledged."""

    async def subscribe(self, topic_filter: str, *, qos: int) -> None:
        """Subscribe and wait for the broker's consent."""

    def messages(self) -> AsyncIterator[Received]:
        """Yield what arrives; raises when the connection is lost."""

    async def close(self, *, clean: bool) -> None:
        """Disconnect; unless `clean` the broker will send the will. Never raises."""
