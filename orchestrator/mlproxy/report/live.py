"""The live view of a daemon, as a picture of one status document.

`render` is a pure function: what `mlproxy top` shows again and again, and what
it prints once where there is no terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from mlproxy.report.model import MODES
from mlproxy.report.scale import number

__all__ = ("MODE_STYLES", "duration", "render")

MODE_STYLES = {
    "emergency": "bold red",
    "learning": "bold yellow",
    "collaboration": "bold blue",
    "trusted": "bold green",
}
_GOOD_STATES = ("running", "done", "stopped")
_LABEL = 12  # width of the names of lines
_BAD, _WARN = "not dim bold red", "not dim yellow"
_Piece = tuple[str, str]  # text and style


def render(status: Mapping[str, Any], width: int = 80) -> RenderableType:
    """The status document of a daemon for people.

    Args:
        status: what the control socket answers: `node`, `uptime_seconds`,
            `feed`, `subsystems` and `proxies` (each a StateMessage as a
            dictionary). What is missing is left out or shown as "-".
        width: columns of the terminal.

    Returns:
        Something for a rich console; every line fits into `width`.
    """
    parts: list[RenderableType] = [*_head(status, width), *_feed(status.get("feed"), width)]
    subsystems = status.get("subsystems") or ()
    if subsystems:
        parts.extend(_subsystems(subsystems, width))
    proxies = status.get("proxies") or {}
    for name in sorted(proxies):
        parts.append(Rule(style="dim", characters="─"))
        parts.extend(_proxy(name, proxies[name], width))
    if not proxies:
        parts += [Rule(style="dim", characters="─"), Text("no proxies", style="dim")]
    return Group(*parts)


def duration(seconds: float | None) -> str:
    """Seconds for people, two units at most.

    >>> [duration(s) for s in (0.4, 59, 192, 7_260, 900_000, None)]
    ['0s', '59s', '3m 12s', '2h 1m', '10d 10h', '-']
    """
    if seconds is None:
        return "-"
    left = int(seconds)
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0s"


def _clean(value: object) -> str:
    """Text from elsewhere without anything that could steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(value))


def _lines(label: str, pieces: Sequence[_Piece], width: int) -> list[Text]:
    """`label` in its column, then pieces, two blanks apart, as many as fit in a line."""
    lines = [Text(f"{label:<{_LABEL}}", style="dim")]
    for i, (content, style) in enumerate(pieces):
        if i and lines[-1].cell_len + 2 + len(content) > width:
            lines.append(Text(" " * _LABEL))
        elif i:
            lines[-1].append("  ")
        room = max(width - lines[-1].cell_len, 1)
        fitting = content if len(content) <= room else content[: room - 1] + "…"
        # a style of its own, so that the label's does not spread
        lines[-1].append(fitting, style=style or "not dim")
    return lines


def _head(status: Mapping[str, Any], width: int) -> list[Text]:
    count = len(status.get("proxies") or {})
    pieces = [
        (_clean(status.get("node") or "-"), "not dim bold"),
        (f"up {duration(status.get('uptime_seconds'))}", ""),
        (f"{count} prox{'y' if count == 1 else 'ies'}", ""),
    ]
    return _lines("mlproxy", pieces, width)


def _feed(feed: Mapping[str, Any] | None, width: int) -> list[Text]:
    if not feed:
        return _lines("feed", [("off", "")], width)
    dropped = int(feed.get("dropped") or 0)
    pieces = [
        ("connected", "not dim green") if feed.get("connected") else ("away", _BAD),
        (_clean(feed.get("broker") or "-"), ""),
        (f"sent {feed.get('sent', 0)}", ""),
        (f"spooled {feed.get('spooled', 0)}", ""),
        (f"dropped {dropped}", _BAD if dropped else ""),
    ]
    return _lines("feed", pieces, width)


def _subsystems(subsystems: Sequence[Mapping[str, Any]], width: int) -> list[Text]:
    pieces = []
    for one in subsystems:
        state = _clean(one.get("state", "-"))
        style = "" if state in _GOOD_STATES else _BAD
        pieces.append((f"{_clean(one.get('name', '-'))} {state}", style))
    return _lines("subsystems", pieces, width)


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
