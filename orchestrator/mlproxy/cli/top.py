"""`mlproxy top`: the proxies of a running daemon, live."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import click

from mlproxy.cli.options import socket_option, socket_path

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ("ControlSource", "StatusSource", "command", "watch")


class StatusSource(Protocol):
    """Where status documents come from."""

    def status(self) -> Mapping[str, Any]:
        """The daemon's picture of itself, as of now.

        Raises:
            ControlError: when the daemon is away.
        """


def watch(
    source: StatusSource,
    console: Console,
    *,
    interval: float,
    once: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show the status again and again until interrupted or the daemon is gone.

    Args:
        source: asked once per `interval`.
        console: where to; when it is no terminal, the status is printed once.
        interval: seconds between two pictures.
        once: print one picture and return.
        sleep: how to wait.

    Raises:
        ControlError: when the daemon is away; the last picture stays readable.
    """
    from mlproxy.report.live import render

    picture = render(source.status(), console.width)
    if once or not console.is_terminal:
        console.print(picture)
        return
    from rich.live import Live

    try:
        with (
            contextlib.suppress(KeyboardInterrupt),
            Live(picture, console=console, screen=True, auto_refresh=False) as live,
        ):
            while True:
                live.refresh()
                sleep(interval)
                picture = render(source.status(), console.width)
                live.update(picture)
    finally:
        console.print(picture)


class ControlSource:
    """Status documents over the control socket, one connection per question."""

    def __init__(self, path: str) -> None:
        self._path = path

    def status(self) -> Mapping[str, Any]:
        """Ask the daemon; raises ControlError when it is away."""
        from mlproxy.app.client import ControlClient

        with ControlClient(self._path) as client:
            answer: Mapping[str, Any] = client.call("status")
            return answer


@click.command("top")
@socket_option
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between two pictures.",
)
@click.option("--once", is_flag=True, help="Print one picture and exit.")
def command(socket: str | None, config_path: str | None, interval: float, once: bool) -> None:
    """Watch the proxies and models of a running daemon live.

    Mode and the reason for it, both arms' mean cost, the model's saving with
    its confidence bound, champion, drift, rejected recommendations, feed. Ends
    with Ctrl-C. Without a terminal the picture is printed once.

    Exit status: 0, or 3 when no daemon runs.
    """
    from rich.console import Console

    source = ControlSource(socket_path(socket, config_path))
    watch(source, Console(highlight=False), interval=interval, once=once)
