"""`mlproxy version`."""

from __future__ import annotations

import platform

import click

from mlproxy import __version__
from mlproxy.cli.options import json_option
from mlproxy.cli.output import print_json

__all__ = ("command",)


@click.command(name="version")
@json_option
def command(*, as_json: bool) -> None:
    """Print the version."""
    if as_json:
        from mlproxy.hookspecs import API_VERSION

        print_json(
            {
                "schema": 1,
                "version": __version__,
                "plugin_api": ".".join(map(str, API_VERSION)),
                "python": platform.python_version(),
                "kernel": platform.release(),
            }
        )
    else:
        click.echo(f"mlproxy {__version__}")
