"""The sheet a plot is drawn on: escaping, coordinates, title, axes, legend."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlproxy.report.palette import LIGHT, Palette, plot_css
from mlproxy.report.scale import Scale, number, tick_labels

__all__ = ("Canvas", "box_class", "escape", "legend_places", "shorten", "text_width")

_CHAR = 6.5  # mean advance of a 12 px sans-serif character, on the safe side


def escape(text: str) -> str:
    """Text for XML content and attributes; what XML cannot carry is dropped.

    >>> escape('a<b & "c"' + chr(0))
    'a&lt;b &amp; &quot;c&quot;'
    """
    return html.escape("".join(c for c in text if c in "\n\t" or ord(c) >= 32), quote=True)


def text_width(text: str, size: float = 12) -> float:
    """About how many pixels `text` takes."""
    return len(text) * _CHAR * size / 12


def shorten(text: str, width: float, size: float = 12) -> str:
    """`text`, cut to about `width` pixels.

    >>> shorten("write amplification", 60)
    'write am…'
    """
    room = int(width / (_CHAR * size / 12))
    return text if len(text) <= room else text[: max(room - 1, 0)].rstrip() + "…"


@dataclass(slots=True)
class Canvas:
    """Collects elements and closes them into one `<svg>`.

    `standalone` makes a file of its own: background, colours and a visible
    title. Otherwise the picture takes its colours from the page around it.
    """

    width: float
    height: float
    title: str
    desc: str = ""
    standalone: bool = True
    palette: Palette = LIGHT
    parts: list[str] = field(default_factory=list)

    def add(self, element: str, *, tip: str = "", **attributes: str | float) -> None:
        """One empty element, or one with a tooltip."""
        body = "".join(f' {_name(key)}="{_value(v)}"' for key, v in attributes.items())
        close = f"><title>{escape(tip)}</title></{element}>" if tip else "/>"
        self.parts.append(f"<{element}{body}{close}")

    def text(
        self,
        x: float,
        y: float,
        content: str,
        *,
        anchor: str = "start",
        cls: str = "",
        turn: float = 0,
        tip: str = "",
    ) -> None:
        """A line of text with its baseline at `y`."""
        kind = f' class="{cls}"' if cls else ""
        stand = f' text-anchor="{anchor}"' if anchor != "start" else ""
        rotate = f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
        tooltip = f"<title>{escape(tip)}</title>" if tip else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}"{kind}{stand}{rotate}>{tooltip}{escape(content)}</text>'
        )

    def x_axis(self, scale: Scale, top: float, bottom: float, label: str) -> None:
        """Vertical grid lines, tick labels below `bottom`, the axis name."""
        ticks = scale.ticks(max(2, int(abs(scale.end - scale.start) / 95)))
        for tick, text in zip(ticks, tick_labels(ticks), strict=True):
            x = scale(tick)
            self.add("path", cls="grid", d=f"M{x:.1f} {top:.1f}V{bottom:.1f}")
            self.text(x, bottom + 15, text, anchor="middle", cls="faint")
        self.add("path", cls="axis", d=f"M{scale.start:.1f} {bottom:.1f}H{scale.end:.1f}")
        if label:
            middle = (scale.start + scale.end) / 2
            self.text(middle, bottom + 32, label, anchor="middle", cls="faint")

    def y_axis(self, scale: Scale, left: float, right: float, label: str) -> None:
        """Horizontal grid lines, tick labels beside `left`, the axis name turned."""
        ticks = scale.ticks(max(2, int(abs(scale.end - scale.start) / 42)))
        labels = [number(t) for t in ticks] if scale.log else tick_labels(ticks)
        for tick, text in zip(ticks, labels, strict=True):
            y = scale(tick)
            self.add("path", cls="grid", d=f"M{left:.1f} {y:.1f}H{right:.1f}")
            self.text(left - 6, y + 4, text, anchor="end", cls="faint")
        if label:
            middle = (scale.start + scale.end) / 2
            self.text(left - 54, middle, label, anchor="middle", cls="faint", turn=-90)

    def legend(self, names: Sequence[str], left: float, right: float, y: float, kind: str) -> None:
        """Samples with names in rows; `kind` is "line" or "box"."""
        for i, (x, row) in enumerate(legend_places(names, right - left)):
            at, base = left + x, y + row * 18
            name = shorten(names[i], right - left - 40)
            if kind == "line":
                self.add("path", cls=f"ln s{i % 8}", d=f"M{at:.1f} {base - 4:.1f}h30")
            else:
                self.add(
                    "rect", cls=box_class(i), x=at, y=base - 9, width=14.0, height=10.0, rx=2.0
                )
            self.text(at + (36 if kind == "line" else 20), base, name)

    def close(self) -> str:
        """The finished picture."""
        body = "\n".join(self.parts)
        ident = hashlib.sha256(f"{self.title}\0{self.desc}\0{body}".encode()).hexdigest()[:10]
        label = f"t{ident} d{ident}" if self.desc else f"t{ident}"
        desc = f'<desc id="d{ident}">{escape(self.desc)}</desc>' if self.desc else ""
        head = (
            f'<svg class="mp" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-labelledby="{label}"'
        )
        names = f'<title id="t{ident}">{escape(self.title)}</title>{desc}'
        if not self.standalone:
            return f"{head}>{names}\n{body}\n</svg>"
        return (
            f'{head} xmlns="http://www.w3.org/2000/svg" width="{self.width:g}" '
            f'height="{self.height:g}">{names}\n<style>{plot_css(self.palette)}</style>\n'
            f'<rect class="paper" width="{self.width:g}" height="{self.height:g}"/>\n'
            f"{body}\n</svg>\n"
        )


def box_class(i: int) -> str:
    """Series `i` as a filled box; every other one is pale with an outline."""
    return f"f{i % 8} pale e{i % 8}" if i % 2 else f"f{i % 8}"


def legend_places(names: Sequence[str], width: float) -> list[tuple[float, int]]:
    """(x, row) of each legend entry, wrapped at `width`."""
    places: list[tuple[float, int]] = []
    x, row = 0.0, 0
    for name in names:
        need = min(36 + text_width(name) + 18, width)
        if places and x + need > width + 18:
            x, row = 0.0, row + 1
        places.append((x, row))
        x += need
    return places


def _name(key: str) -> str:
    return {"cls": "class"}.get(key, key.replace("_", "-"))


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else f"{round(value, 1):g}"
