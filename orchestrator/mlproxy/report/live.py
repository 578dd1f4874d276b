"""The live view of a daemon, as a picture of one status document.

`render` is a pure function: what `mlproxy top` shows again and again, and what
it prints once where there is no terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from mlproxy.report.model import MODES
from mlproxy.report.scale import number

__all__ = ("MODE_STYLES", "render")

MODE_STYLES = {
    "emergency": "bold red",
    "learning": "bold yellow",
    "collaboration": "bold blue",
    "trusted": "bold green",
}
_GOOD_STATES = ("starting", "running", "done", "stopped")
_LABEL = 12  # width of the names of lines
_MOST = 3  # lines that one piece may take
_BAD, _WARN = "not dim bold red", "not dim yellow"
_Piece = tuple[str, str]  # text and style


def render(status: Mapping[str, Any], width: int = 80) -> RenderableType:
    """The status document of a daemon for people.

    Args:
        status: what the control socket answers to `status`. What is missing is
            left out or shown as "-", so that an older daemon can be watched.
        width: columns of the terminal.

    Returns:
        Something for a rich console; every line fits into `width`.
    """
    parts: list[RenderableType] = [*_head(status, width), *_feed(status.get("feed"), width)]
    parts.extend(_plugins(status.get("plugins") or (), width))
    subsystems = status.get("subsystems") or {}
    for name, subsystem in subsystems.items():
        parts.append(Rule(style="dim", characters="─"))
        parts.extend(_subsystem(name, subsystem, width))
        proxies = subsystem.get("proxies") or {}
        for i, proxy in enumerate(proxies):
            if i:
                parts.append(Text(""))
            parts.extend(_proxy(proxy, proxies[proxy], width))
    if not subsystems:
        parts += [Rule(style="dim", characters="─"), Text("no subsystems", style="dim")]
    return Group(*parts)


def _clean(value: object) -> str:
    """Text from elsewhere without anything that could steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(value))


def _lines(label: str, pieces: Sequence[_Piece], width: int) -> list[Text]:
    """`label` in its column, then pieces, two blanks apart, as many as fit in a line."""
    lines = [Text(f"{label:<{_LABEL}}", style="dim")]
    room = max(width - _LABEL, 8)
    fitting = [
        (part, style) for content, style in pieces for part in wrap(content, room)[:_MOST] or [""]
    ]
    for i, (content, style) in enumerate(fitting):
        if i and lines[-1].cell_len + 2 + len(content) > width:
            lines.append(Text(" " * _LABEL))
        elif i:
            lines[-1].append("  ")
        # a style of its own, so that the label's does not spread
        lines[-1].append(content, style=style or "not dim")
    return lines


def _head(status: Mapping[str, Any], width: int) -> list[Text]:
    started = str(status.get("started_at") or "-")[:19].replace("T", " ")
    health = _clean(status.get("health") or "-")
    pieces = [
        (_clean(status.get("node") or "-"), "not dim bold"),
        (health, "" if health == "ok" else _BAD),
        (f"since {_clean(started)}", ""),
        (f"pid {_clean(status.get('pid', '-'))}", ""),
        (f"version {_clean(status.get('version', '-'))}", ""),
    ]
    lines = _lines("mlproxy", pieces, width)
    if status.get("emergency"):
        lines += _lines("", [("EMERGENCY by the operator: default logic only", _BAD)], width)
    return lines


def _feed(feed: Mapping[str, Any] | None, width: int) -> list[Text]:
    if not feed or "connected" not in feed:
        state = _clean((feed or {}).get("state") or "none")
        return _lines("feed", [(state, _BAD if state == "down" else "")], width)
    dropped = _total(feed.get("dropped"))
    pieces = [
        ("connected", "not dim green") if feed["connected"] else ("away", _BAD),
        (_clean(feed.get("broker") or "-"), ""),
        (f"sent {_total(feed.get('sent'))}", ""),
        (f"spooled {_total(feed.get('spooled'))}", ""),
        (f"dropped {dropped}", _BAD if dropped else ""),
    ]
    return _lines("feed", pieces, width)


def _total(count: object) -> int:
    """A number, or the sum over the classes of messages."""
    if isinstance(count, Mapping):
        return sum(_total(part) for part in count.values())
    return int(count) if isinstance(count, int | float) else 0


def _plugins(plugins: Sequence[Mapping[str, Any]], width: int) -> list[Text]:
    """Only those that are out of order."""
    lines = []
    for one in plugins:
        if one.get("state") == "quarantined":
            what = f"{one.get('name')} quarantined in {one.get('phase')} [{one.get('code')}]"
            pieces = [(_clean(what), _BAD), (_clean(one.get("reason", "")), "")]
            lines += _lines("plugin", pieces, width)
    return lines


