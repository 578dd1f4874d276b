"""Memory saved against faults, by setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlproxy.report.canvas import Canvas
from mlproxy.report.scale import Scale

__all__ = ("Tried", "pareto_plot", "tried")


@dataclass(frozen=True, slots=True)
class Tried:
    """A setting that was in force.

    Attributes:
        name: in words.
        windows: for how many.
        saved: mean share of the program's memory that was out, 0..1.
        faults: that reclaim cost, per unit of work (per window without work).
        front: whether no other saved more at fewer faults.
    """

    name: str
    windows: int
    saved: float
    faults: float
    front: bool = False


def tried(windows: Sequence[Mapping[str, Any]]) -> list[Tried]:
    """Sum the windows up by setting, the front marked, most saved first."""
    groups: dict[str, list[tuple[float, float, float]]] = {}
    previous: Mapping[str, Any] | None = None
    for window in windows:
        name = _name(window)
        if name and previous is not None:
            saved = 1 - window["resident"] / max(1, window["whole"])
            work = window["work"] - previous["work"]
            groups.setdefault(name, []).append((saved, window["excess"], work))
        previous = window
    found = []
    for name, rows in groups.items():
        work = sum(w for _, _, w in rows) or float(len(rows))
        found.append(
            Tried(
                name,
                len(rows),
                sum(s for s, _, _ in rows) / len(rows),
                sum(e for _, e, _ in rows) / work,
            )
        )
    found.sort(key=lambda t: (-t.saved, t.faults))
    marked, fewest = [], float("inf")
    for one in found:
        front = one.faults < fewest
        fewest = min(fewest, one.faults)
        marked.append(Tried(one.name, one.windows, one.saved, one.faults, front))
    return marked


def _name(window: Mapping[str, Any]) -> str:
    if window["arm"] == "baseline":
        return "before the model"
    if window["arm"] == "default":
        return "default"
    if window["arm"] != "model":
        return ""
    if not window["min_age_seconds"]:
        return "nothing taken"
    return f"{window['min_age_seconds']:g} s, {window['quota_mib']:g} MiB/s"


def pareto_plot(found: Sequence[Tried], size: tuple[float, float] = (760, 320)) -> str:
    """One `<svg>` element: a point per setting, the front joined by steps."""
    width, height = size
    words = ", ".join(f"{t.name}: {100 * t.saved:.1f}% saved" for t in found)
    canvas = Canvas(width, height, "memory saved against faults", words, standalone=False)
    left, right, top, bottom = 92.0, width - 16, 12.0, height - 42
    most_faults = max((t.faults for t in found), default=0.0) or 1.0
    most_saved = max((t.saved for t in found), default=0.0) or 1.0
    x = Scale(0.0, 1.08 * most_faults, left, right)
    y = Scale(0.0, 108 * most_saved, bottom, top)
    canvas.y_axis(y, left, right, "memory saved, %")
    canvas.x_axis(x, top, bottom, "major faults by reclaim per unit of work")
    front = sorted((t for t in found if t.front), key=lambda t: t.faults)
    if front:
        path = f"M{x(front[0].faults):.1f} {y(100 * front[0].saved):.1f}"
        path += "".join(f"H{x(t.faults):.1f}V{y(100 * t.saved):.1f}" for t in front[1:])
        canvas.add("path", cls="ln s0", d=path)
    for one in found:
        tip = (
            f"{one.name}: {100 * one.saved:.1f}% saved, {one.faults:.4g} faults per unit of "
            f"work, {one.windows} windows"
        )
        place = {"cx": x(one.faults), "cy": y(100 * one.saved)}
        canvas.add("circle", tip=tip, cls="f0" if one.front else "f2", r=4.5, **place)
    return canvas.close()
