"""Stamping of messages with node, session, time and sequence numbers."""

from __future__ import annotations

import secrets
from collections import Counter
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import msgspec

from mlproxy.events.types import FeedMessage

__all__ = ("FeedClock", "Stamper", "rfc3339")

Message = TypeVar("Message", bound=FeedMessage)


class FeedClock(Protocol):
    """What the feed needs of `mlproxy.clock.Clock`."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back."""

    def utc_now(self) -> datetime:
        """Wall-clock time with its time zone."""


def rfc3339(moment: datetime) -> str:
    """Return the time as RFC 3339 in UTC with microseconds.

    >>> from datetime import datetime, UTC
    >>> rfc3339(datetime(2026, 2, 6, 12, 0, 0, 50, tzinfo=UTC))
    '2026-02-06T12:00:00.000050Z'
    """
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


class Stamper:
    """Gives each message its place: one counter per class, from 1, without gaps.

    Not thread-safe: the caller holds a lock over stamping and queueing, so that
    the order of the numbers is the order of the queue.
    """

    def __init__(self, node: str, session: str, clock: FeedClock) -> None:
        self.node = node
        self.session = session or secrets.token_hex(8)
        self._clock = clock
        self._seq: Counter[str] = Counter()

    def stamp(self, message: Message, cls: str) -> Message:
        """Return the message with its stamps."""
        self._seq[cls] += 1
        return msgspec.structs.replace(
            message,
            seq=self._seq[cls],
            ts=rfc3339(self._clock.utc_now()),
            mono_ns=self._clock.monotonic_ns(),
            node=self.node,
            session=self.session,
        )

    def take_back(self, cls: str) -> None:
        """The message that was stamped last will not be sent."""
        self._seq[cls] -= 1

    def last(self, cls: str) -> int:
        """The newest number given in a class, 0 if none."""
        return self._seq[cls]
