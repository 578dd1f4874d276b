"""Let plugins add their commands."""

from __future__ import annotations

import click

__all__ = ("add_plugin_commands",)


def add_plugin_commands(cli: click.Group) -> None:
    """Call every plugin's `mlproxy_commands`; a broken one costs one line on stderr.

    Args:
        cli: the top-level group.
    """
    from mlproxy.plugin.discover import discover

    registry = discover()
    for record in registry.records:
        if record.state == "quarantined":
            click.echo(f"warning[{record.code}]: plugin {record.name}: {record.reason}", err=True)
    for name in registry.loaded():
        if registry.hooks.implements("mlproxy_commands", name):
            try:
                registry.hooks.commands(name, cli)
            except Exception as error:  # noqa: BLE001 - the other commands must stay usable
                click.echo(
                    f"warning[plugin.hook_failed]: plugin {name}: mlproxy_commands: {error!r}",
                    err=True,
                )
