"""What the watched program has used, summed over its processes as they come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlproxy_damon.processes import PAGE, Process, ProcessTable, Usage

__all__ = ("Tally", "Totals")

REFAULTS = ("workingset_refault_anon", "workingset_refault_file")


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters since the beginning, and levels now.

    Attributes:
        work: units of work done.
        faults: major page faults.
        refaults: pages that had been reclaimed and were wanted back.
        cpu_seconds: processor time.
        resident: bytes in memory.
        swapped: bytes in swap.
        evicted: bytes of mapped files that were in memory and are no longer.
    """

    work: float = 0.0
    faults: int = 0
    refaults: int = 0
    cpu_seconds: float = 0.0
    resident: int = 0
    swapped: int = 0
    evicted: int = 0

    @property
    def whole(self) -> int:
        """Bytes that would be in memory had nothing been taken out."""
        return self.resident + self.swapped + self.evicted


class Tally:
    """Adds up.

    Args:
        table: /proc.
        cgroup: the control group whose refaults count; None: the whole machine's do.
        work_file: see the option; None: processor time.
        machine: the program is the whole machine (paddr).
    """

    def __init__(
        self,
        table: ProcessTable,
        *,
        cgroup: str | None = None,
        work_file: str | None = None,
        machine: bool = False,
    ) -> None:
        self._table = table
        self._machine = machine
        group = table.root / cgroup.lstrip("/") / "memory.stat" if cgroup else None
        self._stat = group if group is not None and group.is_file() else table.proc / "vmstat"
        self._work_file = Path(work_file) if work_file else None
        self._before: dict[Process, Usage] = {}
        self._most_files: dict[Process, int] = {}
        self._refaults: int | None = None
        self._work: float | None = None
        self._totals = Totals()

    def update(self, processes: Sequence[Process]) -> Totals:
        """Look again.

        What a process does between the last look and its end is not seen.
        """
        last = self._totals
        faults, cpu = last.faults, last.cpu_seconds
        resident = swapped = evicted = 0
        usages = {}
        most_files = {}
        for process, usage in self._usages(processes).items():
            before = self._before.get(process, usage)
            faults += max(0, usage.faults - before.faults)
            cpu += max(0.0, usage.cpu_seconds - before.cpu_seconds)
            resident += usage.resident
            swapped += usage.swapped
            most = most_files[process] = self._files_once(process, before, usage)
            evicted += most - usage.resident_files
            usages[process] = usage
        self._before, self._most_files = usages, most_files
        self._totals = Totals(
            work=last.work + self._work_done(cpu - last.cpu_seconds),
            faults=faults,
            refaults=last.refaults + self._refaulted(),
            cpu_seconds=cpu,
            resident=resident,
            swapped=swapped,
            evicted=evicted,
        )
        return self._totals

    def faults_and_pages(self, processes: Sequence[Process]) -> tuple[int, int]:
        """Major faults of the processes in their lives until now, and pages that they have."""
        usages = self._usages(processes).values()
        size = sum(usage.resident + usage.swapped for usage in usages)
        return sum(usage.faults for usage in usages), size // PAGE

    def _files_once(self, process: Process, before: Usage, usage: Usage) -> int:
        """Most bytes of mapped files that were in memory, but for what was unmapped since."""
        unmapped = max(0, before.mapped - usage.mapped)
        return max(usage.resident_files, self._most_files.get(process, 0) - unmapped)

    def _usages(self, processes: Sequence[Process]) -> dict[Process, Usage]:
        if self._machine:
            return {Process(0, 0): self._machine_usage()}
        found = {process: self._table.usage(process) for process in processes}
        return {process: usage for process, usage in found.items() if usage is not None}

    def _machine_usage(self) -> Usage:
        memory = self._numbers(self._table.proc / "meminfo", ":")
        events = self._numbers(self._table.proc / "vmstat", " ")
        first = (self._table.proc / "stat").read_text(encoding="ascii").split("\n", 1)[0]
        fields = [int(one) for one in first.split()[1:]]
        busy = sum(fields[:3]) + sum(fields[5:8])
        used = memory["MemTotal"] - memory["MemFree"]
        return Usage(
            faults=events["pgmajfault"],
            cpu_seconds=busy * 0.01,  # USER_HZ
            resident=used * 1024,
            swapped=(memory.get("SwapTotal", 0) - memory.get("SwapFree", 0)) * 1024,
        )

    @staticmethod
    def _numbers(file: Path, separator: str) -> dict[str, int]:
        found = {}
        for line in file.read_text(encoding="ascii").splitlines():
            key, _, rest = line.partition(separator)
            number = rest.split()
            if number and number[0].isdigit():
                found[key] = int(number[0])
        return found

    def _refaulted(self) -> int:
        try:
            found = self._numbers(self._stat, " ")
        except OSError:  # the control group has gone
            self._refaults = None
            return 0
        now = sum(found.get(key, 0) for key in REFAULTS)
        before, self._refaults = self._refaults, now
        return max(0, now - before) if before is not None else 0

    def _work_done(self, cpu: float) -> float:
        if self._work_file is None:
            return cpu
        try:
            now = float(self._work_file.read_text(encoding="ascii"))
        except (OSError, ValueError):  # not yet written, or just being
            return 0.0
        before, self._work = self._work, now
        return max(0.0, now - before) if before is not None else 0.0
