"""How long to wait before the next connection."""

from __future__ import annotations

import random

__all__ = ("Backoff",)


class Backoff:
    """Doubles from `least` to `most` seconds; the upper half is jitter.

    Jitter keeps many nodes from coming back in step when a broker restarts. The
    count starts over only after a connection that held for `most` seconds, so a
    broker that accepts and closes at once is not hammered.
    """

    def __init__(self, least: float, most: float, rng: random.Random) -> None:
        self._least = least
        self._most = most
        self._rng = rng
        self._failures = 0

    def next(self, *, held: float) -> float:
        """Return the delay in seconds after a connection that held `held` seconds."""
        if held >= self._most:
            self._failures = 0
        base = min(self._most, self._least * 2.0 ** min(self._failures, 64))
        self._failures += 1
        return base * self._rng.uniform(0.5, 1.0)
