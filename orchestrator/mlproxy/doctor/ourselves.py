"""mlproxy's own parts: configuration, state directory, broker, plugins, a running daemon."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from mlproxy.config.load import Config, Source, load
from mlproxy.config.model import DaemonConfig, FeedConfig
from mlproxy.doctor.finding import Finding
from mlproxy.errors import ConfigError
from mlproxy.plugin.registry import Registry

__all__ = ("broker", "configuration", "plugins", "read_configuration", "state_directory")

BROKER_SECONDS = 3.0


def read_configuration(source: Source) -> tuple[Config, Registry] | ConfigError:
    """The configuration with the plugins, or what is wrong with it."""
    try:
        return load(source)
    except ConfigError as error:
        return error


def configuration(source: Source, found: tuple[Config, Registry] | ConfigError) -> Finding:
    """Whether it is valid."""
    path = str(source.path) if source.path else "no file: defaults"
    if isinstance(found, ConfigError):
        count = len(found.problems)
        return Finding(
            "configuration",
            "unusable",
            f"{path}, {count} problem{'s' if count != 1 else ''}",
            "the daemon will not start; below, the defaults are assumed",
            "mlproxy config check",
        )
    return Finding("configuration", "ok", path, "the daemon can start with it")


def state_directory(daemon: DaemonConfig) -> Iterator[Finding]:
    """Where things are kept, and what a dead daemon has left to put back."""
    path = Path(daemon.state_dir)
    near = next((p for p in (path, *path.parents) if p.exists()), path)
    if not os.access(near, os.W_OK | os.X_OK):
        yield Finding(
            "state",
            "unusable",
            f"{path}: {near} cannot be written",
            "the daemon will not start as this user",
            "run as root, or set daemon.state_dir",
        )
        return
    yield Finding("state", "ok", str(path), "can be written")
    left = sorted(p.name for p in _listed(path / "knob-journal"))
    journals = [name.removesuffix(".json") for name in left if name.endswith(".json")]
    damaged = [name for name in left if name.endswith(".damaged")]
    if damaged:
        yield Finding(
            "journals",
            "unusable",
            f"{', '.join(damaged)} in {path / 'knob-journal'}",
            "what an earlier daemon left in those tunables was not put back",
            "look at the tunables that they name, then remove the files",
        )
    if journals:
        yield Finding(
            "journals",
            "ok",
            f"of {', '.join(journals)}",
            "a running daemon holds these, or the next start puts back what they name",
        )


def _listed(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError:
        return []


def broker(feed: FeedConfig) -> Finding:
    """Whether the feed's broker answers."""
    if not feed.enabled:
        return Finding("broker", "missing", "feed.enabled is false", "there is no feed")
    if feed.host is None:
        where = f"127.0.0.1:{feed.embedded_port}"
        return Finding("broker", "ok", "none configured", f"one runs inside the daemon, on {where}")
    where = f"{feed.host}:{feed.port}"
    try:
        with socket.create_connection((feed.host, feed.port), BROKER_SECONDS):
            pass
    except OSError as error:
        return Finding(
            "broker",
            "unusable",
            f"{where}: {error.strerror or error}",
            "events wait in the spool on disk until it is there",
            "is it up, and does feed.host name it?",
        )
    return Finding("broker", "ok", where, "takes connections")


def plugins(registry: Registry) -> Iterator[Finding]:
    """What became of each installed plugin."""
    if not registry.records:
        yield Finding(
            "plugins", "missing", "none installed", "nothing to run", "mlproxy plugins list"
        )
    for record in registry.records:
        name = f"plugin {record.name}"
        what = f"{record.distribution} {record.version}"
        brings = ", ".join((*record.subsystems, *record.decisions)) or "nothing"
        if record.state == "loaded":
            yield Finding(name, "ok", what, f"brings {brings}")
        elif record.state == "quarantined":
            found = f"{what}: [{record.code}] {record.reason}"
            yield Finding(name, "unusable", found, "it is left out", record.hint)
        else:
            yield Finding(name, "missing", f"{what}, {record.state}", "it is left out")
