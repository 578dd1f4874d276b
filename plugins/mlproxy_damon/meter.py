"""What monitoring and the plugin itself take of a processor, and shorter or longer samples."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Final

from mlproxy_damon.kdamond import Monitoring
from mlproxy_damon.options import DamonOptions

__all__ = ("CpuMeter", "adjusted")

STRETCH: Final = 10.0
"""Seconds that are judged."""
LAX: Final = 0.4
"""Below this share of the limit there is room for shorter samples."""


class CpuMeter:
    """Processor time of kdamond and of this thread, as shares of one processor.

    Args:
        own: seconds of processor time of the calling thread; for tests.
    """

    def __init__(self, own: Callable[[], float] = time.thread_time) -> None:
        self.kdamond = self.plugin = 0.0
        """Shares over the last stretch."""
        self._own = own
        self._since: tuple[float, float, float] | None = None

    def begin(self, now: float, kdamond: float | None) -> None:
        """Begin a stretch.

        Args:
            now: seconds.
            kdamond: seconds of processor time of its thread; None: it does not run.
        """
        self._since = (now, kdamond, self._own()) if kdamond is not None else None

    def update(self, now: float, kdamond: float | None) -> bool:
        """Whether a stretch is over, and the shares are new."""
        if self._since is None or kdamond is None or kdamond < self._since[1]:
            self.begin(now, kdamond)
            return False
        elapsed = now - self._since[0]
        if elapsed < STRETCH:
            return False
        self.kdamond = (kdamond - self._since[1]) / elapsed
        self.plugin = (self._own() - self._since[2]) / elapsed
        self.begin(now, kdamond)
        return True


def adjusted(monitoring: Monitoring, share: float, options: DamonOptions) -> Monitoring:
    """Longer samples, then fewer regions, while monitoring takes too much; never beyond bounds.

    Args:
        monitoring: as it is.
        share: of one processor that kdamond has taken, with nothing reclaimed.
        options: the bounds.
    """
    limit = options.cpu_percent / 100
    shortest, longest = (ms * 1000 for ms in options.sample_ms)
    fewest, most = 2 * options.regions[0], options.regions[1]
    sample, (least, regions) = monitoring.sample_us, monitoring.regions
    if share > limit:
        if sample < longest:
            sample = min(longest, sample * 3 // 2)
        else:
            regions = max(fewest, regions * 2 // 3)
    elif share < LAX * limit:
        if regions < most:
            regions = min(most, regions * 5 // 4)
        else:
            sample = max(shortest, sample * 4 // 5)
    return dataclasses.replace(monitoring, sample_us=sample, regions=(least, regions))
