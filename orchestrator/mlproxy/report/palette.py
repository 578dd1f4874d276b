"""Colours and line patterns; every meaning is carried by a second sign as well."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("DARK", "DASHES", "LIGHT", "Palette", "page_css", "plot_css")

DASHES = ("", "8 4", "2 3", "10 3 2 3", "14 4", "5 2", "1 4", "6 2 2 2 2 2")
"""Dash pattern of each series in turn, so that a plot reads without colour."""


_FONT = "system-ui,'DejaVu Sans',Helvetica,Arial,sans-serif"


@dataclass(frozen=True, slots=True)
class Palette:
    """One colour scheme; contrast of text and lines is at least 4.5:1 on `paper`."""

    paper: str
    ink: str
    faint: str
    grid: str
    series: tuple[str, ...]
    modes: tuple[str, str, str, str]
    on_mode: str


LIGHT = Palette(
    paper="#ffffff",
    ink="#1c2126",
    faint="#5a636b",
    grid="#dfe3e7",
    series=(
        "#1f5fa8",
        "#b8480b",
        "#2b7340",
        "#7a489f",
        "#7b6210",
        "#0a727b",
        "#a82f72",
        "#5d6268",
    ),
    modes=("#b62d28", "#8a6700", "#2567a8", "#2b7340"),
    on_mode="#ffffff",
)

DARK = Palette(
    paper="#14181c",
    ink="#e5e9ec",
    faint="#9ea8b0",
    grid="#323a41",
    series=(
        "#7db4f5",
        "#f0a35e",
        "#7fd08f",
        "#c6a1ea",
        "#d8c46a",
        "#62cdd6",
        "#f08cc0",
        "#b4bac0",
    ),
    modes=("#f0827c", "#d9b84a", "#74b0f0", "#7fd08f"),
    on_mode="#14181c",
)


def plot_css(palette: Palette) -> str:
    """The rules that all plots use; plain ones, for viewers without variables."""
    rules = [
        f".mp text{{fill:{palette.ink};font:12px {_FONT}}}",
        f".mp .paper{{fill:{palette.paper}}}",
        f".mp text.faint{{fill:{palette.faint}}}",
        ".mp text.title{font-size:15px;font-weight:600}",
        ".mp text.small{font-size:10.5px}",
        f".mp .grid{{stroke:{palette.grid};stroke-width:1;fill:none}}",
        f".mp .axis{{stroke:{palette.faint};stroke-width:1;fill:none}}",
        f".mp .ref{{stroke:{palette.ink};stroke-width:1.3;stroke-dasharray:5 3;fill:none}}",
        f".mp .mark{{stroke:{palette.faint};stroke-width:1;stroke-dasharray:2 3;fill:none}}",
        ".mp .ln{fill:none;stroke-width:1.8;stroke-linejoin:round}",
        ".mp .band{stroke:none;fill-opacity:.16}",
        ".mp .pale{fill-opacity:.3}",
        f".mp .spread{{stroke:{palette.ink};stroke-width:1.1;fill:none}}",
        f".mp text.on{{fill:{palette.on_mode};font-size:11px;font-weight:600}}",
    ]
    for i, (colour, dash) in enumerate(zip(palette.series, DASHES, strict=True)):
        pattern = f";stroke-dasharray:{dash}" if dash else ""
        rules.append(f".mp .ln.s{i}{{stroke:{colour}{pattern}}}")
        rules.append(f".mp .f{i}{{fill:{colour}}}")
        rules.append(f".mp .e{i}{{stroke:{colour};stroke-width:1.3}}")
    rules.extend(f".mp .m{i}{{fill:{colour}}}" for i, colour in enumerate(palette.modes))
    return "\n".join(rules)


def page_css() -> str:
    """Plot rules for a page: light, and dark where the reader prefers it."""
    return (
        f"{plot_css(LIGHT)}\n@media (prefers-color-scheme:dark){{\n{plot_css(DARK)}\n}}\n"
        f"@media print{{\n{plot_css(LIGHT)}\n}}"
    )
