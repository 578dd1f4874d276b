"""A machine in a directory: DAMON's sysfs, a program whose blocks are used or not, and swap."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlproxy.proxy import InProcessKnobProxy, Knob, ProxyConfig

BLOCK = 1 << 16
PAGES = BLOCK // 4096
BASE = 1 << 30
NEVER = 4_294_967_295
PID = 4711
TICK = 100_000_000

_FILES = """
state pid contexts/nr_contexts contexts/0/operations
contexts/0/monitoring_attrs/intervals/sample_us contexts/0/monitoring_attrs/intervals/aggr_us
contexts/0/monitoring_attrs/intervals/update_us contexts/0/monitoring_attrs/nr_regions/min
contexts/0/monitoring_attrs/nr_regions/max contexts/0/targets/nr_targets
contexts/0/targets/0/pid_target contexts/0/targets/0/regions/nr_regions
contexts/0/targets/0/regions/0/start contexts/0/targets/0/regions/0/end
contexts/0/schemes/nr_schemes
contexts/0/schemes/0/action contexts/0/schemes/0/access_pattern/sz/min
contexts/0/schemes/0/access_pattern/sz/max contexts/0/schemes/0/access_pattern/nr_accesses/min
contexts/0/schemes/0/access_pattern/nr_accesses/max contexts/0/schemes/0/access_pattern/age/min
contexts/0/schemes/0/access_pattern/age/max contexts/0/schemes/0/quotas/ms
contexts/0/schemes/0/quotas/bytes contexts/0/schemes/0/quotas/reset_interval_ms
contexts/0/schemes/0/quotas/weights/sz_permil
contexts/0/schemes/0/quotas/weights/nr_accesses_permil
contexts/0/schemes/0/quotas/weights/age_permil contexts/0/schemes/0/watermarks/metric
contexts/0/schemes/0/watermarks/high contexts/0/schemes/0/watermarks/mid
contexts/0/schemes/0/watermarks/low contexts/0/schemes/0/watermarks/interval_us
contexts/0/schemes/0/filters/nr_filters contexts/0/schemes/0/filters/0/type
contexts/0/schemes/0/filters/0/matching
"""


class World:
    """Time, a kernel with DAMON below a root directory, and one program.

    The kernel looks at its files when `state` is written, as the real one does: what was
    written without a commit does not count.

    Args:
        root: an empty directory.
        blocks: of 64 KiB that the program has.
        periods: seconds between two uses of a block, by share of the blocks from the
            first on; the rest is never used again.
    """

    def __init__(
        self,
        root: Path,
        blocks: int = 256,
        periods: Sequence[tuple[float, float]] = ((0.25, 0.3),),
    ) -> None:
        self.root = root
        self.now = 1_000_000_000
        self.rng = random.Random(3)
        self.used = [-99.0] * blocks
        self.out = [False] * blocks
        self.period = [float("inf")] * blocks
        at = 0
        for share, seconds in periods:
            for block in range(at, at + round(share * blocks)):
                self.period[block] = seconds
            at += round(share * blocks)
        self.alive = True
        self.start_ticks = 77
        self.faults = self.refaults = 0
        self.cpu = 0.0
        self.work = 0
        self.force: tuple[int, int, int] | None = None
        """min_age, quota bytes, aggregation_us of a kdamond that is on."""
        self._left = self.on_since = 0.0
        self.endings: list[Callable[[], None]] = []
        self.admin = root / "sys/kernel/mm/damon/admin/kdamonds"
        self.admin.mkdir(parents=True)
        (self.admin / "nr_kdamonds").write_text("0\n")
        for name in _FILES.split():
            file = self.admin / "0" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("0\n")
        self.state_file = self.admin / "0/state"
        self.state_file.write_text("off\n")
        (self.admin / "0/pid").write_text("-1\n")
        self.scheme = self.admin / "0/contexts/0/schemes/0"
        tracing = root / "sys/kernel/tracing"
        (tracing / "events/damon/damon_aggregated").mkdir(parents=True)
        self.instance = tracing / "instances/mlproxy-damon"
        (self.instance / "events/damon/damon_aggregated").mkdir(parents=True)
        self.pipe = self.instance / "trace_pipe"
        self.pipe.write_text("")
        self._pipe = os.open(self.pipe, os.O_WRONLY | os.O_APPEND)
        (self.instance / "tracing_on").write_text("0")
        (root / "proc/sys/kernel/random").mkdir(parents=True)
        (root / "proc/sys/kernel/random/boot_id").write_text("this-boot\n")
        (root / "proc" / str(PID)).mkdir()
        self.work_file = root / "operations"
        self.show()

    def clock(self) -> int:
        return self.now

    @property
    def seconds(self) -> float:
        return self.now / 1e9

    def close(self) -> None:
        os.close(self._pipe)

    # -- the program -----------------------------------------------------------------

    def end(self) -> None:
        """The program ends."""
        self.alive = False
        for file in (self.root / "proc" / str(PID)).iterdir():
            file.unlink()

    def begin(self) -> None:
        """It is started anew, with the same number."""
        self.alive = True
        self.start_ticks += 1000
        self.used = [self.seconds] * len(self.used)
        self.out = [False] * len(self.out)
        self.faults = 0
        self.show()

    def resident(self) -> int:
        return BLOCK * self.out.count(False)

    def _work(self, seconds: float) -> None:
        if not self.alive:
            return
        self.cpu += 0.3 * seconds
        self.work += round(1000 * seconds)
        for block, period in enumerate(self.period):
            if self.rng.random() < seconds / period:
                self.used[block] = self.seconds
                if self.out[block]:
                    self.out[block] = False
                    self.faults += PAGES
                    self.refaults += PAGES

    # -- the kernel -------------------------------------------------------------------

    def _number(self, name: str) -> int:
        return int((self.admin / "0" / name).read_text())

    def kernel(self, seconds: float) -> None:
        """What kdamond does meanwhile."""
        word = self.state_file.read_text().strip()
        if word in ("on", "commit"):
            if self.force is None:
                self.on_since = self.seconds  # ages begin anew
            if word == "commit" or self.force is None:
                self.force = (
                    self._number("contexts/0/schemes/0/access_pattern/age/min"),
                    self._number("contexts/0/schemes/0/quotas/bytes"),
                    self._number("contexts/0/monitoring_attrs/intervals/aggr_us"),
                )
                self.state_file.write_text("on\n")
                (self.admin / "0/pid").write_text("99\n")
        elif self.force is not None:
            self.force = None
            (self.admin / "0/pid").write_text("-1\n")
        if self.force is None:
            return
        if not self.alive:
            self.state_file.write_text("off\n")
            return
        age, quota, aggregation = self.force
        self._left = min(float(quota), self._left + quota * seconds)
        # What was not used for longest goes first.
        for block in sorted(range(len(self.used)), key=self.used.__getitem__):
            idle = self._idle(block) / (aggregation / 1e6)
            if age < NEVER and not self.out[block] and idle >= age and self._left >= BLOCK:
                self.out[block] = True
                self._left -= BLOCK
        if (self.instance / "tracing_on").read_text() == "1":
            self._picture(aggregation / 1e6)

    def _idle(self, block: int) -> float:
        return self.seconds - max(self.used[block], self.on_since)

    def _picture(self, aggregation: float) -> None:
        count = len(self.used)
        lines = []
        for block, used in enumerate(self.used):
            age = int(self._idle(block) / aggregation)
            accesses = 8 * int(self.seconds - used < aggregation)
            begin = BASE + block * BLOCK
            lines.append(
                f"  kdamond.0-99 [000] ..... {self.seconds:.6f}: damon_aggregated: target_id=0 "
                f"nr_regions={count} {begin}-{begin + BLOCK}: {accesses} {age}\n"
            )
        os.write(self._pipe, "".join(lines).encode())

    def show(self) -> None:
        """Bring /proc to what has happened."""
        (self.root / "proc/vmstat").write_text(
            f"workingset_refault_anon {self.refaults}\nworkingset_refault_file 0\n"
        )
        thread = self.root / "proc/99"
        thread.mkdir(exist_ok=True)
        fields = ["S"] + ["0"] * 40
        fields[11] = str(round(100 * 0.01 * self.seconds))
        (thread / "stat").write_text(f"99 (kdamond.0) {' '.join(fields)}\n")
        if not self.alive:
            return
        size = BLOCK * len(self.used)
        folder = self.root / "proc" / str(PID)
        fields = ["S"] + ["0"] * 40
        fields[9] = str(self.faults)
        fields[11] = str(round(100 * self.cpu))
        fields[19] = str(self.start_ticks)
        fields[20] = str(size)
        fields[21] = str(self.resident() // 4096)
        (folder / "stat").write_text(f"{PID} (server (x)) {' '.join(fields)}\n")
        swapped = (size - self.resident()) // 1024
        (folder / "status").write_text(f"Name:\tx\nRssFile:\t0 kB\nVmSwap:\t{swapped} kB\n")
        (folder / "smaps").write_text(
            f"{BASE:x}-{BASE + size:x} rw-p 00000000 00:00 0     [heap]\n"
            f"Size:  {size >> 10} kB\nRss:  {self.resident() >> 10} kB\nSwap:  {swapped} kB\n"
            "VmFlags: rd wr mr mw me ac\n"
            f"{BASE + 2 * size:x}-{BASE + 99 * size:x} ---p 00000000 00:00 0\n"
            "Size:  99 kB\nRss:  0 kB\nSwap:  0 kB\nVmFlags: mr mw me\n"
        )
        self.work_file.write_text(f"{self.work:020}")

    # -- the daemon ----------------------------------------------------------------------

    def knob_proxy(
        self, config: ProxyConfig, knobs: Sequence[Knob], **more: Any
    ) -> InProcessKnobProxy:
        """As SubsystemContext has it, with this world's time."""
        self.proxy = InProcessKnobProxy(config, knobs, clock=self.clock, timer=False, **more)
        return self.proxy

    def pass_time(self, seconds: float, step: Callable[[], None]) -> None:
        """Let the program work; the daemon steps every 200 ms."""
        for tick in range(round(seconds * 10)):
            self.now += TICK
            self._work(TICK / 1e9)
            self.kernel(TICK / 1e9)
            self.show()
            if not self.proxy.closed:
                self.proxy.look_after()
            self.kernel(0.0)
            if tick % 2:
                step()
            self.kernel(0.0)
