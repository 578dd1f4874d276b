"""Where things are by default. Light: `mlproxy status` reads this on every call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ("SYSTEM_FILE", "config_file", "default_socket", "default_state_dir")

SYSTEM_FILE = Path("/etc/mlproxy/mlproxy.toml")


def config_file(given: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The main configuration file: `--config`, $MLPROXY_CONFIG, or the system's if it exists."""
    if given:
        return Path(given)
    if environ.get("MLPROXY_CONFIG"):
        return Path(environ["MLPROXY_CONFIG"])
    return SYSTEM_FILE if SYSTEM_FILE.exists() else None


def default_state_dir(environ: Mapping[str, str] = os.environ) -> str:
    """Root: /var/lib/mlproxy; others: $XDG_STATE_HOME/mlproxy."""
    if os.geteuid() == 0:
        return "/var/lib/mlproxy"
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "/")) / ".local/state")
    return str(Path(base) / "mlproxy")


def default_socket(environ: Mapping[str, str] = os.environ, state_dir: str | None = None) -> str:
    """Root: /run/mlproxy; others: $XDG_RUNTIME_DIR/mlproxy; else the state directory.

    A state directory that was configured keeps its own socket, so that two daemons
    with two state directories do not meet.
    """
    if state_dir:
        return str(Path(state_dir) / "control.sock")
    if environ.get("XDG_RUNTIME_DIR"):
        return str(Path(environ["XDG_RUNTIME_DIR"]) / "mlproxy" / "control.sock")
    if os.geteuid() == 0:
        return "/run/mlproxy/control.sock"
    return str(Path(default_state_dir(environ)) / "control.sock")
