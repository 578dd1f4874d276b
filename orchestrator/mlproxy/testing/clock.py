"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

__all__ = ("FakeClock",)


class FakeClock:
    """Implements `mlproxy.clock.Clock`; time passes by `advance` only.

    Args:
        start: wall-clock time at the beginning.

    Example:
        >>> clock = FakeClock()
        >>> clock.monotonic(), clock.utc_now().isoformat()
        (0.0, '2026-01-01T00:00:00+00:00')
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._now_ns = 0
        self._sleepers: list[tuple[int, asyncio.Timeout]] = []

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._now_ns / 1e9

    def monotonic_ns(self) -> int:
        """Nanoseconds since the clock was made."""
        return self._now_ns

    def utc_now(self) -> datetime:
        """Wall-clock time in UTC."""
        return self._start + timedelta(microseconds=self._now_ns // 1000)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced by `seconds`."""
        await self.wait(asyncio.Event(), seconds)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait for the event, or until the clock was advanced by `seconds`."""
        if event.is_set() or seconds <= 0:
            return event.is_set()
        entry = None
        try:
            async with asyncio.timeout(None) as scope:
                entry = (self._now_ns + round(seconds * 1e9), scope)
                self._sleepers.append(entry)
                await event.wait()
        except TimeoutError:
            pass
        finally:
            if entry in self._sleepers:
                self._sleepers.remove(entry)
        return event.is_set()

    @property
    def sleepers(self) -> int:
        """How many tasks wait on this clock."""
        return len(self._sleepers)

    def advance(self, seconds: float) -> None:
        """Let time pass; those whose time has come wake up in the next loop cycles."""
        self._now_ns += round(seconds * 1e9)
        for entry in [e for e in self._sleepers if e[0] <= self._now_ns]:
            self._sleepers.remove(entry)
            entry[1].reschedule(asyncio.get_running_loop().time())
