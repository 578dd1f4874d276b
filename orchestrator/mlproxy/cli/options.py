"""Options that several commands share."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ("config_options", "json_option", "socket_option", "socket_path", "source_of")

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """`--json`: one JSON document on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(
        function
    )


def config_options(function: F) -> F:
    """`--config FILE` and `-o KEY=VALUE`."""
    function = click.option(
        "-o",
        "--option",
        "options",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set a key, stronger than files and environment; may be repeated.",
    )(function)
    return click.option(
        "--config",
        "config_path",
        type=click.Path(dir_okay=False),
        help="Configuration file; conf.d/*.toml beside it is read too.",
    )(function)


def socket_option(function: F) -> F:
    """`--socket PATH` and `--config FILE`, to find a running daemon."""
    function = click.option(
        "--socket", "socket", metavar="PATH", help="Control socket of the daemon."
    )(function)
    return click.option(
        "--config",
        "config_path",
        type=click.Path(dir_okay=False),
        help="Configuration file that names the socket.",
    )(function)


def source_of(config_path: str | None, options: tuple[str, ...]) -> Any:
    """The Source that the options mean."""
    from mlproxy.config.load import Source
    from mlproxy.config.paths import config_file

    return Source(config_file(config_path), tuple(options))


def socket_path(socket: str | None, config_path: str | None) -> str:
    """Where the daemon listens: option, $MLPROXY_SOCKET, configuration, default.

    Reads the layers without validating them, so it needs no plugin and no pydantic.
    """
    from mlproxy.config.layers import merge, read_layers
    from mlproxy.config.paths import config_file, default_socket, default_state_dir

    if socket:
        return socket
    if os.environ.get("MLPROXY_SOCKET"):
        return os.environ["MLPROXY_SOCKET"]
    daemon: Any = {}
    try:
        layers = read_layers(config_file(config_path), os.environ, (), [])
        daemon = merge(layers).data.get("daemon", {})
    except (OSError, tomllib.TOMLDecodeError):  # pragma: no cover - `config check` tells
        pass
    if not isinstance(daemon, dict):
        daemon = {}
    if daemon.get("socket"):
        return str(daemon["socket"])
    state_dir = daemon.get("state_dir")
    same = state_dir is None or Path(str(state_dir)) == Path(default_state_dir())
    return default_socket(state_dir=None if same else str(state_dir))
