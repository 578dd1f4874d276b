"""From data to positions and from numbers to words: ticks, ranges, formatting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ("Scale", "linear_ticks", "log_ticks", "number", "tick_labels")

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def linear_ticks(low: float, high: float, target: int = 5) -> list[float]:
    """Round values inside `low`..`high`, about `target` of them.

    Steps are 1, 2, 2.5 or 5 times a power of ten (after Heckbert, "Nice numbers
    for graph labels", Graphics Gems, 1990).

    >>> linear_ticks(0.93, 2.1)
    [1.0, 1.25, 1.5, 1.75, 2.0]
    >>> linear_ticks(0, 5_200_000)
    [0.0, 1000000.0, 2000000.0, 3000000.0, 4000000.0, 5000000.0]
    """
    if not high > low:
        return [float(low)]
    rough = (high - low) / max(target, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((1.0, 2.0, 2.5, 5.0, 10.0), key=lambda m: abs(math.log(m * power / rough))) * power
    slack = step * 1e-9
    first = math.ceil((low - slack) / step)
    last = math.floor((high + slack) / step)
    return [_tidy(i * step, step) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside `low`..`high`, with 2 and 5 between when there are few.

    >>> log_ticks(0.5, 20)
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
    >>> log_ticks(1e-3, 1e3)
    [0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high) - math.log10(low) < 2.5 else (1,)
    ticks = [float(f"{m}e{e}") for e in decades for m in factors]
    if len(decades) > 10:
        ticks = ticks[:: math.ceil(len(decades) / 8)]
    return [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]


def _tidy(value: float, step: float) -> float:
    return round(value, max(0, 2 - math.floor(math.log10(step)))) + 0.0


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """One common prefix and number of decimals for all ticks of an axis.

    >>> tick_labels([0.0, 2_500_000.0, 5_000_000.0])
    ['0', '2.5M', '5.0M']
    >>> tick_labels([1.0, 1.25, 1.5])
    ['1.00', '1.25', '1.50']
    """
    if not ticks:
        return []
    top = max(abs(t) for t in ticks)
    unit, prefix = next(((u, p) for u, p in _PREFIXES if top >= max(u, 1e4)), (1.0, ""))
    scaled = [t / unit for t in ticks]
    decimals = 0
    while decimals < 9 and any(
        abs(round(s, decimals) - s) > 1e-9 * max(abs(s), 1e-9) for s in scaled
    ):
        decimals += 1
    return ["0" if s == 0 else f"{s:.{decimals}f}{prefix}" for s in scaled]


def number(value: float | None, digits: int = 4) -> str:
    """A number for a reader: `digits` significant ones, prefixes from 10,000 on.

    >>> [number(v) for v in (1.23456, 0.0, 123456, 5, None, float("nan"), -0.00012346)]
    ['1.235', '0', '123.5k', '5', '-', '-', '-0.0001235']
    """
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    value = float(f"{value:.{digits}g}")
    unit, prefix = next(((u, p) for u, p in _PREFIXES if abs(value) >= max(u, 1e4)), (1.0, ""))
    scaled = float(f"{value / unit:.{digits}g}")
    text = f"{scaled:.10f}".rstrip("0").rstrip(".") if abs(scaled) >= 1e-6 else f"{scaled:g}"
    return f"{text}{prefix}"


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps data `low`..`high` onto pixels `start`..`end` (start > end for y)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of `value`, held inside the axis."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            part = (math.log(max(value, self.low)) - low) / (high - low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + min(max(part, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, target: int = 5) -> list[float]:
        """Tick positions in data units."""
        if self.log:
            return log_ticks(self.low, self.high)
        return linear_ticks(self.low, self.high, target)
