"""`mlproxy run` with one plugin, as a process that cases kill, stop and ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlproxy.app.client import ControlClient
from mlproxy.errors import ControlError


class Daemon:
    """The daemon.

    Args:
        folder: for its state, socket and log.
        plugin: the only one that is allowed; its subsystem and proxy have the same name.
        options: as for `-o`.
        guard: `[daemon] guard`.
    """

    def __init__(
        self, folder: Path, plugin: str, options: Sequence[str], *, guard: str = "kernel"
    ) -> None:
        self.plugin = plugin
        self.socket = str(folder / "control.sock")
        self.log = folder / "daemon.log"
        settings = [
            *("feed.enabled=false", f'plugins.allow=["{plugin}"]', f"daemon.guard={guard}"),
            *("daemon.import_seconds=300.0", "daemon.start_seconds=300.0"),
            *("daemon.step_seconds=60.0", f"daemon.state_dir={folder}/state"),
            *(f"daemon.socket={self.socket}", "daemon.log_format=json"),
            f"subsystem.{plugin}.enabled=true",
            *options,
        ]
        arguments = [part for option in settings for part in ("-o", option)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlproxy", "run", *arguments],
                stderr=log,
                env=os.environ | {"MLPROXY_PLUGINS": plugin},
            )

    def call(self, verb: str, **arguments: Any) -> Any:
        """Ask it."""
        with ControlClient(self.socket, timeout=60) as client:
            return client.call(verb, **arguments)

    @property
    def subsystem(self) -> dict[str, Any]:
        """What `status` says of the plugin's subsystem; empty while nobody answers."""
        nothing: dict[str, Any] = {"proxies": {}, "failure": None, "state": "", "critical": {}}
        try:
            found: dict[str, Any] = self.call("status")["subsystems"].get(self.plugin, nothing)
        except ControlError:
            return nothing
        return found

    @property
    def proxy(self) -> dict[str, Any]:
        """The same of its proxy."""
        nothing = {"mode": "", "reason": "", "metrics": {}}
        found: dict[str, Any] = self.subsystem["proxies"].get(self.plugin, nothing)
        return found

    def events(self, what: str) -> list[dict[str, Any]]:
        """Lines of its log."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{")
        return [line for line in lines if line.get("event") == what]
