"""`mlproxy status`."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import click

from mlproxy.cli.exit import ExitCode
from mlproxy.cli.options import json_option, socket_option, socket_path
from mlproxy.cli.output import color, print_json

__all__ = ("command",)

_COLORS = {
    "emergency": "red",
    "learning": "yellow",
    "collaboration": "cyan",
    "trusted": "green",
    "quarantined": "red",
    "degraded": "red",
    "ok": "green",
}


def _paint(text: str, width: int = 0) -> str:
    return click.style(text.ljust(width), fg=_COLORS.get(text)) if color() else text.ljust(width)


def _saving(evidence: dict[str, Any] | None) -> str:
    if not evidence or not evidence.get("pairs"):
        return "-"
    parts = (evidence[k] * 100 for k in ("saving_ratio", "lower_ratio", "upper_ratio"))
    return "{:+.1f}% [{:+.1f}, {:+.1f}]".format(*parts)


def render(status: dict[str, Any]) -> str:
    """The status for people."""
    lines = [
        f"mlproxy {status['version']} on {status['node']}, pid {status['pid']}, since "
        f"{status['started_at']}: {_paint(status['health'])}"
        + (", EMERGENCY by the operator" if status["emergency"] else ""),
        f"feed: {', '.join(f'{k} {v}' for k, v in status['feed'].items() if _scalar(v))}",
    ]
    lines += [
        f"plugin {p['name']}: {_paint(p['state'])} in {p['phase']} [{p['code']}] {p['reason']}"
        for p in status["plugins"]
        if p["state"] == "quarantined"
    ]
    for told in status.get("put_back", ()):
        what = f"{told['outcome']} {told['path']} {told['message']}".rstrip()
        lines.append(f"left by an earlier run, {told['proxy']}: {what}")
    for name, sub in status["subsystems"].items():
        lines.append(
            f"{name}: {_paint(sub['state'])}, {sub['steps']} steps, {sub['restarts']} restarts"
        )
        if sub["failure"]:
            failure = sub["failure"]
            lines.append(f"  in {failure['phase']}: [{failure['code']}] {failure['message']}")
        lines += [f"  CRITICAL {words}" for words in sub.get("critical", {}).values()]
        for proxy, state in sub["proxies"].items():
            latched = " LATCHED" if state["latched"] else ""
            hold = " HELD" if state["operator_hold"] else ""
            lines.append(
                f"  {proxy:<24} {_paint(state['mode'], 13)} ({state['reason']}){latched}{hold}"
            )
            lines.append(
                f"    guard {state['guard']}, champion {state['champion'] or '-'}, "
                f"saving {_saving(state['trial'])}, twin {_saving(state['twin'])}, "
                f"rejected {sum(state['rejected'].values())}"
            )
    return "\n".join(lines)


def _scalar(value: object) -> bool:
    return isinstance(value, (str, int, float, bool))


@click.command(name="status")
@socket_option
@json_option
@click.option("--watch", is_flag=True, help="Show it again and again, until interrupted.")
@click.option("--interval", default=1.0, show_default=True, help="Seconds between two looks.")
def command(
    *, socket: str | None, config_path: str | None, as_json: bool, watch: bool, interval: float
) -> int:
    """Show what a running daemon does.

    Exit status: 0 all is well, 3 no daemon runs, 4 something is in quarantine.
    """
    from mlproxy.app.client import ControlClient

    path = socket_path(socket, config_path)
    while True:
        with ControlClient(path) as client:
            status = client.call("status")
        if as_json:
            print_json(status)
        else:
            if watch and color():
                click.clear()
            click.echo(render(status))
        if not watch:
            break
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(max(0.05, interval))
            continue
        break
    return ExitCode.OK if status["health"] == "ok" else ExitCode.DEGRADED
