"""`mlproxy config check|show|sample|schema`."""

from __future__ import annotations

from typing import Any

import click

from mlproxy.cli.exit import ExitCode
from mlproxy.cli.options import config_options, json_option, source_of
from mlproxy.cli.output import print_error, print_json

__all__ = ("group",)


@click.group(name="config")
def group() -> None:
    """Check, show and sample the configuration."""


@group.command(name="check")
@config_options
@json_option
def check(*, config_path: str | None, options: tuple[str, ...], as_json: bool) -> int:
    """Validate the whole configuration; every problem at once, exit status 78."""
    from mlproxy.config.load import load
    from mlproxy.errors import ConfigError

    source = source_of(config_path, options)
    try:
        _, registry = load(source)
    except ConfigError as error:
        if as_json:
            problems = [p.as_dict() for p in error.problems]
            print_json({"schema": 1, "ok": False, "problems": problems})
        else:
            print_error(error)
        return ExitCode.CONFIG
    broken = [r for r in registry.records if r.state == "quarantined"]
    for record in broken:
        click.echo(f"warning[{record.code}]: plugin {record.name}: {record.reason}", err=True)
    if as_json:
        print_json({"schema": 1, "ok": True, "problems": []})
    else:
        click.echo(f"{source.path or 'the defaults'}: ok")
    return ExitCode.OK


@group.command(name="show")
@config_options
@click.option("--origin", is_flag=True, help="Say where each value came from.")
@json_option
def show(*, config_path: str | None, options: tuple[str, ...], origin: bool, as_json: bool) -> None:
    """Print every key in force; secrets are hidden."""
    from mlproxy.config.load import load
    from mlproxy.config.sample import toml_value
    from mlproxy.config.show import shown

    rows: list[dict[str, Any]] = shown(*load(source_of(config_path, options)))
    if as_json:
        print_json({"schema": 1, "keys": rows})
        return
    for row in rows:
        unset = row["value"] is None
        text = (
            f"# {row['key']} is not set" if unset else f"{row['key']} = {toml_value(row['value'])}"
        )
        click.echo(f"{text}  # {row['origin']}" if origin and not unset else text)


@group.command(name="sample")
@click.argument("plugin", required=False)
@config_options
def sample(*, plugin: str | None, config_path: str | None, options: tuple[str, ...]) -> None:
    """Print a commented configuration with every option (of one plugin: its own)."""
    from mlproxy.config.load import plugin_settings
    from mlproxy.config.sample import sample_text
    from mlproxy.plugin.discover import discover

    plugins, seconds = plugin_settings(source_of(config_path, options))
    registry = discover(plugins.allow, plugins.deny, deadline=seconds)
    click.echo(sample_text(registry, plugin), nl=False)


@group.command(name="schema")
@config_options
def schema(*, config_path: str | None, options: tuple[str, ...]) -> None:
    """Print the JSON Schema of the configuration, plugins included."""
    from mlproxy.config.load import plugin_settings
    from mlproxy.config.schema import json_schema
    from mlproxy.plugin.discover import discover

    plugins, seconds = plugin_settings(source_of(config_path, options))
    print_json(json_schema(discover(plugins.allow, plugins.deny, deadline=seconds)))
