"""The page that `mlproxy damon report` writes."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlproxy.report.canvas import escape
from mlproxy.report.model import Mark, Series
from mlproxy.report.page import PAGE_CSS
from mlproxy.report.svg import line_plot, page_css
from mlproxy.report.table import Table
from mlproxy_damon.errors import DamonError
from mlproxy_damon.pareto import Tried, pareto_plot, tried
from mlproxy_damon.picture import HeatMap, heat_map, png
from mlproxy_damon.records import read_records

__all__ = ("render",)

Record = Mapping[str, Any]
MIB = 1 << 20


def render(path: Path) -> tuple[str, bytes | None]:
    """Make the page of a file of records.

    Nothing in it refers to anything outside. The same records give the same bytes.

    Args:
        path: the file.

    Returns:
        The page; the heat map of the largest target as PNG, None when nothing was seen.

    Raises:
        DamonError: `damon.records`.
    """
    kinds: dict[str, list[Record]] = {}
    for record in read_records(path):
        kinds.setdefault(str(record["kind"]), []).append(record)
    try:
        return _page(path.name, kinds)
    except (KeyError, TypeError, ValueError) as error:
        raise DamonError(
            f"{path}: a record lacks something: {error!r}",
            code="damon.records",
            hint="was it written by another version?",
        ) from error


def _page(name: str, kinds: Mapping[str, list[Record]]) -> tuple[str, bytes | None]:
    windows = kinds.get("window", [])
    options = kinds["start"][-1]["options"] if "start" in kinds else {}
    begin = min((r[0]["at"] for r in kinds.values() if r), default=0.0)
    found = _heat(kinds.get("picture", []), options)
    picture = None
    sections = []
    if found is not None:
        picture = png(found.pixels(2))
        sections.append(("heat", "Access heat map", _heat_figure(found, picture, begin)))
    if windows:
        sections += [
            ("memory", "Memory over time", _memory(windows, kinds, begin)),
            ("saved", "Memory saved against faults", _pareto(tried(windows))),
            ("cost", "What it takes", _cost(windows, begin)),
        ]
    if kinds.get("target"):
        sections.append(("targets", "Targets", _targets(kinds["target"], begin)))
    body = "\n".join(
        f'<section id="{ident}">\n<h2>{title}</h2>\n{text}\n</section>'
        for ident, title, text in sections
    )
    title = "DAMON: memory that was watched and taken"
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n"
        f"<style>\n{PAGE_CSS}\n{page_css()}\nimg.heat{{width:100%;height:auto;"
        "image-rendering:pixelated}\n</style>\n</head>\n<body>\n<header>\n"
        f'<h1>{title}</h1>\n<p class="sub">{escape(name)}</p>\n'
        f"{_facts(windows, kinds)}\n</header>\n<main>\n{body or '<p>Nothing was recorded.</p>'}\n"
        "</main>\n</body>\n</html>\n"
    )
    return page, picture


def _facts(windows: Sequence[Record], kinds: Mapping[str, list[Record]]) -> str:
    facts: dict[str, str] = {}
    if windows:
        first, last = windows[0], windows[-1]
        acted = [w for w in windows if w["arm"] != "baseline"] or [last]
        saved = sum(1 - w["resident"] / max(1, w["whole"]) for w in acted) / len(acted)
        work = last["work"] - first["work"]
        excess = sum(w["excess"] for w in windows)
        saved_last = 1 - last["resident"] / max(1, last["whole"])
        usual = last["faults"] - first["faults"] - excess
        facts = {
            "time": f"{last['at'] - first['at']:.0f} s",
            "memory saved, mean": f"{100 * saved:.1f}%",
            "memory saved at the end": f"{100 * saved_last:.1f}%",
            "major faults": f"{last['faults'] - first['faults']:.0f}",
            "of these by reclaim": f"{excess:.0f}"
            + (f" ({100 * excess / usual:.2f}% more)" if usual > 0 else ""),
            "units of work": f"{work:.6g}",
        }
    facts["pictures"] = str(len(kinds.get("picture", [])))
    rows = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts.items()
    )
    return f'<dl class="facts">{rows}</dl>'


def _figure(plot: str, caption: str) -> str:
    return f"<figure>\n{plot}\n<figcaption>{caption}</figcaption>\n</figure>"


def _heat(pictures: Sequence[Record], options: Mapping[str, Any]) -> HeatMap | None:
    """Of the target with the most memory."""
    by_target: dict[int, list[Record]] = {}
    for picture in pictures:
        by_target.setdefault(int(picture["target"]), []).append(picture)
    samples = 1.0
    if options:
        samples = max(1.0, options["aggregation_ms"] / options["sample_ms"][0])
    maps = [heat_map(one, samples) for one in by_target.values()]
    return max((m for m in maps if m is not None), key=lambda m: m.bytes, default=None)


def _heat_figure(found: HeatMap, picture: bytes, begin: float) -> str:
    data = base64.b64encode(picture).decode("ascii")
    first, last = (at - begin for at in found.times)
    return _figure(
        f'<img class="heat" alt="access heat map" src="data:image/png;base64,{data}">',
        f"Time from left ({first:.0f} s) to right ({last:.0f} s), addresses from below "
        f"({found.bytes / MIB:.0f} MiB of address space, holes left out). Dark: not used; "
        "bright: used in each sample; grey: not there.",
    )


def _memory(windows: Sequence[Record], kinds: Mapping[str, list[Record]], begin: float) -> str:
    x = [w["at"] - begin for w in windows]
    marks = [
        Mark(t["at"] - begin, t["what"].removeprefix("target-"), t["message"])
        for t in kinds.get("target", [])
    ]
    plot = line_plot(
        [
            Series("in memory (RSS)", x, [w["resident"] / MIB for w in windows]),
            Series("without reclaim", x, [w["whole"] / MIB for w in windows]),
            Series("working set", *_working_set(kinds.get("picture", []), begin)),
        ],
        title="memory over time",
        x_label="seconds",
        y_label="MiB",
        marks=marks,
        y_range=(0.0, 1.05 * max(max(w["whole"] for w in windows) / MIB, 1.0)),
        standalone=False,
    )
    ages = line_plot(
        [Series("min_age in force", x, [w["min_age_seconds"] or math.nan for w in windows])],
        title="setting over time",
        x_label="seconds",
        y_label="seconds without use",
        step=True,
        size=(760, 200),
        standalone=False,
    )
    return _figure(
        plot,
        "The working set is what DAMON saw used in one aggregation, by regions: it is too large "
        "where single pages of a region are used, too small for what is used rarely.",
    ) + _figure(ages, "After how long memory was taken, in the epochs in which it was.")


def _working_set(pictures: Sequence[Record], begin: float) -> tuple[list[float], list[float]]:
    sums: dict[float, float] = {}
    for picture in pictures:
        used = sum(row[1] - row[0] for row in picture["regions"] if row[2])
        sums[picture["at"]] = sums.get(picture["at"], 0.0) + used / MIB
    return [at - begin for at in sums], list(sums.values())


def _pareto(found: Sequence[Tried]) -> str:
    if not found:
        return "<p>No setting has been in force yet.</p>"
    table = Table(
        ("setting", "windows", "memory saved %", "faults by reclaim per unit of work", "front"),
        [(t.name, t.windows, 100 * t.saved, t.faults, "yes" if t.front else "") for t in found],
        caption="What was tried; on the front: nothing else saved more at fewer faults.",
    )
    caption = (
        "Each point is a setting, over the windows in which it was in force. What is out stays "
        "out when the setting changes, so points of settings that followed each other are alike."
    )
    return _figure(pareto_plot(found), caption) + f'<div class="scroll">{table.to_html()}</div>'


def _cost(windows: Sequence[Record], begin: float) -> str:
    x = [w["at"] - begin for w in windows]
    cpu = line_plot(
        [
            Series("kdamond", x, [100 * w["kdamond_cpu"] for w in windows]),
            Series("plugin", x, [100 * w["plugin_cpu"] for w in windows]),
        ],
        title="processor time",
        x_label="seconds",
        y_label="% of one processor",
        size=(760, 220),
        standalone=False,
    )
    account = line_plot(
        [Series("faults that may still be caused", x, [w["headroom"] for w in windows])],
        title="account of faults",
        x_label="seconds",
        y_label="major faults",
        reference=0.0,
        size=(760, 220),
        standalone=False,
    )
    return _figure(account, "Below zero the bound is broken and nothing is taken.") + _figure(
        cpu, "Over the ten seconds before; kdamond's share includes the reclaim itself."
    )


def _targets(records: Sequence[Record], begin: float) -> str:
    rows = [
        (round(r["at"] - begin, 1), r["what"], r["message"], ", ".join(map(str, r["pids"])))
        for r in records
    ]
    return f'<div class="scroll">{Table(("s", "what", "", "processes"), rows).to_html()}</div>'
