"""Watches pressure sources and tells when one becomes critical, or is no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from mlproxy.clock import Clock
from mlproxy.errors import PsiError
from mlproxy.psi import PsiMeter, PsiSource

__all__ = ("PressureWatch", "Tell")

Tell = Callable[[str, bool, str, str], Awaitable[None]]
"""source, whether it is critical, in words, code."""

LOOKS = 4
"""So many looks in a window."""
RETRY_SECONDS = 5.0


class PressureWatch:
    """Reads the sources in turn, several times in each one's window.

    A source that cannot be read counts as critical: a guard that sees nothing
    must not let a model act.

    Args:
        tell: hears of every change, and of a source that cannot be read.
        clock: time.
        root: where /proc and the control groups are found; for tests.

    Attributes:
        critical: the sources that are critical now, with the words and the code told.
    """

    def __init__(self, tell: Tell, clock: Clock, *, root: str = "/") -> None:
        self.critical: dict[str, tuple[str, str]] = {}
        self._tell = tell
        self._clock = clock
        self._root = root
        self._sources: dict[str, PsiSource] = {}
        self._meters: dict[str, PsiMeter] = {}
        self._due: dict[str, float] = {}
        self._changed = asyncio.Event()

    def set_sources(self, sources: Mapping[str, PsiSource]) -> None:
        """Watch these from now on; what is known of those that stay as they are stays."""
        for name in [n for n, s in self._sources.items() if sources.get(n) != s]:
            del self._sources[name], self._meters[name], self._due[name]
            self.critical.pop(name, None)
        for name, source in sources.items():
            if name not in self._sources:
                self._sources[name] = source
                self._meters[name] = PsiMeter(source, root=self._root)
                self._due[name] = float("-inf")
        self._changed.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self._changed.clear()
            now = self._clock.monotonic()
            for name in [n for n, due in self._due.items() if now >= due]:
                await self._look(name, now)
            pause = min(self._due.values(), default=now + 3600) - self._clock.monotonic()
            await self._clock.wait(self._changed, max(pause, 0.001))

    async def _look(self, name: str, now: float) -> None:
        meter = self._meters.get(name)
        if meter is None:  # taken away while another one was told of
            return
        self._due[name] = now + self._sources[name].window_seconds / LOOKS
        try:
            meter.update(now)
        except PsiError as error:
            self._due[name] = now + RETRY_SECONDS
            words = f"{error.args[0]} ({error.hint})"
            await self._change(name, True, words, error.code)
        else:
            await self._change(name, meter.critical, meter.describe(), "psi.pressure")

    async def _change(self, name: str, on: bool, words: str, code: str) -> None:
        told = self.critical.get(name)
        # Why it is critical may change while it is.
        if (told is not None) == on and (told is None or told[1] == code):
            return
        if on:
            self.critical[name] = (words, code)
        else:
            del self.critical[name]
        await self._tell(name, on, words, code)
