"""Runs of the bench: each a program from its start to its last operation, beside one competitor."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mlproxy_damon.bench_arms import ARMS, Helpers, Target, arm
from mlproxy_damon.bench_loads import LOADS, SECOND, Load
from mlproxy_damon.bench_meter import Usage, cpu_seconds, free_share, majors, named, vmstat

__all__ = ("Key", "Plan", "order", "run")

Row = dict[str, Any]
Key = tuple[str, int, str, float]
"""Workload, seed, competitor, age of the hand-tuned scheme (0 for others)."""
MIB: Final = 1 << 20
HUGE: Final = 2 * MIB


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        folder: for files, on the disk that is to be read.
        loads: workloads.
        arms: competitors.
        seeds: of the operations; a run for each workload and competitor.
        seconds: about how long the operations of a run take.
        hand_ages: workload -> seconds without an access, of the hand-tuned scheme; several
            for a run with each.
        free: share of the machine's memory that is free when a run begins, 0 to leave it:
            the rest is taken away, so that DAMON_RECLAIM's watermarks are passed.
        zram: the swap device, made anew for each run; empty: the swap is left as it is.
        zram_mib: its size.
        options: more for the daemon, KEY=VALUE.
    """

    folder: Path
    loads: Sequence[str] = tuple(LOADS)
    arms: Sequence[str] = ARMS
    seeds: Sequence[int] = (1, 2, 3, 4, 5)
    seconds: int = 360
    hand_ages: Mapping[str, Sequence[float]] = field(default_factory=dict)
    free: float = 0.0
    zram: str = ""
    zram_mib: int = 512
    options: Sequence[str] = ()


def order(plan: Plan) -> list[Key]:
    """All runs: seed by seed, workload by workload, another competitor first each time.

    Args:
        plan: what is measured.
    """
    keys: list[Key] = []
    for number, seed in enumerate(plan.seeds):
        for place, load in enumerate(plan.loads):
            turn = (number + place) % len(plan.arms)
            for name in (*plan.arms[turn:], *plan.arms[:turn]):
                ages = plan.hand_ages.get(load, (30.0,)) if name == "hand" else (0.0,)
                keys += [(load, seed, name, age) for age in ages]
    return keys


def run(plan: Plan, done: Collection[Key], say: Callable[[str], None]) -> Iterator[Row]:
    """All runs that are not done.

    Args:
        plan: what to measure.
        done: what was measured already.
        say: hears how far it is.

    Yields:
        A row per run, as soon as it is measured.

    Raises:
        ArmError: a competitor cannot be started.
        LoadError: a program cannot.
        OSError: this machine has no DAMON, or we are not root.
    """
    prepared: set[str] = set()
    for key in order(plan):
        if key in done:
            continue
        load = LOADS[key[0]]
        if load.name not in prepared:
            say(f"preparing {load.name}")
            load.prepare(plan.folder)
            prepared.add(load.name)
        row = _one(plan, load, key)
        say(_told(row))
        yield row


