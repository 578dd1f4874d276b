"""The bench's picture: memory saved against faults, a panel per workload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlproxy.report.canvas import Canvas
from mlproxy.report.scale import Scale
from mlproxy_damon.bench_arms import ARMS

__all__ = ("front_plot",)

WIDTH = 760.0
PANEL = 190.0


def front_plot(summary: Mapping[str, Any]) -> str:
    """One `<svg>`: up is more saved, left is fewer faults; whiskers are 95% intervals."""
    workloads = summary["workloads"]
    canvas = Canvas(WIDTH, PANEL * len(workloads) + 8, "memory saved against major faults",
                    "a panel per workload, a point per competitor")  # fmt: skip
    for number, (load, of) in enumerate(workloads.items()):
        _panel(canvas, load, of, PANEL * number)
    return canvas.close()


def _panel(canvas: Canvas, load: str, of: Mapping[str, Any], top: float) -> None:
    left, right, above, below = 92.0, WIDTH - 16, top + 12, top + PANEL - 42
    most = max(1.02, *(one["fault_ratio_interval"][1] for one in of.values()))
    x = Scale(1.0 - 0.06 * (most - 1), 1 + 1.1 * (most - 1), left, right)
    y = Scale(-5.0, 105.0, below, above)
    canvas.y_axis(y, left, right, f"{load}: RSS saved, %")
    canvas.x_axis(x, above, below, "major faults per operation, over none")
    for number, arm in enumerate(arm for arm in ARMS if arm in of):
        one = of[arm]
        at = max(x(one["fault_ratio"]), left), y(100 * one["rss_saved"])
        low, high = (max(x(v), left) for v in one["fault_ratio_interval"])
        canvas.add("path", cls=f"ln s{number}", d=f"M{low:.1f} {at[1]:.1f}H{high:.1f}")
        tip = f"{arm}: {100 * one['rss_saved']:.1f}% saved at {one['fault_ratio']:.3f}"
        canvas.add("circle", tip=tip, cls=f"f{number}", r=4.5, cx=at[0], cy=at[1])
        canvas.text(at[0] + 7, at[1] + 4, arm)
