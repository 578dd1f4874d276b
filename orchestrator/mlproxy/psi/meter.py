"""Reads a pressure file and says, with hysteresis, whether the pressure is too high."""

from __future__ import annotations

import errno
import re
from collections import deque
from pathlib import Path

from mlproxy.errors import PsiError
from mlproxy.psi.config import PsiSource

__all__ = ("PsiMeter",)

_HOW_ON = (
    "boot with psi=1 on the kernel's command line, of a kernel with CONFIG_PSI=y;"
    " some distributions build it switched off"
)


class PsiMeter:
    """One source's pressure over its own window.

    The kernel's `total` (microseconds stalled since boot) is read, not its
    averages: those are made every 2 s only, over 10 s at least, and a storm is
    over or has done its harm by then.

    Args:
        source: what to watch.
        root: where /proc and the control groups are found; for tests.

    Attributes:
        percent: share of the last window, or None before it is known.
        critical: whether it is too high, with hysteresis.
    """

    def __init__(self, source: PsiSource, *, root: str = "/") -> None:
        self.percent: float | None = None
        self.critical = False
        self._source = source
        self.path = self._file(source, Path(root))
        self._seen: deque[tuple[float, int]] = deque()
        self._quiet_since: float | None = None

    @staticmethod
    def _file(source: PsiSource, root: Path) -> Path:
        if source.cgroup is None:
            return root / "proc/pressure" / source.resource
        return root / source.cgroup.lstrip("/") / f"{source.resource}.pressure"

    def update(self, now: float) -> bool:
        """Look again.

        Args:
            now: seconds, from a clock that does not go back.

        Returns:
            `critical`.

        Raises:
            PsiError: `psi.off`, `psi.no_cgroup`, `psi.unreadable`; what was measured
                so far is forgotten.
        """
        try:
            total = self._total()
        except PsiError:
            self._forget()
            raise
        self.percent = self._share(now, total)
        if self.percent is not None:
            self._judge(now, self.percent)
        return self.critical

    def _forget(self) -> None:
        self._seen.clear()
        self.percent = None
        self._quiet_since = None

    def _share(self, now: float, total: int) -> float | None:
        """Percent of the time since the window began; None while there is no whole one."""
        if self._seen and total < self._seen[-1][1]:
            self._seen.clear()  # another control group by the same name
        self._seen.append((now, total))
        begin = now - self._source.window_seconds
        while len(self._seen) > 1 and self._seen[1][0] <= begin:
            self._seen.popleft()
        then, before = self._seen[0]
        if then > begin:
            return None
        return min(100.0, (total - before) / (now - then) / 1e4)

    def _judge(self, now: float, percent: float) -> None:
        if percent >= self._source.on_percent:
            self.critical = True
        if not self.critical or percent >= self._source.off_percent:
            self._quiet_since = None
            return
        if self._quiet_since is None:
            self._quiet_since = now
        if now - self._quiet_since >= self._source.quiet_seconds:
            self.critical = False
            self._quiet_since = None

    def _total(self) -> int:
        try:
            text = self.path.read_text(encoding="ascii", errors="replace")
        except OSError as e:
            raise self._unreadable(e) from e
        found = re.search(rf"^{self._source.stall}\b.*\btotal=(\d+)", text, re.MULTILINE)
        if found is None:
            raise PsiError(
                f"{self.path} has no line {self._source.stall!r}",
                code="psi.unreadable",
                hint="another kind of stall: some or full",
                file=str(self.path),
            )
        return int(found.group(1))

    def _unreadable(self, error: OSError) -> PsiError:
        gone = error.errno in (errno.ENOENT, errno.ENODEV)
        cgroup = self._source.cgroup
        if gone and cgroup is not None and not self.path.parent.is_dir():
            return PsiError(
                f"there is no control group {cgroup}",
                code="psi.no_cgroup",
                hint="is its service running? the name is that of its directory",
                file=str(self.path),
            )
        if gone or error.errno == errno.EOPNOTSUPP:
            return PsiError(
                f"{self.path}: this kernel measures no pressure",
                code="psi.off",
                hint=_HOW_ON
                + ("; in a control group also cgroup.pressure must be 1" if cgroup else ""),
                file=str(self.path),
            )
        return PsiError(
            f"{self.path} cannot be read: {error.strerror}",
            code="psi.unreadable",
            hint="may the daemon's user read it?",
            file=str(self.path),
        )

    def describe(self) -> str:
        """What is measured, in words."""
        source = self._source
        where = f" of {source.cgroup}" if source.cgroup else ""
        share = "unknown" if self.percent is None else f"{self.percent:.1f}%"
        return (
            f"{source.resource} pressure{where} ({source.stall}) {share} over"
            f" {source.window_seconds:g} s, limit {source.on_percent:g}%"
        )
