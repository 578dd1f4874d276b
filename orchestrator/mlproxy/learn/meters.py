"""Small running statistics."""

from __future__ import annotations

import math

__all__ = ("FadingMean", "FadingRatio")


class FadingMean:
    """Weighted mean whose past fades by a factor per update.

    >>> mean = FadingMean(0.5)
    >>> mean.add(4.0); mean.add(1.0)
    >>> mean.value
    2.0
    """

    __slots__ = ("count", "fading", "mass", "total")

    def __init__(self, fading: float) -> None:
        self.fading = fading
        self.mass = 0.0
        self.total = 0.0
        self.count = 0

    def add(self, value: float, weight: float = 1.0) -> None:
        """Add one value."""
        self.mass = self.mass * self.fading + weight
        self.total = self.total * self.fading + weight * value
        self.count += 1

    @property
    def value(self) -> float | None:
        """The mean; None before the first value."""
        return self.total / self.mass if self.mass > 0 else None


class FadingRatio:
    """Faded cost over the faded cost of the default in the same windows.

    Sums are compared, not single ratios, so that a window with little work
    says little. Without a default the plain faded mean is the value.

    >>> ratio = FadingRatio(0.5)
    >>> ratio.add(3.0, 4.0); ratio.add(3.0, 4.0)
    >>> ratio.value
    0.75
    """

    __slots__ = ("_base", "_cost", "compared", "count")

    def __init__(self, fading: float) -> None:
        self._cost = FadingMean(fading)
        self._base = FadingMean(fading)
        self.count = 0
        self.compared = False

    def add(self, cost: float, baseline: float = math.nan, weight: float = 1.0) -> None:
        """Add one window; `baseline` NaN: the default was not measured in it.

        Once windows with a default come, those without are not mixed in.
        """
        known = not math.isnan(baseline)
        if known and not self.compared:
            self.compared = True
            self.count = 0
            self._cost = FadingMean(self._cost.fading)
        elif self.compared and not known:
            return
        self.count += 1
        self._cost.add(cost, weight)
        if known:
            self._base.add(baseline, weight)

    @property
    def plain(self) -> float | None:
        """The faded mean cost itself."""
        return self._cost.value

    @property
    def value(self) -> float | None:
        """1 + relative excess over the default (or the plain mean without one)."""
        cost, base = self._cost.value, self._base.value
        if cost is None or base is None:
            return cost
        if base == 0:
            return 1.0 if cost == 0 else 1.0 + math.copysign(1.0, cost)
        return 1.0 + (cost - base) / abs(base)
