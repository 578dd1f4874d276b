"""DAMON's sysfs: one kdamond that is ours, and nobody else's touched.

Writing `nr_kdamonds` makes all kdamond directories anew, so it is only written
while there is none. Which directory is ours is known by its inode, which a note
in the state directory keeps over a crash.
"""

from __future__ import annotations

import contextlib
import errno
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlproxy_damon.errors import DamonError
from mlproxy_damon.processes import Range

__all__ = ("NEVER", "Kdamond", "Monitoring", "Scheme")

NEVER: Final = 4_294_967_295
"""An age that no region reaches: the kernel keeps it in 32 bits."""
EVERYTHING: Final = 18_446_744_073_709_551_615
USERS: Final = ("damon_reclaim", "damon_lru_sort", "damon_stat")
"""Parts of the kernel that use DAMON, and nobody else beside them."""
TRIES: Final = 40
PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Monitoring:
    """How memory is watched.

    Attributes:
        operations: `fvaddr` (address ranges of processes) or `paddr`.
        sample_us: sampling interval.
        aggregation_us: aggregation interval.
        regions: least and largest number.
    """

    operations: str
    sample_us: int
    aggregation_us: int
    regions: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Scheme:
    """The scheme `pageout` and its rails.

    Attributes:
        min_age: aggregations without an access; NEVER: it does nothing.
        quota_bytes: in a second.
        quota_ms: processor time in a second; 0: no limit.
        free_permil: watermarks of free memory (high, mid, low); None: always on.
        pages: `all`, `anon` or `file`.
    """

    min_age: int
    quota_bytes: int
    quota_ms: int = 0
    free_permil: tuple[int, int, int] | None = None
    pages: str = "all"


