"""Processes as /proc shows them, and which of them the configuration names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

__all__ = ("PAGE", "Finder", "Process", "ProcessTable", "Range", "Usage", "finder", "largest")

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
TICK: Final = 1.0 / os.sysconf("SC_CLK_TCK")
MOST: Final = 32
"""Targets of one kdamond: of more processes the largest are watched."""


Range = tuple[int, int]
GAP: Final = 1 << 16
LEAST_RANGE: Final = 1 << 16
"""Bytes: smaller mappings are not worth watching."""
MOST_RANGES: Final = 64
_MAPPING: Final = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) (.*)\n((?:[A-Z][\w]*:.*\n?)+)", re.MULTILINE
)
_HELD: Final = re.compile(r"^(?:Rss|Swap): +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True, order=True)
class Process:
    """One life of a process.

    Attributes:
        pid: its number.
        start: when it began, in ticks since boot: numbers are used again.
    """

    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far, and holds now.

    Attributes:
        faults: major page faults.
        cpu_seconds: processor time.
        resident: bytes in memory.
        swapped: bytes in swap.
        resident_files: bytes of `resident` that are pages of mapped files.
        mapped: bytes of address space.
    """

    faults: int
    cpu_seconds: float
    resident: int
    swapped: int
    resident_files: int = 0
    mapped: int = 0


class ProcessTable:
    """/proc.

    Args:
        root: where it is found; for tests.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = Path(root)
        self.proc = self.root / "proc"

    def _stat(self, pid: int) -> list[str]:
        """Fields of /proc/PID/stat from the third on; empty when there is no such process."""
        try:
            text = (self.proc / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return []
        return text.rpartition(")")[2].split()

    def find(self, pid: int) -> Process | None:
        """The process of that number, if there is one that lives."""
        fields = self._stat(pid)
        if len(fields) < 22 or fields[0] in "ZXx":
            return None
        return Process(pid, int(fields[19]))

    def lives(self, process: Process) -> bool:
        """Whether it is still that one."""
        return self.find(process.pid) == process

    def usage(self, process: Process) -> Usage | None:
        """What it has used; None when it has ended."""
        fields = self._stat(process.pid)
        if len(fields) < 22 or int(fields[19]) != process.start or fields[0] in "ZXx":
            return None
        return Usage(
            faults=int(fields[9]),
            cpu_seconds=(int(fields[11]) + int(fields[12])) * TICK,
            resident=int(fields[21]) * PAGE,
            swapped=self._kib(process.pid, "VmSwap"),
            resident_files=self._kib(process.pid, "RssFile"),
            mapped=int(fields[20]),
        )

    def _kib(self, pid: int, key: str) -> int:
        """A line of /proc/PID/status, in bytes; 0 without it."""
        try:
            text = (self.proc / str(pid) / "status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return 0
        _, found, rest = text.partition(f"\n{key}:")
        return int(rest.split()[0]) * 1024 if found else 0

    def thread_seconds(self, pid: int) -> float | None:
        """Processor time of a kernel thread; None when there is none."""
        fields = self._stat(pid)
        return (int(fields[11]) + int(fields[12])) * TICK if len(fields) > 12 else None

    def ranges(self, pid: int) -> list[Range]:
        """First and last+1 address of what a process has memory in, ascending.

        What allocators reserve is left out: DAMON would sample it, and charge its quotas for
        it. Ranges with small gaps between them are put together, and at most MOST_RANGES left.
        """
        try:
            text = (self.proc / str(pid) / "smaps").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        found: list[Range] = []
        for part in _MAPPING.finditer(text):
            begin, end = int(part[1], 16), int(part[2], 16)
            if part[3].endswith(("[vvar]", "[vdso]", "[vsyscall]", "[vvar_vclock]")):
                continue
            if sum(map(int, _HELD.findall(part[4]))) * 1024 >= LEAST_RANGE:
                found.append((begin, end))
        gap = GAP
        while True:
            merged: list[Range] = []
            for begin, end in found:
                if merged and begin - merged[-1][1] <= gap:
                    merged[-1] = (merged[-1][0], end)
                else:
                    merged.append((begin, end))
            if len(merged) <= MOST_RANGES:
                return merged
            gap *= 4

    def named(self, comm: str) -> list[int]:
        """Numbers of the processes of a name."""
        found = []
        for folder in self.proc.iterdir():
            if folder.name.isdigit():
                try:
                    text = (folder / "comm").read_text(encoding="utf-8", errors="replace")
                except OSError:
                    continue
                if text.rstrip("\n") == comm:
                    found.append(int(folder.name))
        return found


class Finder(Protocol):
    """Says which processes are to be watched now."""

    def pids(self) -> tuple[list[int], str]:
        """Their numbers; and why there are none, when there are."""


class _Pid:
    """One process; another one that gets its number later is not it."""

    def __init__(self, table: ProcessTable, pid: int) -> None:
        self._table = table
        self._pid = pid
        self._was: Process | None = None

    def pids(self) -> tuple[list[int], str]:
        found = self._table.find(self._pid)
        self._was = self._was or found
        if found is not None and found == self._was:
            return [self._pid], ""
        return [], f"process {self._pid} {'has ended' if self._was else 'does not exist'}"


class _PidFile:
    def __init__(self, table: ProcessTable, file: Path) -> None:
        self._table = table
        self._file = file

    def pids(self) -> tuple[list[int], str]:
        try:
            pid = int(self._file.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            return [], f"{self._file} holds no process number: {error}"
        if self._table.find(pid) is None:
            return [], f"process {pid} of {self._file} has ended"
        return [pid], ""


class _Named:
    def __init__(self, table: ProcessTable, comm: str) -> None:
        self._table = table
        self._comm = comm

    def pids(self) -> tuple[list[int], str]:
        found = self._table.named(self._comm)
        return found, "" if found else f"no process is named {self._comm}"


class _Cgroup:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def pids(self) -> tuple[list[int], str]:
        if not self._folder.is_dir():
            return [], f"there is no control group {self._folder}"
        found: list[int] = []
        for file in [self._folder / "cgroup.procs", *self._folder.glob("**/cgroup.procs")][:256]:
            try:
                found += [int(line) for line in file.read_text(encoding="ascii").split()]
            except OSError:  # it vanishes while we look
                continue
        unique = sorted(set(found))
        return unique, "" if unique else f"no process is in {self._folder}"


def finder(
    table: ProcessTable,
    *,
    pid: int | None = None,
    pid_file: str | None = None,
    process: str | None = None,
    cgroup: str | None = None,
) -> Finder:
    """What the configuration names (one of them)."""
    if pid is not None:
        return _Pid(table, pid)
    if pid_file is not None:
        return _PidFile(table, table.root / pid_file.lstrip("/"))
    if process is not None:
        return _Named(table, process)
    if cgroup is not None:
        return _Cgroup(table.root / cgroup.lstrip("/"))
    raise ValueError("no program is named")


def largest(table: ProcessTable, pids: Iterable[int], least: int) -> list[Process]:
    """The processes that are large enough to be watched, at most MOST, by number.

    Args:
        table: /proc.
        pids: candidates.
        least: bytes, resident and swapped; a single one is watched whatever its size.
    """
    sized = []
    for pid in pids:
        process = table.find(pid)
        usage = table.usage(process) if process else None
        if process and usage and (usage.resident or usage.swapped):
            sized.append((usage.resident + usage.swapped, process))
    sized.sort(reverse=True)
    chosen = [p for size, p in sized[:MOST] if size >= least] or [p for _, p in sized[:1]]
    return sorted(chosen)
