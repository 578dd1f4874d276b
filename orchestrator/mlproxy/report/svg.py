"""Plots as SVG text, without dependencies: lines, steps, bars, mode timelines.

A standalone picture is a file of its own with plain colours; the others are
meant for a page that carries `page_css()` once.
"""

from __future__ import annotations

from mlproxy.report.bars import Bars, bar_plot
from mlproxy.report.lines import line_plot
from mlproxy.report.model import Mark, ModeSpan, Series
from mlproxy.report.palette import DARK, LIGHT, Palette, page_css
from mlproxy.report.timeline import mode_timeline

__all__ = (
    "DARK",
    "LIGHT",
    "Bars",
    "Mark",
    "ModeSpan",
    "Palette",
    "Series",
    "bar_plot",
    "line_plot",
    "mode_timeline",
    "page_css",
)
