"""What `mlproxy demo` shows of the log-structured store: four acts and their verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from mlproxy.demo import Demo, DemoOutcome, FeedCount, Part, Verdict
from mlproxy.events.types import ModeEvent
from mlproxy_lfs.acts import Act, ActResult, play_act
from mlproxy_lfs.decisions import PLACEMENT, VICTIM
from mlproxy_lfs.options import LfsOptions
from mlproxy_lfs.story import report_of, summary_of

__all__ = ("DEMO", "acts", "conclude")

TITLES = {
    "learn": "models learn on a recorded multi-tenant stream",
    "uniform": "uniform random writes: nothing can be learned",
    "turncoat": "models turn bad while they are trusted",
    "poisoned": "models that are poisoned from the start",
}
LEADS = {"learn": PLACEMENT, "uniform": PLACEMENT, "turncoat": PLACEMENT, "poisoned": PLACEMENT}
"""The proxy that an act is about."""
UNIFORM_LIMIT = 1.01
TURNCOAT_LIMIT = 1.10
TURNCOAT_WITHIN = 0.25
"""Capacities after which a model that turned bad must have lost its trust."""
POISONED_LIMIT = 1.03
TURNS_BAD_AT = 5.0
SMALL: Literal[128] = 128
"""Blocks in a segment of the stores of all acts but the first."""


def acts(quick: bool) -> dict[str, LfsOptions]:
    """The options of each act; `quick`: small stores and short streams only."""
    return {
        "learn": LfsOptions(
            workload="mix-office",
            capacities=8 if quick else 12,
            segment_blocks=256 if quick else 512,
        ),
        "turncoat": LfsOptions(
            workload="hot-cold",
            capacities=8,
            poison="myopic",
            poison_at=TURNS_BAD_AT,
            segment_blocks=SMALL,
        ),
        "uniform": LfsOptions(
            workload="uniform", capacities=6 if quick else 10, segment_blocks=SMALL
        ),
        "poisoned": LfsOptions(
            workload="mail", capacities=6 if quick else 10, poison="myopic", segment_blocks=SMALL
        ),
    }


def parts(seed: int, quick: bool) -> Sequence[Part]:
    """The acts as parts, the longest first."""
    return [
        Part(name, TITLES[name], partial(play_act, Act(options, seed)), (PLACEMENT, VICTIM))
        for name, options in acts(quick).items()
    ]


# -- what is concluded ----------------------------------------------------------


def _ratio(result: ActResult) -> float:
    return result.whole["mlproxy"] / result.whole["default"]


def _first(result: ActResult, proxy: str, mode: str) -> ModeEvent | None:
    return next((e for e in result.modes.get(proxy, []) if e.new == mode), None)


def _learn(result: ActResult) -> Verdict:
    promoted = _first(result, PLACEMENT, "trusted")
    before, after = result.whole["default"], result.whole["mlproxy"]
    late = 1 - result.late["mlproxy"] / result.late["default"]
    if promoted is None:
        text = (
            f"placement was not promoted: it ends in {result.final[PLACEMENT]} after "
            f"{result.written / result.capacity:.1f} capacities"
        )
        return Verdict("learn", False, text)
    text = (
        f"placement was promoted to trusted after {promoted.at / result.capacity:.1f} capacities; "
        f"write amplification {before:.3f} by default, {after:.3f} with mlproxy "
        f"({1 - after / before:+.1%} saved, {late:+.1%} in the last third)"
    )
    return Verdict("learn", after < before, text)


def _uniform(result: ActResult) -> Verdict:
    ratio = _ratio(result)
    climbed = [e for e in result.modes.get(PLACEMENT, []) if e.new in ("collaboration", "trusted")]
    held = ratio <= UNIFORM_LIMIT and not climbed
    text = (
        f"on uniform writes placement {'was promoted' if climbed else 'was kept out'}: the model "
        f"placed {result.model_share:.1%} of the blocks, cost {ratio:.3f} of the default's "
        f"(limit {UNIFORM_LIMIT:g})"
    )
    return Verdict("uniform", held, text)


def fallen(result: ActResult) -> ModeEvent | None:
    """The first change that took trust from a proxy after the models had turned bad."""
    turned = TURNS_BAD_AT * result.capacity
    lost = [
        event
        for events in result.modes.values()
        for event in events
        if event.old == "trusted" and event.new in ("emergency", "learning") and event.at >= turned
    ]
    return min(lost, key=lambda e: e.at, default=None)


def trusted_at(result: ActResult, at: float) -> list[str]:
    """The proxies that were trusted then."""
    found = []
    for proxy, events in result.modes.items():
        before = [e.new for e in events if e.at <= at]
        if before and before[-1] == "trusted":
            found.append(proxy)
    return found


def _turncoat(result: ActResult) -> Verdict:
    turned = TURNS_BAD_AT * result.capacity
    if not trusted_at(result, turned):
        text = f"no proxy was trusted when the models turned bad at {TURNS_BAD_AT:g} capacities"
        return Verdict("turncoat", False, text)
    ratio, since = _ratio(result), result.since_poison
    cost = since["mlproxy"] / since["default"]
    event = fallen(result)
    if event is None:
        text = f"no guard threw out the models that turned bad; cost {cost:.3f} of the default's"
        return Verdict("turncoat", False, text)
    after = (event.at - turned) / result.capacity
    text = (
        f"{event.proxy} lost its trust {after:.2f} capacities after the models had turned bad, "
        f"by {event.reason}; since then the store cost {cost:.3f} of the default's, over all "
        f"{ratio:.3f} (limits {TURNCOAT_WITHIN:g} capacities and {TURNCOAT_LIMIT:g})"
    )
    held = ratio <= TURNCOAT_LIMIT and cost <= TURNCOAT_LIMIT and after <= TURNCOAT_WITHIN
    return Verdict("turncoat", held, text)


def _poisoned(result: ActResult) -> Verdict:
    ratio = _ratio(result)
    text = (
        f"poisoned models placed {result.model_share:.1%} of the blocks and ended in "
        f"{result.final[PLACEMENT]}; cost {ratio:.3f} of the default's (limit {POISONED_LIMIT:g})"
    )
    return Verdict("poisoned", ratio <= POISONED_LIMIT, text)


VERDICTS = {
    "learn": _learn,
    "uniform": _uniform,
    "turncoat": _turncoat,
    "poisoned": _poisoned,
}


def conclude(results: Mapping[str, Any], feed: FeedCount) -> DemoOutcome:
    """Say what the acts have shown."""
    verdicts = [judge(results[name]) for name, judge in VERDICTS.items()]
    return DemoOutcome(
        verdicts=verdicts,
        table=summary_of(results, verdicts, LEADS),
        report=report_of(
            results, verdicts, feed, TITLES, leads=LEADS, turned={"turncoat": TURNS_BAD_AT}
        ),
        data={"parts": {name: _plain(result) for name, result in results.items()}},
    )


def _plain(result: ActResult) -> dict[str, Any]:
    return {
        "workload": result.workload,
        "segments": result.segments,
        "segment_blocks": result.segment_blocks,
        "written_blocks": result.written,
        "write_amplification": result.whole,
        "write_amplification_last_third": result.late,
        "write_amplification_since_poison": result.since_poison,
        "ratio_default": _ratio(result),
        "model_share": result.model_share,
        "mode_share": result.mode_share,
        "final_modes": result.final,
        "mode_changes": [
            {
                "proxy": event.proxy,
                "at_capacities": event.at / result.capacity,
                "old": event.old,
                "new": event.new,
                "reason": event.reason,
            }
            for events in result.modes.values()
            for event in events
        ],
        "cpu_seconds": result.cpu_seconds,
    }


DEMO = Demo(
    name="lfs",
    description="Models learn where a log-structured store should put its blocks.",
    parts=parts,
    conclude=conclude,
)
