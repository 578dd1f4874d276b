"""`mlproxy plugins list|check`."""

from __future__ import annotations

from typing import Any

import click

from mlproxy.cli.exit import ExitCode
from mlproxy.cli.options import config_options, json_option, source_of
from mlproxy.cli.output import print_json

__all__ = ("group",)


@click.group(name="plugins")
def group() -> None:
    """List and check plugins."""


def _registry(config_path: str | None, options: tuple[str, ...]) -> Any:
    """Discover with `[plugins]` only: a mistake in another section must not hide plugins."""
    from mlproxy.config.load import plugin_settings
    from mlproxy.plugin.discover import discover

    plugins, seconds = plugin_settings(source_of(config_path, options))
    return discover(plugins.allow, plugins.deny, deadline=seconds)


@group.command(name="list")
@config_options
@json_option
def list_(*, config_path: str | None, options: tuple[str, ...], as_json: bool) -> int:
    """List the installed plugins and what became of them."""
    registry = _registry(config_path, options)
    if as_json:
        print_json({"schema": 1, "plugins": [r.as_dict() for r in registry.records]})
    elif not registry.records:
        click.echo("no plugins are installed", err=True)
    for record in [] if as_json else registry.records:
        brings = ", ".join((*record.subsystems, *record.decisions)) or "-"
        click.echo(
            f"{record.name:<16} {record.state:<12} {record.distribution} {record.version}  {brings}"
        )
        if record.state == "quarantined":
            click.echo(f"    {record.phase}: [{record.code}] {record.reason}")
            if record.hint:
                click.echo(f"    hint: {record.hint}")
    bad = any(r.state == "quarantined" for r in registry.records)
    return ExitCode.DEGRADED if bad else ExitCode.OK


@group.command(name="check")
@click.argument("name", required=False)
@config_options
@json_option
def check(
    *, name: str | None, config_path: str | None, options: tuple[str, ...], as_json: bool
) -> int:
    """Run the conformance suite on a plugin (all that are installed by default)."""
    from mlproxy.errors import PluginError
    from mlproxy.testing.check import check_registry

    registry = _registry(config_path, options)
    if name is not None and name not in {r.name for r in registry.records}:
        known = ", ".join(r.name for r in registry.records) or "none"
        raise PluginError(
            f"no plugin {name!r} is installed",
            code="plugin.unknown",
            hint=f"installed: {known}",
            plugin=name,
            phase="import",
        )
    results = check_registry(registry, name)
    if as_json:
        print_json({"schema": 1, "checks": [r.as_dict() for r in results]})
    else:
        for result in results:
            mark = "ok  " if result.ok else "FAIL"
            click.echo(f"{mark} {result.plugin}: {result.check}")
            if not result.ok:
                click.echo(f"     {result.message}")
    return ExitCode.OK if all(r.ok for r in results) else ExitCode.FAILURE
