"""A program of the bench in a control group of its own, to be let run and held."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Final, Self

__all__ = ("Held",)

GROUP: Final = Path("/sys/fs/cgroup/mlproxy-bench")


class Held:
    """A program and all that it starts, frozen but for moments (cgroup v2 freezer).

    Signals would not do: fio's jobs leave the process group.

    Args:
        words: the program.
    """

    def __init__(self, *words: str) -> None:
        GROUP.mkdir(exist_ok=True)
        script = f'echo $$ > {GROUP}/cgroup.procs && exec "$@"'
        self._process = subprocess.Popen(["/bin/sh", "-c", script, "sh", *words])  # noqa: S603

    def run_for(self, seconds: float) -> None:
        """Let it run."""
        (GROUP / "cgroup.freeze").write_text("0")
        time.sleep(seconds)
        (GROUP / "cgroup.freeze").write_text("1")

    @property
    def status(self) -> int | None:
        """How it ended; None: it has not."""
        return self._process.poll()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        (GROUP / "cgroup.freeze").write_text("0")
        (GROUP / "cgroup.kill").write_text("1")
        self._process.wait()
        while "populated 1" in (GROUP / "cgroup.events").read_text(encoding="ascii"):
            time.sleep(0.05)
        GROUP.rmdir()
