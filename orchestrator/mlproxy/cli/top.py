"""`mlproxy top`: the proxies of a running daemon, live."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import click

from mlproxy.errors import ControlError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ("StatusSource", "command", "watch")

_EXIT_NOT_RUNNING = 3


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


class _ControlSource:
    """Status documents over the control socket, one connection per question."""

    def __init__(self, path: str) -> None:
        self._path = path

    def status(self) -> Mapping[str, Any]:
        from mlproxy.app.client import ControlClient

        with ControlClient(self._path) as client:
            answer: Mapping[str, Any] = client.call("status")
            return answer


@click.command("top")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between two pictures.",
)
@click.option("--once", is_flag=True, help="Print one picture and exit.")
@click.option("--socket", type=click.Path(), help="Control socket; else the daemon's default.")
@click.pass_context
def command(ctx: click.Context, interval: float, once: bool, socket: str | None) -> None:
    """Show the proxies of the running daemon, live.

    Mode and the reason for it, both arms' mean cost, the model's saving with
    its confidence bound, champion, drift, rejected recommendations, feed. Ends
    with Ctrl-C. Without a terminal the picture is printed once. The exit
    status is 3 when no daemon is there.
    """
    from rich.console import Console

    try:
        watch(_source(socket), Console(highlight=False), interval=interval, once=once)
    except ControlError as error:
        click.echo(str(error), err=True)
        ctx.exit(_EXIT_NOT_RUNNING)


def _source(socket: str | None) -> StatusSource:
    from mlproxy.config.paths import default_socket

    return _ControlSource(socket or default_socket())