def _told(row: Row) -> str:
    mean = statistics.fmean(row["resident"]) / MIB
    last = " ".join(f"{mib / MIB:.0f}" for mib in row["resident"][:: len(row["resident"]) // 6])
    return (
        f"{row['load']} seed {row['seed']} {row['arm']}"
        f"{row['hand_age'] or ''}: RSS {mean:.1f} MiB"
        f" ({last}), faults {row['faults_before']}+{row['faults']}, {row['operations']} operations"
        f" in {row['seconds']:.0f} s, CPU {row['target_cpu']:.2f} kdamond {row['kdamond_cpu']:.2f}"
        f" daemon {row['daemon_cpu']:.2f}"
    )


def _one(plan: Plan, kind: type[Load], key: Key) -> Row:
    name, seed, way, age = key
    ticks = plan.seconds * SECOND
    load = kind(plan.folder, seed, ticks)
    usage = Usage(zram=plan.zram)
    with (
        tempfile.TemporaryDirectory(prefix="mlproxy-bench-") as folder,
        _fresh(plan),
    ):
        try:
            load.start()
            work = Path(folder) / "operations"
            work.write_text(f"{0:020}", encoding="ascii")
            state = Path(folder) / "arm"
            state.mkdir()
            target = Target(load.pid, work, state, seed)
            with _ballast(plan), arm(way, hand_age=age, options=plan.options)(target) as helpers:
                found = _drive(load, work, ticks, usage, helpers)
        finally:
            load.stop()
    return {"load": name, "seed": seed, "arm": way, "hand_age": age} | found


def _drive(load: Load, work: Path, ticks: int, usage: Usage, helpers: Helpers) -> Row:
    """The operations, at their pace, with a look at memory each second."""
    kswapd = named("kswapd0")
    watched = {"target": load.pid, "kdamond": helpers.kdamond, "daemon": helpers.daemon,
               "kswapd": kswapd}  # fmt: skip
    before = {name: cpu_seconds(pid) if pid else 0.0 for name, pid in watched.items()}
    counters, faults = vmstat(), majors(load.pid)
    samples: list[list[int]] = []
    majors_at: list[int] = []
    done = 0
    status: Mapping[str, Any] = {}
    ready_at: float | None = None
    kdamond_cpu = 0.0
    began = time.monotonic()
    with work.open("r+b", buffering=0) as file:
        for number in range(ticks):
            done += load.tick(number)
            os.pwrite(file.fileno(), b"%020d" % done, 0)
            if number % SECOND == 0:
                memory = usage.memory(load.pid)
                samples.append([memory.resident, memory.compressed, memory.available])
                majors_at.append(majors(load.pid) - faults)
            if helpers.daemon and number % (5 * SECOND) == 0 and number >= 5 * SECOND:
                status = helpers.status() or status
                if ready_at is None and status.get("proxies"):
                    ready_at = time.monotonic() - began
            time.sleep(max(0.0, began + (number + 1) / SECOND - time.monotonic()))
    seconds = time.monotonic() - began
    if helpers.daemon:
        kdamond = named("kdamond.0")
        kdamond_cpu = cpu_seconds(kdamond) if kdamond else 0.0
    cpu = {f"{name}_cpu": cpu_seconds(pid) - before[name] if pid else 0.0
           for name, pid in watched.items()}  # fmt: skip
    resident, compressed, available = (list(column) for column in zip(*samples, strict=True))
    after = vmstat()
    return {
        "operations": done,
        "seconds": round(seconds, 3),
        "faults_before": faults,
        "faults": majors(load.pid) - faults,
        "faults_at": majors_at,
        "resident": resident,
        "compressed": compressed,
        "available": available,
        **{name: round(value, 6) for name, value in cpu.items()},
        **({"kdamond_cpu": round(kdamond_cpu, 6)} if helpers.daemon else {}),
        **{name: after[name] - counters[name] for name in after},
        "daemon_ready": None if ready_at is None else round(ready_at, 1),
        "daemon_status": _short(status),
    }


def _short(status: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of the daemon's status."""
    proxy = status.get("proxies", {}).get("damon", {})
    return (
        {name: proxy.get(name) for name in ("mode", "reason", "champion", "guard", "metrics")}
        if proxy
        else {}
    )


@contextmanager
def _fresh(plan: Plan) -> Iterator[None]:
    """Nothing of an earlier run in the page cache or in swap."""
    if plan.zram:
        subprocess.run(["/usr/sbin/swapoff", "-a"], check=True)
        device = Path(f"/sys/block/{plan.zram}")
        (device / "reset").write_text("1", encoding="ascii")
        (device / "disksize").write_text(str(plan.zram_mib * MIB), encoding="ascii")
        for command in ("mkswap", "swapon"):
            subprocess.run(  # noqa: S603 - of the system
                [shutil.which(command) or f"/usr/sbin/{command}", f"/dev/{plan.zram}"],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        # A page that is read alone costs nothing less than one read with seven others.
        Path("/proc/sys/vm/page-cluster").write_text("0", encoding="ascii")
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    yield


@contextmanager
def _ballast(plan: Plan) -> Iterator[None]:
    """Take memory away, as if other programs had it, until only a share is free."""
    knob = Path("/proc/sys/vm/nr_hugepages")
    if plan.free:
        free, total = free_share()
        pages = max(0, int(free - plan.free * total)) // HUGE
        knob.write_text(str(pages), encoding="ascii")
    try:
        yield
    finally:
        if plan.free:
            knob.write_text("0", encoding="ascii")
