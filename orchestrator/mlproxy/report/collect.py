"""From the events of a run to the parts of its report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mlproxy.events.types import EvidenceData, ModeEvent, ModelEvent
from mlproxy.report.model import Champion, ModeChange, ModeSpan, Series
from mlproxy.report.scale import number

__all__ = ("Curves", "champion_history", "evidence_text", "mode_history")


def evidence_text(evidence: Iterable[EvidenceData], unit: float = 1.0) -> str:
    """The comparisons behind a mode change, one line each.

    Args:
        evidence: as a ModeEvent carries it.
        unit: fixed-point steps of the proxy's cost in one unit of it.

    Example:
        >>> twin = EvidenceData(
        ...     source="twin", default_mean=1900, model_mean=1600, default_count=40,
        ...     model_count=40, saving_ratio=0.158, lower_ratio=0.12, upper_ratio=0.19)
        >>> evidence_text([twin], unit=1000)
        'twin: default 1.9 (n 40), model 1.6 (n 40), saving +15.8% (+12.0% to +19.0%)'
    """
    return "\n".join(_comparison(one, unit) for one in evidence)


def _comparison(e: EvidenceData, unit: float) -> str:
    saving = f"saving {e.saving_ratio:+.1%}"
    if not (e.default_count or e.model_count):
        return f"{e.source}: {saving}"
    return (
        f"{e.source}: default {number(e.default_mean / unit)} (n {e.default_count}), "
        f"model {number(e.model_mean / unit)} (n {e.model_count}), "
        f"{saving} ({e.lower_ratio:+.1%} to {e.upper_ratio:+.1%})"
    )


def mode_history(
    events: Sequence[ModeEvent],
    start: float,
    end: float,
    *,
    initial: str = "emergency",
    scale: float = 1.0,
    unit: float = 1.0,
) -> tuple[list[ModeSpan], list[ModeChange]]:
    """The mode timeline and the list of changes of one proxy.

    Args:
        events: of this proxy, in their order.
        start: begin of the run, in proxy time.
        end: end of the run, in proxy time.
        initial: the mode before the first event, when that event does not come
            at `start`.
        scale: proxy time in one unit of the report's x axis.
        unit: fixed-point steps of the proxy's cost in one unit of it.

    Returns:
        Spans without gaps from `start` to `end`, empty ones left out, and all
        changes; times divided by `scale`.
    """
    spans: list[ModeSpan] = []
    changes = [
        ModeChange(e.at / scale, e.old, e.new, e.reason, evidence_text(e.evidence, unit))
        for e in events
    ]
    at, mode, reason = float(start), events[0].old if events else initial, ""
    for event in events:
        when = min(max(float(event.at), at), float(end))
        if when > at:
            spans.append(ModeSpan(at / scale, when / scale, mode, reason))
        at, mode, reason = when, event.new, event.reason
    if end > at:
        spans.append(ModeSpan(at / scale, end / scale, mode, reason))
    return spans, changes


def champion_history(events: Iterable[ModelEvent], scale: float = 1.0) -> list[Champion]:
    """Every change of champion: when, who, why."""
    return [
        (e.at / scale, e.candidate, e.reason or (f"after {e.previous}" if e.previous else "first"))
        for e in events
        if e.what == "champion"
    ]


class Curves:
    """Collects points of named curves, for example cost per arm, while a run goes on.

    Example:
        >>> cost = Curves()
        >>> cost.add(0, {"default": 1.0, "model": None})
        >>> cost.add(10, {"default": 1.5, "model": 1.2})
        >>> [(s.name, s.x.tolist(), s.y.tolist()) for s in cost.series()]
        [('default', [0.0, 10.0], [1.0, 1.5]), ('model', [10.0], [1.2])]
    """

    def __init__(self) -> None:
        self._points: dict[str, list[tuple[float, float, float, float]]] = {}

    def add(
        self,
        x: float,
        values: dict[str, float | None],
        bounds: dict[str, tuple[float, float]] | None = None,
    ) -> None:
        """One point per curve at `x`; None: this curve has none here."""
        for name, value in values.items():
            low, high = (bounds or {}).get(name, (float("nan"), float("nan")))
            curve = self._points.setdefault(name, [])
            if value is not None:
                curve.append((x, value, low, high))

    def series(self) -> list[Series]:
        """All curves, in the order of their first mention."""
        found = []
        for name, points in self._points.items():
            x, y, low, high = np.array(points, dtype=float).reshape(-1, 4).T
            band = bool(np.isfinite(low).any())
            found.append(Series(name, x, y, low if band else None, high if band else None))
        return found
