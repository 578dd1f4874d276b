"""Which retained states are due: latest per proxy, on change, at a bounded rate."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from mlproxy.events.types import StateMessage

__all__ = ("StateTable",)


@dataclass(slots=True)
class _Entry:
    topic: str
    payload: bytes
    marks: tuple[object, ...]
    urgent: bool = True
    changed: bool = True
    sent_at: float = 0.0


class StateTable:
    """The latest state of each proxy and when it was last sent; thread-safe.

    A state is due at once when something a person reacts to has changed (mode,
    reason, latch, hold, guard, champion, model version), after `min_age` seconds
    when any number has, and after `max_age` in any case.
    """

    def __init__(self, *, min_age: float, max_age: float) -> None:
        self._lock = threading.Lock()
        self._min_age = min_age
        self._max_age = max_age
        self._entries: dict[str, _Entry] = {}
        self.merged = 0

    def put(self, message: StateMessage, topic: str, payload: bytes) -> None:
        """Replace the state of a proxy."""
        marks = (
            message.mode,
            message.reason,
            message.mode_seq,
            message.latched,
            message.operator_hold,
            message.guard,
            message.champion,
            message.model_version,
        )
        with self._lock:
            entry = self._entries.get(topic)
            if entry is None:
                self._entries[topic] = _Entry(topic, payload, marks)
                return
            self.merged += entry.changed
            entry.urgent |= marks != entry.marks
            entry.payload, entry.marks, entry.changed = payload, marks, True

    def renew(self) -> None:
        """After a reconnect: everything is due."""
        with self._lock:
            for entry in self._entries.values():
                entry.urgent = True

    def take_due(self, now: float) -> list[tuple[str, bytes]]:
        """Return (topic, payload) of the due states; they count as sent.

        If sending fails the connection is lost, and `renew` makes all due again.
        """
        with self._lock:
            due = [e for e in self._entries.values() if self._wait(e, now) <= 0]
            for entry in due:
                entry.urgent = entry.changed = False
                entry.sent_at = now
            return [(e.topic, e.payload) for e in due]

    def seconds_to_next(self, now: float) -> float | None:
        """Return how long until a state is due, None without any."""
        with self._lock:
            return min((self._wait(e, now) for e in self._entries.values()), default=None)

    def _wait(self, entry: _Entry, now: float) -> float:
        if entry.urgent:
            return 0.0
        age = self._min_age if entry.changed else self._max_age
        return max(0.0, entry.sent_at + age - now)
