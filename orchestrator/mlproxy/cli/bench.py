"""`mlproxy bench`: the group of the benchmarks; plugins add theirs."""

from __future__ import annotations

from mlproxy.cli.lazy import LazyGroup

__all__ = ("group",)

group = LazyGroup(
    "bench",
    help="Measure. Each bench writes its raw rows and a summary as JSON.",
    lazy={"core": ("mlproxy.bench.core_command:command", "Time the proxy core.")},
    plugins=True,
)
