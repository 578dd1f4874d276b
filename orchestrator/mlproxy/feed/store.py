"""Events on their way: memory first, disk when the broker does not keep up.

All disk access runs in one thread of its own, so a slow disk delays the feed and
nobody else. One batch at a time is out for delivery.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from mlproxy.feed.outbox import Outbox
from mlproxy.feed.record import Record
from mlproxy.feed.spool import Spool

__all__ = ("EventStore",)

Result = TypeVar("Result")
_log = logging.getLogger("mlproxy.feed")
_SPILL_BATCH = 512


class EventStore:
    """The queue of events over memory and disk, in the order of their ordinals.

    Args:
        outbox: the part in memory.
        spill_bytes: while connected, what is above this in memory goes to disk.
    """

    def __init__(self, outbox: Outbox, *, spill_bytes: int) -> None:
        self._outbox = outbox
        self._spill_bytes = spill_bytes
        self._spool: Spool | None = None
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlproxy-spool")
        self._lock = asyncio.Lock()
        self._from_spool = False
        self._counted: Counter[str] = Counter()
        self.records = 0
        self.bytes = 0
        self.last_error = ""

    async def open(self, directory: Path, max_bytes: int) -> None:
        """Open the spool; events of earlier sessions will be sent first.

        Raises:
            FeedError: see `Spool`.
        """
        self._spool = await self._on_disk(lambda: Spool(directory, max_bytes))
        self._outbox.rebase(self._spool.next_ordinal)
        self._note(self._spool)

    async def take(self, count: int) -> list[Record]:
        """Return the oldest events, at most `count`; then call `delivered` or `returned`."""
        async with self._lock:
            spool = self._spool
            if spool is None or self.records == 0:
                self._from_spool = False
                return self._outbox.take_events(count)
            return await self._on_disk(lambda: self._take(spool, count))

    async def delivered(self, batch: list[Record]) -> None:
        """The broker has acknowledged the batch."""
        spool = self._spool
        if spool is not None and self._from_spool:
            await self._on_disk(lambda: self._ack(spool, batch[-1].ordinal))

    def returned(self, batch: list[Record]) -> None:
        """The batch may not have arrived: it is next again."""
        if not self._from_spool:
            self._outbox.put_back(batch)
        elif self._spool is not None:
            self._spool.give_back()

    async def spill(self, *, everything: bool) -> bool:
        """Move events from memory to disk; False if the disk does not take them."""
        spool = self._spool
        limit = 0 if everything else self._spill_bytes
        while spool is not None and self._outbox.event_bytes > limit:
            async with self._lock:
                if not await self._on_disk(lambda: self._append(spool)):
                    return False
        return True

    async def close(self) -> None:
        """Put what is left on disk and close it; what the disk does not take is counted."""
        if self._spool is not None:
            await self.spill(everything=True)
            await self._on_disk(self._spool.close)
        left = Counter(r.kind for r in self._outbox.take_events(self._outbox.events))
        self._outbox.count_drop(left)
        if left:
            _log.warning("%d events were not delivered and are lost: %s", left.total(), dict(left))
        self._disk.shutdown(wait=True)

    async def _on_disk(self, call: Callable[[], Result]) -> Result:
        future = asyncio.get_running_loop().run_in_executor(self._disk, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # Half-done disk work must not overlap with what comes next.
            await asyncio.wait([future])
            raise

    # Below: in the disk thread.

    def _take(self, spool: Spool, count: int) -> list[Record]:
        try:
            head = spool.head
            mine = self._outbox.head
            # A batch that came back is older than what was spilled meanwhile.
            self._from_spool = head is not None and (mine is None or head < mine)
            if self._from_spool:
                return spool.peek(count)
        except OSError as exc:
            self.last_error = f"spool: {exc}"
            return []
        return self._outbox.take_events(count, below=head)

    def _ack(self, spool: Spool, ordinal: int) -> None:
        try:
            spool.ack(ordinal)
        except OSError as exc:
            self.last_error = f"spool: {exc}"
        self._note(spool)

    def _append(self, spool: Spool) -> bool:
        batch = self._outbox.take_events(_SPILL_BATCH)
        try:
            spool.append(batch)
        except OSError as exc:
            self._outbox.put_back(batch)
            self.last_error = f"spool: {exc}"
            return False
        finally:
            self._note(spool)
        return True

    def _note(self, spool: Spool) -> None:
        """Copy the spool's numbers to where any thread may read them."""
        self.records, self.bytes = spool.records, spool.bytes
        fresh = spool.dropped - self._counted
        self._counted += fresh
        self._outbox.count_drop(fresh)
