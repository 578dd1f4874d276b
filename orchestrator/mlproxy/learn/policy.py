"""The written policy of who is champion; docs/reference/arbitration.md numbers its rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mlproxy.learn.cuts import CutsStrategy

__all__ = ("ArbitrationPolicy", "Standing", "Verdict", "choose", "eligible")


@dataclass(frozen=True, slots=True)
class ArbitrationPolicy:
    """Numbers of the arbitration rules (see docs/reference/arbitration.md).

    Attributes:
        warmup_labels: labels of a stream before its program is used (A1).
        loss: which error is averaged (A4).
        fading: factor per label by which the loss forgets (A4).
        cost_fading: factor per window by which measured costs forget (A3).
        min_cost_windows: windows before a measured cost counts (A3).
        cost_margin: a candidate may cost up to (1 + this) times the default (A2).
        switch_margin: a challenger must be better by this fraction (A5).
        tie_margin: closer than this fraction counts as equal (A6).
        resolution: losses, in units of the label, closer than this are equal (A5, A6):
            among errors that are all small, a fraction means nothing.
        dwell_labels: a champion is left alone for so many labels (A5).
        decide_every: labels between two decisions.
        drift_delta: confidence of ADWIN on the prediction error (A7).
        understudy_labels: how long a fresh model is tried after a drift (A7).
        max_seconds_per_label: time budget (A8); 0 for none.
        max_bytes: memory budget (A8); 0 for none.
        budget_labels: labels before the time budget is judged, and between
            two estimates of the size.
        window: recent feature vectors per stream that the cuts are made from.
        cuts: how the cuts are found.
        cuts_hysteresis: see `find_cuts`.
    """

    warmup_labels: int = 300
    loss: Literal["absolute", "squared"] = "absolute"
    fading: float = 0.999
    cost_fading: float = 0.8
    min_cost_windows: int = 2
    cost_margin: float = 0.0
    switch_margin: float = 0.02
    tie_margin: float = 0.005
    resolution: float = 0.0
    dwell_labels: int = 1000
    decide_every: int = 256
    drift_delta: float = 0.002
    understudy_labels: int = 3000
    max_seconds_per_label: float = 0.001
    max_bytes: int = 64 << 20
    budget_labels: int = 4096
    window: int = 2048
    cuts: CutsStrategy = "kmeans"
    cuts_hysteresis: float = 0.05


@dataclass(frozen=True, slots=True)
class Standing:
    """What the rules look at, of one candidate.

    Attributes:
        name: of the candidate.
        order: place among the recipes.
        warm: whether any stream has its warm-up labels (or needs none).
        usable: neither dropped nor impossible to compile.
        loss: fading loss; None when it does not predict.
        cost: measured cost; None when not measured often enough.
        size: comparisons to evaluate its programs once.
    """

    name: str
    order: int
    warm: bool
    usable: bool
    loss: float | None
    cost: float | None
    size: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who is champion (None: nobody, the default acts) and why."""

    champion: str | None
    reason: str


def eligible(
    standing: Standing,
    default_cost: float | None,
    policy: ArbitrationPolicy,
    *,
    holder: bool = False,
) -> bool:
    """Rules A1 and A2: may this candidate be champion at all?

    The `holder` of the title keeps it up to `switch_margin` above what a
    newcomer may cost, so that it does not come and go at the border.
    """
    if not standing.usable or not standing.warm:
        return False
    if standing.cost is None:
        return standing.loss is not None
    if default_cost is None:
        return True
    margin = policy.cost_margin + (policy.switch_margin if holder else 0.0)
    return standing.cost <= default_cost + abs(default_cost) * margin


def _key(standing: Standing) -> tuple[int, float]:
    """A3 and A4: a measured cost outranks any prediction loss; lower is better."""
    if standing.cost is not None:
        return (0, standing.cost)
    return (1, standing.loss if standing.loss is not None else float("inf"))


def _better(one: Standing, other: Standing, margin: float, resolution: float) -> bool:
    """Whether `one` beats `other` by more than the relative margin, and visibly."""
    (rank_one, value_one), (rank_other, value_other) = _key(one), _key(other)
    if rank_one != rank_other:
        return rank_one < rank_other
    least = resolution if rank_one else 0.0
    return value_other - value_one > max(least, margin * abs(value_other))


def choose(
    standings: Sequence[Standing],
    champion: str | None,
    held_labels: int,
    default_cost: float | None,
    policy: ArbitrationPolicy,
    *,
    privileged: bool = True,
) -> Verdict:
    """Apply rules A1 to A6.

    Args:
        standings: all candidates.
        champion: who holds the title.
        held_labels: labels since it got it.
        default_cost: measured cost of the default logic, None when unknown.
        policy: the numbers.
        privileged: False after a drift of the champion: neither dwell nor margin protect it.
    """
    able = [s for s in standings if eligible(s, default_cost, policy, holder=s.name == champion)]
    if not able:
        return Verdict(None, "nobody is eligible")
    lead = min(able, key=lambda s: (*_key(s), s.size, s.order))
    # A6: among those as good as the leader, the cheapest to evaluate, then the first.
    equals = [s for s in able if not _better(lead, s, policy.tie_margin, policy.resolution)]
    best = min(equals, key=lambda s: (s.size, s.order))
    holder = next((s for s in able if s.name == champion), None)
    if holder is None:
        what = "first eligible" if champion is None else f"{champion} is no longer eligible"
        return Verdict(best.name, what)
    if best.name == holder.name:
        return Verdict(holder.name, "still best")
    if not privileged:
        if _better(best, holder, 0.0, policy.resolution):
            return Verdict(best.name, "better since the champion drifted")
        return Verdict(holder.name, "still best")
    if held_labels < policy.dwell_labels:
        return Verdict(holder.name, "dwell")
    if not _better(best, holder, policy.switch_margin, policy.resolution):
        # The cheapest equal may fall short of the margin where the leader does not.
        best = lead
        if not _better(best, holder, policy.switch_margin, policy.resolution):
            return Verdict(holder.name, "margin")
    why = "lower measured cost" if best.cost is not None else "lower prediction loss"
    return Verdict(best.name, why)
