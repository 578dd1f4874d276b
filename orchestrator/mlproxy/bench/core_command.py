"""The command `mlproxy bench core`; `mlproxy.cli.bench` puts it into its group."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from mlproxy.bench.core import run_core_bench
from mlproxy.report.results import this_machine, write_result
from mlproxy.report.table import Table

__all__ = ("command", "extra_measurements", "summary_table")

_TARGETS: Final = {
    "decide_program_ns": ("a decision by a program 12 deep", "under 100"),
    "ring_publish_ns": ("a record into the ring", "under 100"),
    "clock_read_ns": ("beside it: a clock read", ""),
    "memcpy64_ns": ("beside it: a copy of 64 bytes", ""),
    "ring_to_numpy_per_s": ("records read through the numpy view", "at least 2 million"),
    "learn_rate_ratio": ("learning, against a bare River loop", "at least 0.8"),
    "idle_cpu_percent": ("CPU of an idle daemon", ""),
    "rss_mib": ("memory of the daemon", ""),
}

# Delivered by other parts; each returns summary keys.
_EXTRA: Final = (("mlproxy.bench.learn", "learn_rate_ratio"), ("mlproxy.bench.daemon", "footprint"))


def extra_measurements(*, quick: bool) -> list[Callable[[], dict[str, float]]]:
    """Return the measurements beside the core's own that this installation has."""
    found: list[Callable[[], dict[str, float]]] = []
    for module, name in _EXTRA:
        try:
            function = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as e:
            if e.name != module:
                raise
            continue
        found.append(partial(function, quick))
    return found


def summary_table(summary: dict[str, Any]) -> Table:
    """Return the summary for people, with what it is held to."""
    rows: Sequence[tuple[str, str, str, str]] = [
        (key, meaning, _figures(summary[key]), target)
        for key, (meaning, target) in _TARGETS.items()
        if key in summary
    ]
    return Table(
        ("number", "meaning", "measured", "target"), rows, ("left", "left", "right", "left")
    )


def _figures(value: float) -> str:
    """Three digits that say something, whatever the size: the rows differ by ten powers of ten."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@click.command(name="core")
@click.option("--quick", is_flag=True, help="Fewer and shorter repeats.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write rows and summary."
)
@click.option(
    "--results", type=click.Path(path_type=Path), help="Write core.json and core.md there."
)
def command(*, quick: bool, json_file: Path | None, results: Path | None) -> None:
    """Time the proxy core: decide, publish, read; learning and idle daemon beside it."""
    document = run_core_bench(quick=quick, extra=extra_measurements(quick=quick))
    table = summary_table(document["summary"])
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if results is not None:
        write_result(
            "core",
            document,
            results,
            title="What the proxy core costs",
            intro="Median over the repeats; within a repeat the timed loops take turns in blocks"
            " of 4,096 calls and the median block counts. The program is 12 decisions deep.",
            tables=[table],
            plots=[],
            provenance=this_machine(
                "mlproxy bench core --results docs/results", f"{datetime.now(UTC):%Y-%m-%d}"
            ),
        )
    click.echo(table.to_text())
