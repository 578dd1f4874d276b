"""Line and step plots with confidence bands and marked events."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlproxy.report.canvas import Canvas, legend_places, text_width
from mlproxy.report.model import Mark, Series
from mlproxy.report.palette import LIGHT, Palette
from mlproxy.report.scale import Scale, number

__all__ = ("LEFT", "RIGHT", "line_plot", "thin")

LEFT, RIGHT = 92.0, 16.0  # margins, shared with the timeline so that x lines up
_ABSURD = 1e150  # values beyond are treated like infinities: no axis can show them
_Array = npt.NDArray[np.float64]


def line_plot(
    series: Sequence[Series],
    *,
    title: str,
    desc: str = "",
    x_label: str = "",
    y_label: str = "",
    step: bool = False,
    log: bool = False,
    robust: bool = False,
    marks: Sequence[Mark] = (),
    reference: float | None = None,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    size: tuple[float, float] = (760, 320),
    standalone: bool = True,
    palette: Palette = LIGHT,
) -> str:
    """Draw `series` over a common x axis.

    Args:
        series: the lines, in the order of the legend.
        title: what is shown (read aloud; visible when standalone).
        desc: longer description for readers who cannot see it; made up from
            the last values when empty.
        x_label: name and unit of x.
        y_label: name and unit of y.
        step: hold each value up to the next x instead of connecting points.
        log: logarithmic y; values that are not positive are left out.
        robust: leave the top percent of values to triangles on the upper edge,
            when they are out of all proportion.
        marks: events, as vertical lines with labels where there is room.
        reference: a horizontal line to compare with.
        x_range: fixed limits instead of those of the data.
        y_range: fixed limits instead of those of the data.
        size: width and height in pixels.
        standalone: a file of its own, or a part of a page.
        palette: colours when standalone.

    Returns:
        One `<svg>` element.
    """
    width, height = size
    lines = [_clean(s, log=log) for s in series]
    canvas = Canvas(width, height, title, desc or _describe(series), standalone, palette)
    left, right = LEFT, width - RIGHT
    top = 30.0 if standalone else 8.0
    if standalone:
        canvas.text(left, 20, title, cls="title")
    names = [s.name for s in series]
    if names:
        canvas.legend(names, left, right, top + 12, "line")
        top += 18 * (legend_places(names, right - left)[-1][1] + 1)
    top += 6 if not marks else 32
    bottom = height - (42 if x_label else 26)
    finite = [line for line in lines if np.isfinite(line[1]).any()]
    if not finite:
        canvas.text(width / 2, (top + bottom) / 2, "no data", anchor="middle", cls="faint")
        return canvas.close()
    x = Scale(*(x_range or _x_limits(finite)), left, right)
    limits = y_range or _y_limits(finite, reference, log=log, robust=robust)
    y = Scale(*limits, bottom, top, log)
    canvas.y_axis(y, left, right, y_label)
    canvas.x_axis(x, top, bottom, x_label)
    if reference is not None:
        canvas.add("path", cls="ref", d=f"M{left:.1f} {y(reference):.1f}H{right:.1f}")
    for i, line in enumerate(lines):
        _band(canvas, i, line, x, y, step=step)
    for i, line in enumerate(lines):
        _line(canvas, i, line, x, y, step=step)
    _marks(canvas, marks, x, top, bottom)
    return canvas.close()


def thin(x: _Array, y: _Array, buckets: int) -> npt.NDArray[np.intp]:
    """Indices that keep each bucket's first, lowest and highest value, and the end.

    The picture of a long series stays the same, spikes included, in at most
    3 * `buckets` + 1 points.
    """
    if len(x) <= 3 * buckets:
        return np.arange(len(x))
    keep = {len(x) - 1}
    for chunk in np.array_split(np.arange(len(x)), buckets):
        keep.add(int(chunk[0]))
        values = y[chunk]
        if np.isfinite(values).any():
            keep.add(int(chunk[np.nanargmin(values)]))
            keep.add(int(chunk[np.nanargmax(values)]))
    return np.array(sorted(keep))


_Line = tuple[_Array, _Array, _Array | None, _Array | None]


def _clean(series: Series, *, log: bool) -> _Line:
    x = np.asarray(series.x, dtype=float)
    y = np.asarray(series.y, dtype=float)
    y = np.where(np.abs(y) < _ABSURD, y, np.nan)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"series {series.name!r}: x and y must be flat and of one length")
    if log:
        y = np.where(y > 1 / _ABSURD, y, np.nan)
    index = thin(x, y, 260)
    low, high = (
        None if edge is None else np.asarray(edge, dtype=float)[index]
        for edge in (series.low, series.high)
    )
    return x[index], y[index], low, high


def _x_limits(lines: Sequence[_Line]) -> tuple[float, float]:
    low = min(float(x[0]) for x, *_ in lines)
    high = max(float(x[-1]) for x, *_ in lines)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _y_limits(
    lines: Sequence[_Line], reference: float | None, *, log: bool, robust: bool
) -> tuple[float, float]:
    values = np.concatenate([y[np.isfinite(y)] for _, y, _, _ in lines])
    low, high = float(values.min()), float(values.max())
    if robust:
        usual = float(np.quantile(values, 0.99))
        middle = float(np.median(values))
        if high - middle > 4 * (usual - middle) > 0:
            high = usual + 0.25 * (usual - low)
    # a band may reach far outside while there is little evidence: show at most
    # as much of it as the lines themselves take
    reach = high - low
    for _, _, lower, upper in lines:
        for edge in (lower, upper):
            if edge is not None and np.isfinite(edge).any():
                inside = edge[np.isfinite(edge)].clip(low - reach / 2, high + reach / 2)
                low, high = min(low, float(inside.min())), max(high, float(inside.max()))
    if reference is not None:
        low, high = min(low, reference), max(high, reference)
    if log:
        return (low / 1.15, high * 1.15)
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return (0.0 if 0 <= low <= pad else low - pad, high + pad)


def _pieces(values: _Array) -> list[slice]:
    """Runs of finite values."""
    good = np.concatenate(([False], np.isfinite(values), [False]))
    edges = np.flatnonzero(good[1:] != good[:-1])
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _points(x: _Array, y: _Array, sx: Scale, sy: Scale, step: bool) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for at, value in zip(x, y, strict=True):
        place = (sx(float(at)), sy(float(value)))
        if step and points:
            points.append((place[0], points[-1][1]))
        points.append(place)
    return points


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)


def _band(canvas: Canvas, i: int, line: _Line, sx: Scale, sy: Scale, *, step: bool) -> None:
    x, _, low, high = line
    if low is None or high is None:
        return
    for piece in _pieces(low + high):
        upper = _points(x[piece], high[piece], sx, sy, step)
        lower = _points(x[piece], low[piece], sx, sy, step)
        canvas.add("path", cls=f"band f{i % 8}", d=_path([*upper, *reversed(lower)]) + "Z")


def _line(canvas: Canvas, i: int, line: _Line, sx: Scale, sy: Scale, *, step: bool) -> None:
    x, y, _, _ = line
    for piece in _pieces(y):
        points = _points(x[piece], y[piece], sx, sy, step)
        if len(points) == 1:
            canvas.add("circle", cls=f"f{i % 8}", cx=points[0][0], cy=points[0][1], r=3.0)
        else:
            canvas.add("path", cls=f"ln s{i % 8}", d=_path(points))
    over = np.flatnonzero(np.nan_to_num(y, nan=sy.low) > sy.high * (1 + 1e-12))
    for at in over[:40]:
        px = sx(float(x[at]))
        canvas.add(
            "path",
            tip=f"{number(float(y[at]))}, off the scale",
            cls=f"f{i % 8}",
            d=f"M{px - 4:.1f} {sy.end + 5:.1f}h8l-4 -8Z",
        )


def _marks(canvas: Canvas, marks: Sequence[Mark], x: Scale, top: float, bottom: float) -> None:
    free = [-math.inf, -math.inf]  # two rows of labels
    for mark in sorted(marks, key=lambda m: m.at):
        if not x.low <= mark.at <= x.high:
            continue
        px = x(mark.at)
        tip = f"{number(mark.at)}: {mark.label}" + (f"\n{mark.detail}" if mark.detail else "")
        canvas.add("path", cls="mark", d=f"M{px:.1f} {top - 4:.1f}V{bottom:.1f}", tip=tip)
        half = text_width(mark.label, 10.5) / 2
        centre = min(max(px, x.start + half), x.end - half)
        row = next((r for r, end in enumerate(free) if centre - half > end), None)
        if row is not None:
            y = top - 8 - 12 * row
            canvas.text(centre, y, mark.label, anchor="middle", cls="small", tip=tip)
            free[row] = centre + half + 3


def _describe(series: Sequence[Series]) -> str:
    parts = []
    for s in series:
        y = np.asarray(s.y, dtype=float)
        y = y[np.isfinite(y)]
        if len(y):
            parts.append(
                f"{s.name}: ends at {number(float(y[-1]))}, "
                f"between {number(float(y.min()))} and {number(float(y.max()))}"
            )
        else:
            parts.append(f"{s.name}: no data")
    return "; ".join(parts)