def _subsystem(name: str, subsystem: Mapping[str, Any], width: int) -> list[Text]:
    state = _clean(subsystem.get("state") or "-")
    pieces = [
        (_clean(name), "not dim bold"),
        (state, "" if state in _GOOD_STATES else _BAD),
        (f"steps {number(subsystem.get('steps'))}", ""),
        (f"restarts {subsystem.get('restarts', 0)}", ""),
    ]
    lines = _lines("subsystem", pieces, width)
    failure = subsystem.get("failure")
    if failure:
        what = f"in {failure.get('phase')}: [{failure.get('code')}] {failure.get('message')}"
        lines += _lines("", [(_clean(what), _BAD)], width)
    return lines


def _proxy(name: str, state: Mapping[str, Any], width: int) -> list[Text]:
    mode = _clean(state.get("mode", "-"))
    title = Text(_clean(name), style="bold")
    title.append("  ")
    title.append(mode.upper(), style=MODE_STYLES.get(mode, "bold"))
    for key, text in (("latched", "latched"), ("operator_hold", "held by operator")):
        if state.get(key):
            title.append(f"  [{text}]", style="bold red")
    title.truncate(width, overflow="ellipsis")
    return [
        title,
        *_mode_line(state, width),
        *_evidence("twin", state.get("twin"), width),
        *_evidence("trial", state.get("trial"), width),
        *_models(state, width),
        *_counters(state, width),
        *_metrics(state.get("metrics") or {}, width),
    ]


def _mode_line(state: Mapping[str, Any], width: int) -> list[Text]:
    at, since = state.get("at"), state.get("mode_since")
    inside = number(at - since) if isinstance(at, int) and isinstance(since, int) else "-"
    pieces = [
        (f"{_clean(state.get('reason') or '-')}, for {inside} since {number(since)}", ""),
        (f"guard {_clean(state.get('guard') or '-')}", ""),
    ]
    shares = state.get("mode_share") or {}
    known = [(f"{mode} {shares[mode]:.0%}", "") for mode in MODES if shares.get(mode)]
    lines = _lines("  mode", pieces, width)
    return lines + _lines("  time in", known, width) if known else lines


def _evidence(label: str, evidence: Mapping[str, Any] | None, width: int) -> list[Text]:
    """Both arms' mean cost, and the saving with its bound."""
    if not evidence or not (evidence.get("default_count") or evidence.get("model_count")):
        return _lines(f"  {label}", [("no comparison yet", "")], width)
    saving, lower, upper = (
        float(evidence.get(f"{key}_ratio") or 0.0) for key in ("saving", "lower", "upper")
    )
    style = "not dim green" if lower > 0 else "not dim red" if upper < 0 else ""
    pieces = [
        (f"default {number(evidence.get('default_mean'))}", ""),
        (f"model {number(evidence.get('model_mean'))}", ""),
        (f"saving {saving:+.1%} ({lower:+.1%} to {upper:+.1%})", style),
        (f"n {evidence.get('default_count', 0)}/{evidence.get('model_count', 0)}", ""),
    ]
    return _lines(f"  {label}", pieces, width)


def _models(state: Mapping[str, Any], width: int) -> list[Text]:
    champion = _clean(state.get("champion") or "none")
    models = state.get("models") or {}
    drifts = int(state.get("drifts") or 0)
    pieces = [
        (champion, "not dim bold" if champion != "none" else ""),
        (f"version {state.get('model_version', 0)}", ""),
        (f"drift {drifts}", _WARN if drifts else ""),
    ]
    rivals = len(models) - (champion in models)
    if rivals > 0:
        pieces.append((f"{rivals} challenger{'s' if rivals > 1 else ''}", ""))
    return _lines("  champion", pieces, width)


def _counters(state: Mapping[str, Any], width: int) -> list[Text]:
    rejected = {_clean(k): int(v) for k, v in (state.get("rejected") or {}).items() if v}
    total = sum(rejected.values())
    why = ", ".join(f"{key} {value}" for key, value in sorted(rejected.items()))
    lost = int(state.get("ring_lost") or 0)
    trips = int(state.get("trips") or 0)
    decisions = state.get("decisions") or {}
    acted = number(decisions.get("model", 0))
    pieces = [
        (f"model {acted} of {number(sum(decisions.values()))}", ""),
        (f"accepted {state.get('accepted', 0)}", ""),
        (f"rejected {total}" + (f" ({why})" if why else ""), _WARN if total else ""),
        (f"fallbacks {state.get('fallbacks', 0)}", ""),
        (f"trips {trips}", _WARN if trips else ""),
    ]
    if lost:
        pieces.append((f"ring lost {lost}", _BAD))
    return _lines("  acted", pieces, width)


def _metrics(metrics: Mapping[str, float], width: int) -> list[Text]:
    """The plugin's own numbers, as many as go into two lines."""
    pieces = [(f"{_clean(key)} {number(value)}", "") for key, value in sorted(metrics.items())]
    return _lines("  numbers", pieces, width)[:2] if pieces else []
