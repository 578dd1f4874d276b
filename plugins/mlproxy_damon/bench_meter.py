"""What the bench reads of the kernel: the program's memory and faults, and who used the CPU."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ("Memory", "Usage", "cpu_seconds", "free_share", "majors", "named", "vmstat")

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
COUNTERS: Final = (
    *("pgmajfault", "pswpin", "pswpout", "workingset_refault_anon", "workingset_refault_file"),
    *("pgsteal_kswapd", "pgsteal_direct"),
)


@dataclass(frozen=True, slots=True)
class Memory:
    """Where memory is at a moment, in bytes.

    Attributes:
        resident: the program's (VmRSS).
        compressed: what the compressed swap itself takes (zram's mem_used_total).
        available: of the machine (MemAvailable).
    """

    resident: int
    compressed: int
    available: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Reads /proc and /sys.

    Attributes:
        root: where they are found; for tests.
        zram: the swap device; empty: not compressed.
    """

    root: Path = Path("/")
    zram: str = ""

    def memory(self, pid: int) -> Memory:
        """Where memory is now."""
        statm = (self.root / f"proc/{pid}/statm").read_text(encoding="ascii").split()
        return Memory(int(statm[1]) * PAGE, self.compressed(), self.available())

    def compressed(self) -> int:
        """Bytes that zram takes, with its own bookkeeping."""
        if not self.zram:
            return 0
        text = (self.root / f"sys/block/{self.zram}/mm_stat").read_text(encoding="ascii")
        return int(text.split()[2])

    def available(self) -> int:
        """MemAvailable."""
        text = (self.root / "proc/meminfo").read_text(encoding="ascii")
        return 1024 * int(text.partition("MemAvailable:")[2].split(maxsplit=1)[0])


def majors(pid: int, root: Path = Path("/")) -> int:
    """Major faults of a process in its whole life."""
    text = (root / f"proc/{pid}/stat").read_text(encoding="utf-8")
    return int(text.rpartition(")")[2].split()[9])


def cpu_seconds(pid: int, root: Path = Path("/")) -> float:
    """CPU time of a process or kernel thread with all its threads, to the nanosecond."""
    tasks = (root / f"proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9


def vmstat(root: Path = Path("/")) -> dict[str, int]:
    """The counters of /proc/vmstat that the bench keeps."""
    text = (root / "proc/vmstat").read_text(encoding="ascii")
    found = dict(line.split() for line in text.splitlines())
    return {name: int(found.get(name, 0)) for name in COUNTERS}


def named(name: str, root: Path = Path("/")) -> int | None:
    """Pid of the first process or kernel thread of a name."""
    for comm in sorted((root / "proc").glob("[0-9]*/comm")):
        if comm.read_text(encoding="utf-8").strip() == name:
            return int(comm.parent.name)
    return None


def free_share(root: Path = Path("/")) -> tuple[int, int]:
    """Bytes of the machine's memory that are free, and all of it."""
    text = (root / "proc/meminfo").read_text(encoding="ascii")
    found = {name: int(rest.split()[0]) * 1024 for name, _, rest in
             (line.partition(":") for line in text.splitlines())}  # fmt: skip
    return found["MemFree"], found["MemTotal"]