class Kdamond:
    """The one kdamond of this plugin.

    Args:
        note: file that remembers which one it is.
        root: where /sys and /proc are found; for tests.
    """

    def __init__(self, note: Path, *, root: str = "/") -> None:
        self._root = Path(root)
        self._admin = self._root / "sys/kernel/mm/damon/admin/kdamonds"
        self._note = note
        self._home = self._admin / "0"
        self._inode = -1
        context = self._home / "contexts/0"
        self._context = context
        self.scheme = context / "schemes/0"
        """Directory of the scheme."""
        self.state_file = self._home / "state"
        """What starts, stops and commits."""

    @property
    def min_age_file(self) -> Path:
        """The tunable: aggregations without an access."""
        return self.scheme / "access_pattern/age/min"

    @property
    def quota_file(self) -> Path:
        """The tunable: bytes in a second."""
        return self.scheme / "quotas/bytes"

    # -- whose it is ----------------------------------------------------------------

    def acquire(self) -> None:
        """Make the kdamond, switched off.

        Raises:
            DamonError: `damon.unsupported`, `damon.foreign`, `damon.refused`.
        """
        count = self._admin / "nr_kdamonds"
        if not count.is_file():
            raise DamonError(
                f"{count} is not there",
                code="damon.unsupported",
                hint="a kernel with CONFIG_DAMON_SYSFS and CONFIG_DAMON_VADDR; run as root",
            )
        self._see_that_nobody_else_uses_it()
        if int(count.read_text(encoding="ascii")):
            if not self._left_by_us():
                raise self._foreign("it has kdamonds already")
            self._stop()
            self._write(count, "0")
        self._write(count, "1")
        self._inode = self._home.stat().st_ino
        text = json.dumps({"boot": self._boot(), "inode": self._inode})
        self._note.write_text(text, encoding="ascii")
        self._write(self._home / "contexts/nr_contexts", "1")
        self._write(self._context / "schemes/nr_schemes", "1")

    def _see_that_nobody_else_uses_it(self) -> None:
        for user in USERS:
            enabled = self._root / "sys/module" / user / "parameters/enabled"
            with contextlib.suppress(OSError):
                if enabled.read_text(encoding="ascii").strip() in ("Y", "1"):
                    raise self._foreign(f"{user} uses it")

    def _foreign(self, why: str) -> DamonError:
        return DamonError(
            f"DAMON belongs to somebody else: {why}",
            code="damon.foreign",
            hint="mlproxy touches no kdamond that it did not make; end the other one "
            "(nr_kdamonds = 0, or enabled = N in /sys/module) and reload",
        )

    def _boot(self) -> str:
        return (self._root / "proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def _left_by_us(self) -> bool:
        try:
            found = json.loads(self._note.read_text(encoding="ascii"))
            one = int((self._admin / "nr_kdamonds").read_text(encoding="ascii")) == 1
            noted = (found["boot"], found["inode"])
            return one and noted == (self._boot(), self._home.stat().st_ino)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @property
    def ours(self) -> bool:
        """Whether the directory is still the one that was made."""
        try:
            return self._home.stat().st_ino == self._inode
        except OSError:
            return False

    def release(self) -> None:
        """Stop it and take it away; somebody else's stays. A second time is harmless."""
        if self.ours:
            with contextlib.suppress(OSError, DamonError):
                self._stop()
            with contextlib.suppress(OSError, DamonError):
                self._write(self._admin / "nr_kdamonds", "0")
        self._inode = -1
        self._note.unlink(missing_ok=True)

    # -- what it does -----------------------------------------------------------------

    def configure(self, monitoring: Monitoring, scheme: Scheme) -> None:
        """Write everything but the targets; nothing counts before `start` or `commit`.

        Raises:
            DamonError: `damon.refused`, `damon.gone`; as from all below.
        """
        self._write(self._context / "operations", monitoring.operations)
        self.set_monitoring(monitoring)
        home = self.scheme
        self._write(home / "action", "pageout")
        pattern = home / "access_pattern"
        for name, low, high in (
            ("sz", 0, EVERYTHING),
            ("nr_accesses", 0, 0),
            ("age", scheme.min_age, NEVER),
        ):
            self._write(pattern / name / "max", str(high))
            self._write(pattern / name / "min", str(low))
        quotas = home / "quotas"
        self._write(quotas / "ms", str(scheme.quota_ms))
        self._write(quotas / "bytes", str(scheme.quota_bytes))
        self._write(quotas / "reset_interval_ms", "1000")
        # What was not used for longest goes first.
        for name, weight in (("sz", 0), ("nr_accesses", 0), ("age", 1000)):
            self._write(quotas / "weights" / f"{name}_permil", str(weight))
        self._watermarks(scheme.free_permil)
        self._filter(scheme.pages)

    def _watermarks(self, permil: tuple[int, int, int] | None) -> None:
        home = self.scheme / "watermarks"
        self._write(home / "metric", "free_mem_rate" if permil else "none")
        for name, value in zip(("high", "mid", "low"), permil or (0, 0, 0), strict=True):
            self._write(home / name, str(value))
        self._write(home / "interval_us", "1000000")

    def _filter(self, pages: str) -> None:
        home = self.scheme / "filters"
        if pages == "all":
            self._write(home / "nr_filters", "0")
            return
        self._write(home / "nr_filters", "1")
        self._write(home / "0/type", "anon")
        # What matches is left out.
        self._write(home / "0/matching", "Y" if pages == "file" else "N")

    def set_monitoring(self, monitoring: Monitoring) -> None:
        """Write intervals and numbers of regions."""
        home = self._context / "monitoring_attrs"
        self._write(home / "intervals/sample_us", str(monitoring.sample_us))
        self._write(home / "intervals/aggr_us", str(monitoring.aggregation_us))
        self._write(home / "intervals/update_us", str(max(1_000_000, monitoring.aggregation_us)))
        # The kernel checks them against each other when they count, not here.
        self._write(home / "nr_regions/min", str(monitoring.regions[0]))
        self._write(home / "nr_regions/max", str(monitoring.regions[1]))

    def set_ranges(self, number: int, ranges: Sequence[Range]) -> None:
        """Write which addresses of a target are watched."""
        home = self._context / "targets" / str(number) / "regions"
        self._write(home / "nr_regions", str(len(ranges)))
        for place, (begin, end) in enumerate(ranges):
            self._write(home / str(place) / "start", str(begin))
            self._write(home / str(place) / "end", str(end))

    def start(self, targets: Sequence[tuple[int, Sequence[Range]]]) -> None:
        """Switch it on.

        Args:
            targets: processes and what of them is watched; empty: the machine's memory.

        Raises:
            DamonError: also `damon.foreign`, when the kernel's own users came first;
                `damon.target` when one of the processes is gone.
        """
        home = self._context / "targets"
        self._write(home / "nr_targets", str(max(1, len(targets))))
        for number, (pid, ranges) in enumerate(targets):
            self._write(home / str(number) / "pid_target", str(pid))
            self.set_ranges(number, ranges)
        try:
            self._put(self.state_file, "on")
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise self._foreign("another part of the kernel monitors") from error
            if error.errno in (errno.EINVAL, errno.ESRCH) and targets:
                raise DamonError(
                    "a process ended before DAMON could watch it",
                    code="damon.target",
                    hint="it is tried again",
                ) from error
            raise self._refused(self.state_file, "on", error) from error

    def commit(self) -> None:
        """Make what was written count; waits for the end of an aggregation."""
        self._write(self.state_file, "commit")

    def stop(self) -> None:
        """Switch it off; harmless when it is off."""
        if self.ours:
            self._stop()

    def _stop(self) -> None:
        if not self.running:
            return
        try:
            self._put(self.state_file, "off")
        except OSError as error:
            # It may have ended by itself meanwhile.
            if self.running:
                raise self._refused(self.state_file, "off", error) from error

    @property
    def running(self) -> bool:
        """Whether it is on."""
        try:
            return self.state_file.read_text(encoding="ascii").strip() == "on"
        except OSError:
            return False

    @property
    def thread(self) -> int | None:
        """Number of its thread, or None."""
        try:
            number = int((self._home / "pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return number if number > 0 else None

    def _write(self, file: Path, text: str) -> None:
        try:
            self._put(file, text)
        except OSError as error:
            raise self._refused(file, text, error) from error

    def _put(self, file: Path, text: str) -> None:
        """Write, and again while somebody else is just at it: DAMON only tries its lock."""
        for left in range(TRIES, -1, -1):
            try:
                file.write_text(text, encoding="ascii")
            except OSError as error:
                # "on" is refused with the same error while another part of the kernel monitors.
                if error.errno != errno.EBUSY or left <= (TRIES - 6 if text == "on" else 0):
                    raise
                time.sleep(PAUSE)
            else:
                return

    def _refused(self, file: Path, text: str, error: OSError) -> DamonError:
        if error.errno in (errno.ENOENT, errno.ENODEV) and not self.ours:
            return DamonError(
                "our kdamond was taken away",
                code="damon.gone",
                hint="somebody has written nr_kdamonds; mlproxy begins anew when DAMON is free",
            )
        return DamonError(
            f"{file}: {text!r}: {error.strerror}",
            code="damon.refused",
            hint="does this kernel have that part of DAMON, and is this root?",
        )
