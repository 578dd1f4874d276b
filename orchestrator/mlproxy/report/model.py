"""The values a report is made of; no drawing here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mlproxy.report.table import Table

__all__ = (
    "MODES",
    "Champion",
    "DemoReport",
    "Mark",
    "ModeChange",
    "ModeSpan",
    "ProxyReport",
    "Series",
)

MODES = ("emergency", "learning", "collaboration", "trusted")
"""The ladder of modes, lowest first, by the names the feed uses."""

Floats = npt.NDArray[np.float64] | Sequence[float]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One line of a plot: `x`, `y` and, where known, a band `low`..`high`.

    All four have the same length; NaN in `y` breaks the line. `x` ascends.
    """

    name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at `at` (in units of x); `detail` is the tooltip."""

    at: float
    label: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ModeSpan:
    """The proxy stayed in `mode` from `start` to `end`; `reason` is why it entered."""

    start: float
    end: float
    mode: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModeChange:
    """One change of mode and the evidence (means, bound, counts) behind it."""

    at: float
    old: str
    new: str
    reason: str
    evidence_text: str = ""


Champion = tuple[float, str, str]
"""(at, candidate, reason): who became champion, when and why."""


@dataclass(frozen=True, slots=True)
class ProxyReport:
    """What one proxy did during the run.

    Attributes:
        name: the proxy, with the workload or phase where there are several.
        unit_of_x: what all x values count, for example "blocks written".
        cost: cost over time per arm and for the whole system, lower is better.
        losses: prequential loss over time per candidate model.
        modes: the mode timeline without gaps.
        changes: every change of mode, in order.
        champions: every change of champion, in order.
        cost_label: what the cost is, for the axis.
        loss_label: what the loss is, for the axis.
        events: anything else worth marking (a model poisoned, a phase begins).
        intro: a sentence or two about this proxy, or "".
    """

    name: str
    unit_of_x: str
    cost: Sequence[Series] = ()
    losses: Sequence[Series] = ()
    modes: Sequence[ModeSpan] = ()
    changes: Sequence[ModeChange] = ()
    champions: Sequence[Champion] = ()
    cost_label: str = "write amplification"
    loss_label: str = "loss"
    events: Sequence[Mark] = ()
    intro: str = ""


@dataclass(frozen=True, slots=True)
class DemoReport:
    """A whole report: what ran, how it went in one table, each proxy in detail."""

    title: str
    subtitle: str
    facts: Mapping[str, str]
    summary: Table
    proxies: Sequence[ProxyReport] = ()
    notes: Sequence[str] = ()
    feed: Mapping[str, str | float] = field(default_factory=dict)
