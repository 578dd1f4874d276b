"""What waits in memory to be sent: bounded, filled from any thread.

Events keep their order and are evicted oldest first, vital ones last. Of states
only the latest per proxy is kept, of metrics the latest N.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import replace

from mlproxy.feed.record import Record

__all__ = ("Outbox",)


class Outbox:
    """Bounded queues of encoded messages; every method is safe in any thread."""

    def __init__(self, *, max_bytes: int, max_metrics: int) -> None:
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        self._max_metrics = max_metrics
        self._next = 1
        self._vital: deque[Record] = deque()
        self._others: deque[Record] = deque()
        self._bytes = 0
        self._metrics: deque[tuple[str, bytes]] = deque()
        self._dropped: Counter[str] = Counter()

    def rebase(self, first_ordinal: int) -> None:
        """Let the ordinals, given from 1 until now, start at `first_ordinal`; call it once."""
        with self._lock:
            shift = max(0, first_ordinal - 1)
            self._next += shift
            for lane in (self._vital, self._others):
                for index, record in enumerate(lane):
                    lane[index] = replace(record, ordinal=record.ordinal + shift)

    def add_event(self, kind: str, topic: str, payload: bytes) -> None:
        """Queue an event; evicts the oldest if the bound is passed."""
        with self._lock:
            record = Record(self._next, kind, topic, payload)
            self._next += 1
            (self._vital if record.vital else self._others).append(record)
            self._bytes += record.size
            self._evict()

    def add_metric(self, topic: str, payload: bytes) -> None:
        """Queue a metric message; the oldest goes when there are too many."""
        with self._lock:
            if len(self._metrics) >= self._max_metrics:
                self._metrics.popleft()
                self._dropped["metric"] += 1
            self._metrics.append((topic, payload))

    def take_events(self, count: int, below: int | None = None) -> list[Record]:
        """Remove and return the oldest events, at most `count`, in order.

        With `below` only those whose ordinal is smaller.
        """
        taken: list[Record] = []
        with self._lock:
            while len(taken) < count:
                lane = self._oldest_lane()
                if lane is None or (below is not None and lane[0].ordinal >= below):
                    break
                taken.append(lane.popleft())
            self._bytes -= sum(r.size for r in taken)
        return taken

    def put_back(self, records: Iterable[Record]) -> None:
        """Return events that were taken but not delivered to the head of the queue."""
        with self._lock:
            for record in sorted(records, key=lambda r: r.ordinal, reverse=True):
                (self._vital if record.vital else self._others).appendleft(record)
                self._bytes += record.size
            self._evict()

    def take_metrics(self, count: int) -> list[tuple[str, bytes]]:
        """Remove and return the oldest metric messages as (topic, payload)."""
        with self._lock:
            return [self._metrics.popleft() for _ in range(min(count, len(self._metrics)))]

    def count_drop(self, kinds: Counter[str]) -> None:
        """Add messages that somebody else (the spool) threw away."""
        with self._lock:
            self._dropped.update(kinds)

    def dropped(self) -> Counter[str]:
        """Messages thrown away so far, by kind (`metric` among them)."""
        with self._lock:
            return Counter(self._dropped)

    @property
    def head(self) -> int | None:
        """Ordinal of the oldest event here."""
        with self._lock:
            lane = self._oldest_lane()
            return None if lane is None else lane[0].ordinal

    @property
    def events(self) -> int:
        """How many events wait."""
        return len(self._vital) + len(self._others)

    @property
    def event_bytes(self) -> int:
        """What they count against the bound."""
        return self._bytes

    @property
    def metrics(self) -> int:
        """How many metric messages wait."""
        return len(self._metrics)

    def _oldest_lane(self) -> deque[Record] | None:
        if not self._vital or not self._others:
            return self._vital or self._others or None
        return min(self._vital, self._others, key=lambda lane: lane[0].ordinal)

    def _evict(self) -> None:
        while self._bytes > self._max_bytes:
            victim = (self._others or self._vital).popleft()
            self._bytes -= victim.size
            self._dropped[victim.kind] += 1
