"""The mode of a proxy over time, as a ladder of four rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mlproxy.report.canvas import Canvas, text_width
from mlproxy.report.lines import LEFT, RIGHT
from mlproxy.report.model import MODES, ModeSpan
from mlproxy.report.palette import LIGHT, Palette
from mlproxy.report.scale import Scale, number

__all__ = ("mode_timeline",)

_ROW = 22.0


def mode_timeline(
    spans: Sequence[ModeSpan],
    *,
    title: str,
    desc: str = "",
    x_label: str = "",
    x_range: tuple[float, float] | None = None,
    width: float = 760,
    standalone: bool = True,
    palette: Palette = LIGHT,
) -> str:
    """Draw `spans`: the row says the mode, the colour repeats it.

    A label in or above a span is the reason for entering it; each span has a
    tooltip with mode, reason, begin, end and share of the time.

    Raises:
        ValueError: on a mode that is not one of `MODES`.
    """
    for span in spans:
        if span.mode not in MODES:
            raise ValueError(f"unknown mode {span.mode!r}; one of {', '.join(MODES)}")
    top = 34.0 if standalone else 8.0
    bottom = top + len(MODES) * _ROW
    canvas = Canvas(
        width,
        bottom + (42 if x_label else 26),
        title,
        desc or _describe(spans),
        standalone=standalone,
        palette=palette,
    )
    left, right = LEFT, width - RIGHT
    if standalone:
        canvas.text(left, 20, title, cls="title")
    if not spans:
        canvas.text(width / 2, (top + bottom) / 2, "no data", anchor="middle", cls="faint")
        return canvas.close()
    low, high = x_range or (spans[0].start, spans[-1].end)
    x = Scale(low, high if high > low else low + 1, left, right)
    canvas.x_axis(x, top, bottom, x_label)
    for rung, mode in enumerate(MODES):
        y = bottom - (rung + 1) * _ROW
        canvas.add("path", cls="grid", d=f"M{left:.1f} {y:.1f}H{right:.1f}")
        canvas.text(left - 8, y + _ROW / 2 + 4, mode, anchor="end", cls="faint")
    _steps(canvas, spans, x, bottom)
    for i, span in enumerate(spans):
        later = (x(s.start) for s in spans[i + 1 :] if s.mode == span.mode)
        _span(canvas, span, x, bottom=bottom, total=high - low, until=next(later, right))
    return canvas.close()


def _row(mode: str, bottom: float) -> float:
    return bottom - (MODES.index(mode) + 1) * _ROW


def _steps(canvas: Canvas, spans: Sequence[ModeSpan], x: Scale, bottom: float) -> None:
    """Thin connections between the rows, so that the eye follows the ladder."""
    for before, after in pairwise(spans):
        a = _row(before.mode, bottom) + _ROW / 2
        b = _row(after.mode, bottom) + _ROW / 2
        canvas.add("path", cls="axis", d=f"M{x(after.start):.1f} {a:.1f}V{b:.1f}")


def _span(
    canvas: Canvas, span: ModeSpan, x: Scale, *, bottom: float, total: float, until: float
) -> None:
    a, b = x(span.start), x(span.end)
    y = _row(span.mode, bottom)
    share = (span.end - span.start) / total if total > 0 else 1.0
    tip = (
        f"{span.mode}{': ' + span.reason if span.reason else ''}\n"
        f"from {number(span.start)} to {number(span.end)} ({share:.0%} of the time)"
    )
    canvas.add(
        "rect",
        tip=tip,
        cls=f"m{MODES.index(span.mode)}",
        x=a,
        y=y + 3,
        width=max(b - a, 1.5),
        height=_ROW - 6,
        rx=1.5,
    )
    room = text_width(span.reason, 11) + 9
    if span.reason and room < b - a:
        canvas.text(a + 5, y + _ROW / 2 + 4, span.reason, cls="on", tip=tip)
    elif span.reason and room < until - b:
        canvas.text(b + 5, y + _ROW / 2 + 4, span.reason, cls="small", tip=tip)


def _describe(spans: Sequence[ModeSpan]) -> str:
    return "; ".join(
        f"{s.mode} from {number(s.start)} to {number(s.end)}"
        + (f" because of {s.reason}" if s.reason else "")
        for s in spans
    )
