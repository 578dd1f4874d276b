"""Horizontal grouped bars, for ratios with a reference line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlproxy.report.canvas import Canvas, box_class, legend_places, shorten, text_width
from mlproxy.report.palette import LIGHT, Palette
from mlproxy.report.scale import Scale, number

__all__ = ("Bars", "bar_plot")


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar per group: `values` (None where there is none), optional spread."""

    name: str
    values: Sequence[float | None]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None


def bar_plot(
    groups: Sequence[str],
    bars: Sequence[Bars],
    *,
    title: str,
    desc: str = "",
    x_label: str = "",
    reference: float | None = None,
    reference_label: str = "",
    start: float | None = None,
    width: float = 760,
    bar: float = 13,
    standalone: bool = True,
    palette: Palette = LIGHT,
) -> str:
    """Draw one group of bars per entry of `groups`, each with its number.

    Args:
        groups: names down the left side, for example workloads.
        bars: what each group has, in the order of the legend.
        title: what is shown.
        desc: longer description; made up from the values when empty.
        x_label: name and unit of the values.
        reference: where a vertical line stands, for example 1.0; bars then
            begin there, so that better and worse point to different sides.
        reference_label: what the line means.
        start: where bars begin, when not at `reference` or 0.
        width: pixels; the height follows from the number of bars.
        bar: height of one bar in pixels.
        standalone: a file of its own, or a part of a page.
        palette: colours when standalone.

    Returns:
        One `<svg>` element.
    """
    for one in bars:
        if len(one.values) != len(groups):
            raise ValueError(f"bars {one.name!r}: {len(one.values)} values, {len(groups)} groups")
    names = [one.name for one in bars]
    left = min(max((text_width(g) for g in groups), default=0) + 18, width * 0.4)
    right = width - 20
    top = (30.0 if standalone else 8.0) + (18 if reference_label else 0)
    show_legend = len(names) > 1
    if show_legend:
        top += 18 * (legend_places(names, width - 40)[-1][1] + 1) + 4
    pitch = len(bars) * bar + 9
    bottom = top + len(groups) * pitch
    height = bottom + (42 if x_label else 26)
    canvas = Canvas(
        width,
        height,
        title,
        desc or _describe(groups, bars),
        standalone=standalone,
        palette=palette,
    )
    if standalone:
        canvas.text(20, 20, title, cls="title")
    if show_legend:
        canvas.legend(names, 20, width - 20, (42 if standalone else 20), "box")
    zero = start if start is not None else reference if reference is not None else 0.0
    x = Scale(*_limits(bars, zero), left, right)
    canvas.x_axis(x, top, bottom, x_label)
    for g, group in enumerate(groups):
        y = top + g * pitch + 4
        middle = y + len(bars) * bar / 2 + 4
        canvas.text(left - 8, middle, shorten(group, left - 12), anchor="end", tip=group)
        for i, one in enumerate(bars):
            _bar(canvas, x, one, i, y=y + i * bar, height=bar, g=g, group=group, zero=zero)
    if reference is not None:
        px = x(reference)
        canvas.add("path", cls="ref", d=f"M{px:.1f} {top - 3:.1f}V{bottom:.1f}")
        if reference_label:
            half = text_width(reference_label, 10.5) / 2
            at = min(max(px, left + half), right - half)
            canvas.text(at, top - 7, reference_label, anchor="middle", cls="small")
    return canvas.close()


def _bar(
    canvas: Canvas,
    x: Scale,
    one: Bars,
    i: int,
    *,
    y: float,
    height: float,
    g: int,
    group: str,
    zero: float,
) -> None:
    value = one.values[g]
    if value is None or not math.isfinite(value):
        canvas.text(x(zero) + 4, y + height - 3, "none", cls="small faint")
        return
    a, b = sorted((x(zero), x(value)))
    tip = f"{group}, {one.name}: {number(value)}"
    size = {"width": max(b - a, 1), "height": height - 2}
    canvas.add("rect", tip=tip, cls=box_class(i), x=a, y=y, rx=1.0, **size)
    low, high = (edge[g] if edge else None for edge in (one.low, one.high))
    ends = [a, b]
    if low is not None and high is not None:
        lo, hi, middle = x(low), x(high), y + height / 2 - 1
        caps = f"m0 -3v6M{lo:.1f} {middle - 3:.1f}v6"
        canvas.add("path", cls="spread", d=f"M{lo:.1f} {middle:.1f}H{hi:.1f}{caps}")
        ends += [lo, hi]
    text = f"{value:.3f}" if abs(value) < 10 else number(value)
    if value >= zero:
        canvas.text(max(ends) + 4, y + height - 3, text, cls="small")
    else:
        canvas.text(min(ends) - 4, y + height - 3, text, cls="small", anchor="end")


def _limits(bars: Sequence[Bars], zero: float) -> tuple[float, float]:
    values = [zero]
    for one in bars:
        for group in (one.values, one.low or (), one.high or ()):
            values += [v for v in group if v is not None and math.isfinite(v)]
    low, high = min(values), max(values)
    span = high - low or abs(high) or 1.0
    room = 0.09 * span  # for the number at the end of the longest bar
    return (low - room if low < zero else low, high + room)


def _describe(groups: Sequence[str], bars: Sequence[Bars]) -> str:
    return "; ".join(
        f"{group}: " + ", ".join(f"{one.name} {number(one.values[g])}" for one in bars)
        for g, group in enumerate(groups)
    )
