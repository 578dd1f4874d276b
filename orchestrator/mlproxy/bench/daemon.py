"""What a daemon costs that has nothing to do: CPU and memory, from /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from mlproxy.app.client import ControlClient
from mlproxy.errors import ControlError

__all__ = ("footprint",)

_START_SECONDS: Final = 60.0
_SETTLE_SECONDS: Final = 2.0
_QUICK_SECONDS: Final = 3.0
_FULL_SECONDS: Final = 20.0


def _cpu_seconds(pid: int) -> float:
    # The command's name, in brackets, may hold spaces; utime and stime follow as 12th, 13th.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ControlError(f"process {pid} has ended", code="control.not_running")


def _wait_until_ready(process: subprocess.Popen[bytes], socket: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            with ControlClient(str(socket)) as client:
                client.call("status")
        except ControlError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def footprint(quick: bool = False) -> dict[str, float]:
    """Start a daemon without subsystems, with its embedded broker and feed, and watch it.

    Returns:
        `idle_cpu_percent` of one core and `rss_mib`, resident memory.

    Raises:
        ControlError: when the daemon does not come up.
    """
    seconds = _QUICK_SECONDS if quick else _FULL_SECONDS
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "control.sock"
        options = {
            "daemon.state_dir": folder,
            "daemon.socket": str(socket),
            "daemon.log_level": "error",
            "plugins.allow": "[]",
        }
        arguments = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        code = "import sys; from mlproxy.cli import main; main(sys.argv[1:])"
        process = subprocess.Popen([sys.executable, "-c", code, "run", *arguments])  # noqa: S603
        try:
            _wait_until_ready(process, socket)
            time.sleep(_SETTLE_SECONDS)
            before, began = _cpu_seconds(process.pid), time.monotonic()
            time.sleep(seconds)
            used = _cpu_seconds(process.pid) - before
            elapsed = time.monotonic() - began
            rss = _rss_mib(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
    return {"idle_cpu_percent": round(100 * used / elapsed, 2), "rss_mib": round(rss, 1)}
