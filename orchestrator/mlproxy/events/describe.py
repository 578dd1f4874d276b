"""Events in words, for people."""

from __future__ import annotations

from mlproxy.events.codec import AnyEvent
from mlproxy.events.types import (
    EvidenceData,
    LossEvent,
    ModeEvent,
    ModelEvent,
    PluginEvent,
    RejectEvent,
)

__all__ = ("describe", "line")


def describe(event: AnyEvent) -> str:
    """Return what happened, on one line, without who and when.

    >>> describe(ModeEvent(proxy="lfs", old="learning", new="trusted", reason="promoted", at=1))
    'mode learning -> trusted (promoted)'
    """
    match event:
        case ModeEvent():
            text = f"mode {_step(event)} ({event.reason})"
            text += ", latched" if event.latched else ""
            text += "".join(f"; {_evidence(e)}" for e in event.evidence)
        case ModelEvent():
            text = f"model {event.what} {event.candidate}"
            text += f" (was {event.previous})" if event.previous else ""
            text += f": {event.reason}" if event.reason else ""
        case RejectEvent():
            text = f"reject {event.count} recommendations ({event.reason}), {event.total} in all"
        case PluginEvent():
            text = f"plugin {event.what}"
            text += f" in {event.phase}" if event.phase else ""
            text += ":" if event.code or event.message else ""
            text += f" [{event.code}]" if event.code else ""
            text += f" {event.message}" if event.message else ""
        case LossEvent():
            counts = ", ".join(f"{n} {kind}" for kind, n in sorted(event.dropped.items()))
            text = f"loss of {counts}"
    return _printable(text)


def _step(event: ModeEvent) -> str:
    if (event.old, event.new, event.reason) == ("learning", "learning", "promoted"):
        return "learning on the twin -> learning on real operations"
    return f"{event.old} -> {event.new}"


def line(event: AnyEvent) -> str:
    """Return the event as a line with time, node and proxy in front."""
    return _printable(f"{event.ts} {event.node} {event.proxy} ") + describe(event)


def _printable(text: str) -> str:
    # What comes from outside must not start a new line or steer the terminal.
    return "".join(c if c.isprintable() else "?" for c in text)


def _evidence(data: EvidenceData) -> str:
    return (
        f"{data.source}: saves {data.saving_ratio:+.1%} "
        f"[{data.lower_ratio:+.1%}, {data.upper_ratio:+.1%}] in {data.pairs} pairs"
    )
