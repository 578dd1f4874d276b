"""One self-contained HTML page about a run: inline CSS and SVG, no scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlproxy.report.canvas import escape
from mlproxy.report.lines import line_plot
from mlproxy.report.model import (
    MODES,
    DemoReport,
    Mark,
    ModeChange,
    ModeSpan,
    ProxyReport,
    Series,
)
from mlproxy.report.page import GLOSSARY, PAGE_CSS, READING
from mlproxy.report.palette import page_css
from mlproxy.report.scale import number
from mlproxy.report.table import Cell, Table
from mlproxy.report.timeline import mode_timeline

__all__ = (
    "DemoReport",
    "Mark",
    "ModeChange",
    "ModeSpan",
    "ProxyReport",
    "Series",
    "Table",
    "render_report",
)

_FOLD = 40  # rows


def render_report(report: DemoReport) -> str:
    """The whole page, ready to be written to one file.

    Nothing in it refers to anything outside; all text of the report is
    escaped. The same report gives the same bytes.
    """
    sections = [
        _section("summary", "Summary", report.summary.to_html()),
        *(_proxy(i, proxy) for i, proxy in enumerate(report.proxies, 1)),
    ]
    if report.feed:
        sections.append(_section("feed", "Feed", _facts(report.feed)))
    if report.notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
        sections.append(_section("notes", "Notes", f"<ul>{items}</ul>"))
    sections.append(_section("reading", "How to read this", READING + _glossary()))
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(report.title)}</title>\n"
        f"<style>\n{PAGE_CSS}\n{page_css()}\n</style>\n</head>\n<body>\n<header>\n"
        f'<h1>{escape(report.title)}</h1>\n<p class="sub">{escape(report.subtitle)}</p>\n'
        f"{_facts(report.facts)}\n{_contents(report)}\n</header>\n"
        f"<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(ident: str, title: str, body: str) -> str:
    return f'<section id="{ident}">\n<h2>{escape(title)}</h2>\n{body}\n</section>'


def _facts(facts: Mapping[str, str | float]) -> str:
    rows = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(_plain(value))}</dd></div>"
        for key, value in facts.items()
    )
    return f'<dl class="facts">{rows}</dl>'


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else number(value, 9)


def _contents(report: DemoReport) -> str:
    links = [("summary", "Summary")]
    links += [(f"proxy-{i}", proxy.name) for i, proxy in enumerate(report.proxies, 1)]
    links += [("feed", "Feed")] if report.feed else []
    links += [("notes", "Notes")] if report.notes else []
    links.append(("reading", "How to read this"))
    items = "".join(f'<li><a href="#{ident}">{escape(name)}</a></li>' for ident, name in links)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def _proxy(index: int, proxy: ProxyReport) -> str:
    x_range = _x_range(proxy)
    parts = [f"<p>{escape(proxy.intro)}</p>"] if proxy.intro else []
    if proxy.cost:
        plot = line_plot(
            proxy.cost,
            title=f"{proxy.name}: {proxy.cost_label} per arm",
            x_label=proxy.unit_of_x,
            y_label=proxy.cost_label,
            marks=_marks(proxy),
            x_range=x_range,
            robust=True,
            standalone=False,
        )
        parts.append(
            _figure(
                plot,
                f"{proxy.cost_label[:1].upper()}{proxy.cost_label[1:]} over time, lower is better; "
                "shaded: confidence band. Dotted lines are changes of mode and other events.",
            )
        )
    if proxy.modes:
        plot = mode_timeline(
            proxy.modes,
            title=f"{proxy.name}: mode",
            x_label=proxy.unit_of_x,
            x_range=x_range,
            standalone=False,
        )
        parts.append(_figure(plot, f"Mode over time. {_shares(proxy.modes)}"))
    if proxy.changes:
        parts.append("<h3>Every change of mode, and the evidence for it</h3>")
        parts.append(_foldable(_changes(proxy)))
    if proxy.losses:
        plot = line_plot(
            proxy.losses,
            title=f"{proxy.name}: {proxy.loss_label} per candidate model",
            x_label=proxy.unit_of_x,
            y_label=proxy.loss_label,
            marks=[Mark(at, name, why) for at, name, why in proxy.champions],
            x_range=x_range,
            robust=True,
            standalone=False,
        )
        parts.append(
            _figure(
                plot,
                f"{proxy.loss_label[:1].upper()}{proxy.loss_label[1:]} of each candidate model, "
                "lower is better. Dotted lines: who became champion.",
            )
        )
    if proxy.champions:
        parts.append("<h3>Champions</h3>")
        rows = [(number(at), name, why) for at, name, why in proxy.champions]
        headers = (f"at ({proxy.unit_of_x})", "champion", "reason")
        parts.append(_foldable(Table(headers, rows, ("right", "left", "left"))))
    return _section(f"proxy-{index}", proxy.name, "\n".join(parts))


def _foldable(table: Table) -> str:
    """A table; a very long one is folded, so that the next plot stays in reach."""
    if len(table.rows) <= _FOLD:
        return table.to_html()
    return (
        f"<details><summary>{len(table.rows)} rows, click to unfold</summary>"
        f"{table.to_html()}</details>"
    )


def _figure(plot: str, caption: str) -> str:
    return f"<figure>{plot}<figcaption>{escape(caption)}</figcaption></figure>"


def _changes(proxy: ProxyReport) -> Table:
    headers = ("no.", f"at ({proxy.unit_of_x})", "from", "to", "reason", "evidence")
    rows: list[tuple[Cell, ...]] = [
        (i, number(c.at), c.old, c.new, c.reason, c.evidence_text)
        for i, c in enumerate(proxy.changes, 1)
    ]
    return Table(headers, rows, ("right", "right", "left", "left", "left", "left"))


def _marks(proxy: ProxyReport) -> list[Mark]:
    changes = [
        Mark(c.at, c.new, f"{c.old} to {c.new}: {c.reason}\n{c.evidence_text}".rstrip())
        for c in proxy.changes
    ]
    return [*proxy.events, *changes]


def _x_range(proxy: ProxyReport) -> tuple[float, float] | None:
    """What all plots of a proxy span, so that they line up under each other."""
    edges = [float(s.x[i]) for s in (*proxy.cost, *proxy.losses) if len(s.x) for i in (0, -1)]
    edges += [edge for span in proxy.modes for edge in (span.start, span.end)]
    if not edges or min(edges) == max(edges):
        return None
    return min(edges), max(edges)


def _shares(modes: Sequence[ModeSpan]) -> str:
    total = sum(span.end - span.start for span in modes)
    if total <= 0:
        return ""
    parts = [
        f"{mode} {sum(s.end - s.start for s in modes if s.mode == mode) / total:.0%}"
        for mode in MODES
        if any(s.mode == mode for s in modes)
    ]
    return f"Share of the time: {', '.join(parts)}."


def _glossary() -> str:
    rows = "".join(
        f"<div><dt>{escape(word)}</dt><dd>{escape(text)}</dd></div>" for word, text in GLOSSARY
    )
    return f'<dl class="words">{rows}</dl>'
