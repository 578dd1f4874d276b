"""One table, four outputs: terminal (plain or rich), Markdown, HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlproxy.report.canvas import escape

if TYPE_CHECKING:
    from rich.table import Table as RichTable

__all__ = ("Align", "Cell", "Table")

Align = Literal["left", "right"]
Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Table:
    """Headers and rows; a cell is text, a number, or None for "not known".

    The floats of one column share their decimals, so that points stand under
    each other. Without `align`, columns of numbers stand right, all else left.

    >>> print(Table(("policy", "wa"), (("greedy", 2.5), ("sepbit", 1.875))).to_text())
    policy     wa
    ------  -----
    greedy  2.500
    sepbit  1.875
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    align: Sequence[Align] | None = None
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ValueError(f"row {row!r} has not {len(self.headers)} cells")
        if self.align is not None and len(self.align) != len(self.headers):
            raise ValueError(f"align {self.align!r} has not {len(self.headers)} entries")

    def alignment(self) -> tuple[Align, ...]:
        """How each column stands."""
        if self.align is not None:
            return tuple(self.align)
        return tuple(self._guess(column) for column in range(len(self.headers)))

    def _guess(self, column: int) -> Align:
        cells = [row[column] for row in self.rows if row[column] is not None]
        numbers = all(isinstance(cell, int | float) and cell is not bool(cell) for cell in cells)
        return "right" if cells and numbers else "left"

    def cells(self) -> list[list[str]]:
        """All rows as text, the floats of each column with the same decimals."""
        decimals = [self._decimals(column) for column in range(len(self.headers))]
        return [
            [_text(cell, decimals[column]) for column, cell in enumerate(row)] for row in self.rows
        ]

    def _decimals(self, column: int) -> int:
        values = [
            abs(cell)
            for row in self.rows
            if isinstance(cell := row[column], float) and math.isfinite(cell)
        ]
        top = max(values, default=0.0)
        return next((d for bound, d in ((10, 3), (100, 2), (1000, 1)) if top < bound), 0)

    def to_text(self) -> str:
        """Plain text for a terminal or a log; no trailing blanks, no colour."""
        body = self.cells()
        widths = [
            max(len(line[column]) for line in [list(self.headers), *body])
            for column in range(len(self.headers))
        ]
        align = self.alignment()
        lines = [self.caption] if self.caption else []
        lines.append(_line(list(self.headers), widths, align))
        lines.append("  ".join("-" * width for width in widths))
        lines.extend(_line(row, widths, align) for row in body)
        return "\n".join(lines)

    def to_rich(self) -> RichTable:
        """For a rich console; text is taken literally, not as markup."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=SIMPLE_HEAD, title=Text(self.caption) if self.caption else None)
        for header, align in zip(self.headers, self.alignment(), strict=True):
            table.add_column(Text(header), justify=align)
        for row in self.cells():
            table.add_row(*(Text(cell) for cell in row))
        return table

    def to_markdown(self) -> str:
        """A pipe table; pipes and line breaks in cells are escaped."""
        body = [[_md(cell) for cell in row] for row in self.cells()]
        head = [_md(header) for header in self.headers]
        align = self.alignment()
        widths = [
            max(3, *(len(line[column]) for line in [head, *body])) for column in range(len(head))
        ]
        rule = [
            "-" * (width - 1) + ":" if side == "right" else "-" * width
            for width, side in zip(widths, align, strict=True)
        ]
        lines = [f"**{_md(self.caption)}**", ""] if self.caption else []
        lines += [f"| {' | '.join(_pad(row, widths, align))} |" for row in (head, rule, *body)]
        return "\n".join(lines)

    def to_html(self) -> str:
        """A `<table>`; everything escaped, numbers in class `n`."""
        align = self.alignment()
        mark = [' class="n"' if side == "right" else "" for side in align]
        head = "".join(
            f'<th scope="col"{mark[i]}>{escape(text)}</th>' for i, text in enumerate(self.headers)
        )
        body = "\n".join(
            "<tr>"
            + "".join(f"<td{mark[i]}>{_br(escape(text))}</td>" for i, text in enumerate(row))
            + "</tr>"
            for row in self.cells()
        )
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        return (
            f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody></table></div>"
        )


def _text(cell: Cell, decimals: int) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return (
            f"{cell:.{decimals}f}"
            if math.isfinite(cell)
            else "-"
            if math.isnan(cell)
            else f"{cell}"
        )
    return str(cell)


def _pad(row: Sequence[str], widths: Sequence[int], align: Sequence[Align]) -> list[str]:
    return [
        text.rjust(width) if side == "right" else text.ljust(width)
        for text, width, side in zip(row, widths, align, strict=True)
    ]


def _line(row: Sequence[str], widths: Sequence[int], align: Sequence[Align]) -> str:
    return "  ".join(_pad(row, widths, align)).rstrip()


def _md(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("|", "\\|")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", "<br>")


def _br(text: str) -> str:
    return text.replace("\n", "<br>")
