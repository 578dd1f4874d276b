"""One event on its way to the broker."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("VITAL_KINDS", "Record")

VITAL_KINDS = frozenset({"mode", "loss"})
"""Kinds that are thrown away last: mode changes and the feed's own loss reports."""


@dataclass(frozen=True, slots=True)
class Record:
    """An encoded event and its place in the order.

    `ordinal` rises by one per event over all sessions that share a spool; it
    decides the order of sending. (`seq` inside the payload counts per session.)
    """

    ordinal: int
    kind: str
    topic: str
    payload: bytes

    @property
    def vital(self) -> bool:
        """Whether it is thrown away only when nothing else is left."""
        return self.kind in VITAL_KINDS

    @property
    def size(self) -> int:
        """What it counts against the bounds, bytes."""
        return len(self.payload) + len(self.topic) + 32
