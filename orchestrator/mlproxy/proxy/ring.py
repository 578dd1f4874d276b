"""The reader's side of a ring, wherever its memory comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mlproxy import _core
from mlproxy.proxy.layout import META_BYTES, RECORD_DTYPE

__all__ = ("RingReader", "ring_bytes")

ffi = _core.ffi
lib = _core.lib


def ring_bytes(capacity: int) -> int:
    """Return the size of a ring of so many records, with its meta page."""
    return int(lib.mlp_ring_size(capacity)) if capacity else 0


class RingReader:
    """Views of unread records; for one reading thread, beside one producer.

    Args:
        memory: meta page and records, as a buffer; the views keep it alive.
        capacity: records, a power of two; 0: there is no ring, nothing is ever unread.
    """

    def __init__(self, memory: Any, capacity: int) -> None:
        self._capacity = capacity
        self._peeked = 0
        data = np.frombuffer(memory, dtype=np.uint8, count=ring_bytes(capacity))
        self._records: npt.NDArray[np.void] = data[META_BYTES:].view(RECORD_DTYPE)
        self._records.flags.writeable = False
        self.page: npt.NDArray[np.uint8] = data[: META_BYTES if capacity else 0]
        """The meta page (struct mlp_ring_meta first), uint8."""
        self._meta = ffi.from_buffer(data) if capacity else ffi.NULL
        self._counters = ffi.new("struct mlpy_counters *")

    def peek(self) -> tuple[npt.NDArray[np.void], ...]:
        """Return the unread records: up to two read-only views into the ring."""
        if not self._capacity:
            return ()
        lib.mlpy_ring_counters(self._meta, self._counters)
        head, tail = self._counters.head, self._counters.tail
        # The producer may have lapped us between the two loads.
        self._peeked = tail = max(tail, head - self._capacity)
        begin, count = tail & (self._capacity - 1), head - tail
        first = min(count, self._capacity - begin)
        views = [self._records[begin : begin + first]] if first else []
        if count > first:
            views.append(self._records[: count - first])
        return tuple(views)

    def overwritten(self, count: int) -> int:
        """Return how many of the first `count` peeked records were overwritten since."""
        if not self._capacity:
            return 0
        lib.mlpy_ring_counters(self._meta, self._counters)
        return max(0, min(count, int(self._counters.tail) - self._peeked))

    def upto(self, count: int) -> int:
        """Return the sequence number of the last of the first `count` peeked records."""
        return self._peeked + count

    def consumed(self, count: int) -> None:
        """Go on behind the first `count` peeked records."""
        self._peeked += count
