"""The stand-by: runs stock nilfs_cleanerd whenever mlproxy does not clean.

mlproxy is gone when nobody holds its claim, and stopped or hung when it has not written into it
for a while. One that is stopped is ended for good, by SIGKILL, before another cleaner begins: it
might go on at any moment, in the middle of a cleaning.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from mlproxy.log import get_logger
from mlproxy_nilfs.errors import NilfsError
from mlproxy_nilfs.gclib import semaphore_file
from mlproxy_nilfs.lease import Beat, Lease, cleanerds, lock_path, started_at
from mlproxy_nilfs.volume import find_mount

__all__ = ("StandBy", "StandByOptions", "is_stale")

PATIENCE: Final = 30.0
"""Seconds until a child must have ended, or an ended process have given its lock back."""


@dataclass(frozen=True, slots=True)
class StandByOptions:
    """How the stand-by works.

    Attributes:
        device: the block device.
        lock_dir: as `subsystem.nilfs.lock_dir`.
        stale_seconds: mlproxy counts as stopped when it has not stepped for so long.
        config: nilfs_cleanerd's configuration file; "": its own.
        poll_seconds: between two looks.
    """

    device: str
    lock_dir: str
    stale_seconds: float = 30.0
    config: str = ""
    poll_seconds: float = 1.0


def is_stale(beat: Beat | None, now: int, seconds: float) -> bool:
    """Whether a claim's holder has not stepped for so long.

    >>> is_stale(Beat(1, 1, 10 * 10**9), 12 * 10**9, 3.0)
    False
    >>> is_stale(Beat(1, 1, 10 * 10**9), 14 * 10**9, 3.0)
    True
    """
    return beat is not None and now - beat.at > seconds * 1e9


class StandBy:
    """Looks every second; see the module.

    Args:
        options: how.
        start: starts the cleaner with the lock's file, returns its process; for tests.

    Raises:
        NilfsError: `nilfs.lock`, `nilfs.not_mounted`.
    """

    def __init__(self, options: StandByOptions, start: Callable[[int], int] | None = None) -> None:
        self.options = options
        self._start = start or self._cleanerd
        self._claim = Lease(lock_path(options.lock_dir, options.device, "claim"))
        self._active = Lease(lock_path(options.lock_dir, options.device, "active"))
        self._log = get_logger().bind(device=options.device)
        # One that an earlier stand-by left holds the lock, and goes on being ours.
        self.cleaner = next(iter(cleanerds(options.device)), 0)

    def look(self) -> None:
        """Look once, and do what is to be done.

        Raises:
            NilfsError: `nilfs.cleanerd_failed`.
        """
        claimed = self._claim.taken_by_other()
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if claimed and is_stale(self._claim.last_beat(), now, self.options.stale_seconds):
            claimed = not self._fence()
        if self.cleaner and not started_at(self.cleaner):
            self._log.warning("nilfs.cleanerd_ended", process=self.cleaner)
            self.cleaner = 0
        if claimed and self.cleaner:
            self.end()
        elif not claimed and not self.cleaner and self._lock():
            self._log.warning("nilfs.stand_by_cleans")
            # Whoever held it when he died can not give it back.
            semaphore_file(self.options.device).unlink(missing_ok=True)
            self.cleaner = self._start(self._active.fileno())
            # The lock is the cleaner's now, which has inherited the file: it goes with it.
            self._active.close()

    def run(self, over: Callable[[], bool]) -> None:
        """Look until `over`; then the cleaner ends, too."""
        while not over():
            self.look()
            time.sleep(self.options.poll_seconds)
        self.end()
        self._claim.close()
        self._active.close()

    def _lock(self) -> bool:
        if self._active.fileno() < 0:
            path = lock_path(self.options.lock_dir, self.options.device, "active")
            self._active = Lease(path)
        return self._active.take()

    def _fence(self) -> bool:
        """End a stopped mlproxy; True when its claim is free."""
        beat = self._claim.last_beat()
        if beat is None or started_at(beat.pid) != beat.started:
            return False
        with suppress(ProcessLookupError):
            process = os.pidfd_open(beat.pid)
            try:
                # Again, now that the number cannot change its owner.
                if started_at(beat.pid) == beat.started:
                    self._log.error("nilfs.fenced", code="nilfs.fenced", process=beat.pid)
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)
        end = time.monotonic() + PATIENCE
        while self._claim.taken_by_other():
            # What it does in the kernel is done to its end first.
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def end(self) -> None:
        """End the cleaner, if it runs; its lock goes with it."""
        if not self.cleaner:
            return
        self._log.info("nilfs.stand_by_ends", process=self.cleaner)
        began = started_at(self.cleaner)
        end = time.monotonic() + PATIENCE
        number = signal.SIGTERM
        while began and started_at(self.cleaner) == began:
            with suppress(ProcessLookupError):
                os.kill(self.cleaner, number)
            if time.monotonic() > end:
                number = signal.SIGKILL
            time.sleep(0.1)
        self.cleaner = 0

    def _cleanerd(self, lock: int) -> int:
        options = self.options
        words = ["nilfs_cleanerd", *(("-c", options.config) if options.config else ())]
        words += [os.path.realpath(options.device), find_mount(options.device)]
        try:
            done = subprocess.run(  # noqa: S603 - fixed program, no shell
                words,
                check=False,
                capture_output=True,
                text=True,
                pass_fds=(lock,),
                env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
            )
        except OSError as error:
            raise NilfsError(
                f"nilfs_cleanerd cannot be started: {error.strerror}",
                code="nilfs.cleanerd_failed",
                hint="install nilfs-tools",
            ) from error
        # It says so before it closes its output and goes on alone.
        said = re.search(r"NILFS_CLEANERD_PID=(\d+)", done.stdout)
        if said is None:
            raise NilfsError(
                f"nilfs_cleanerd did not start: {done.stderr.strip() or done.returncode}",
                code="nilfs.cleanerd_failed",
                hint="the system's log says more",
            )
        return int(said[1])
