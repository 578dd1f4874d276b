"""Command groups that import a command when it is used, not before."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from mlproxy.errors import PluginError

__all__ = ("LazyGroup", "subgroup")

ASKED = "mlproxy.plugins-asked"


class LazyGroup(click.Group):
    """A click group with commands named as `module:attribute`.

    Args:
        lazy: command name -> (`module:attribute`, one line of help).
        plugins: also ask plugins for commands, when one is not known or for `--help`
            (not for shell completion, which must be quick).
        args: for click.
        kwargs: for click.
    """

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, tuple[str, str]] | None = None,
        plugins: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy or {})
        self._plugins = plugins

    def _ask_plugins(self, ctx: click.Context) -> None:
        root = ctx.find_root()
        if self._plugins and isinstance(root.command, click.Group) and ASKED not in root.meta:
            root.meta[ASKED] = True
            from mlproxy.cli.extend import add_plugin_commands

            add_plugin_commands(root.command)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names of the known commands, sorted."""
        return sorted({*self._lazy, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name in self._lazy and cmd_name not in self.commands:
            module_name, _, attribute = self._lazy[cmd_name][0].partition(":")
            try:
                module = importlib.import_module(module_name)
            except ModuleNotFoundError as error:
                if error.name != module_name:
                    raise
                return None
            self.add_command(getattr(module, attribute), cmd_name)
        command = self.commands.get(cmd_name)
        if command is None:
            self._ask_plugins(ctx)
            command = self.commands.get(cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in `--help`, without importing them."""
        self._ask_plugins(ctx)
        rows = []
        for name in sorted({*self._lazy, *self.commands}):
            command = self.commands.get(name)
            if command is not None and command.hidden:
                continue
            text = self._lazy[name][1] if name in self._lazy else ""
            rows.append((name, text or (command.get_short_help_str() if command else "")))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def subgroup(cli: click.Group, name: str) -> click.Group:
    """The group `name` of the command line, for plugins that add commands to it.

    Raises:
        PluginError: `plugin.no_such_group`.
    """
    context = click.Context(cli)
    context.meta[ASKED] = True
    command = cli.get_command(context, name)
    if not isinstance(command, click.Group):
        raise PluginError(
            f"mlproxy has no group {name!r}",
            code="plugin.no_such_group",
            hint="add a command of your own with cli.add_command",
        )
    return command
