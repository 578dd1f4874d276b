"""`mlproxy emergency on|off [PROXY]`."""

from __future__ import annotations

import click

from mlproxy.cli.options import json_option, socket_option, socket_path
from mlproxy.cli.output import print_json

__all__ = ("command",)


@click.command(name="emergency")
@click.argument("state", type=click.Choice(["on", "off"]))
@click.argument("proxy", required=False)
@socket_option
@json_option
def command(
    *, state: str, proxy: str | None, socket: str | None, config_path: str | None, as_json: bool
) -> None:
    """Force the default logic (`on`), or release it and clear a latch (`off`).

    Without PROXY it is for all proxies, also for those that start later.
    """
    from mlproxy.app.client import ControlClient

    with ControlClient(socket_path(socket, config_path)) as client:
        result = client.call("emergency", on=state == "on", proxy=proxy)
    if as_json:
        print_json({"schema": 1} | result)
    else:
        names = ", ".join(result["proxies"]) or "no proxy is up yet"
        click.echo(f"emergency {state}: {names}")
