"""Runs of the bench, in the guest: one disk, one load, one way to clean."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlproxy import SubsystemContext
from mlproxy.events.types import ModeEvent
from mlproxy_nilfs.bench_group import Held
from mlproxy_nilfs.bench_loads import LOADS, age
from mlproxy_nilfs.lease import cleanerds
from mlproxy_nilfs.meter import Meter
from mlproxy_nilfs.options import PROXY, NilfsOptions
from mlproxy_nilfs.subsystem import NilfsSubsystem
from mlproxy_nilfs.tracker import Tracker
from mlproxy_nilfs.volume import Volume

__all__ = ("ARMS", "Plan", "run")

Row = dict[str, Any]
ARMS: Final = ("timestamp", "greedy", "cost-benefit", "mlproxy", "nilfs_cleanerd", "poisoned")
"""`poisoned`: mlproxy whose model recommends the worst segments from POISON_AT capacities on."""
POISON_AT: Final = 1.8
TICK: Final = 1.0
MOST_STALLS: Final = 600
PROTECTION: Final = 2
_CONFIG: Final = f"""protection_period {PROTECTION}
min_clean_segments 10%
max_clean_segments 20%
clean_check_interval 1
nsegments_per_clean 2
mc_nsegments_per_clean 4
cleaning_interval 1
mc_cleaning_interval 0.5
retry_interval 1
min_reclaimable_blocks 10%
mc_min_reclaimable_blocks 1%
use_set_suinfo
use_mmap
log_priority info
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        device: block device; its contents are lost.
        mib: of it.
        segment_blocks: blocks of 4 KiB in a segment.
        cold_mib: data that stays where the ager puts it.
        churn_mib: what the ager overwrites.
        warm: capacities written before anything counts.
        measured: capacities written that count.
        repeats: of everything, with other seeds.
        seed: of the first repeat.
        arms: of ARMS.
        loads: of LOADS.
        tick: seconds between two looks ...
        runs: ... and how much of them a load may run.
    """

    device: str
    mib: int = 32
    segment_blocks: int = 64
    cold_mib: int = 11
    churn_mib: int = 10
    warm: float = 3.0
    measured: float = 1.5
    repeats: int = 5
    seed: int = 1
    arms: tuple[str, ...] = ARMS[:5]
    loads: tuple[str, ...] = ("zipf", "mixed", "sqlite", "rocksdb", "files")
    tick: float = TICK
    runs: float = 0.06


def run(plan: Plan, done: Callable[[Row], None], say: Callable[[str], None]) -> None:
    """Measure; `done` gets each row as soon as it is known."""
    with _little_memory(), tempfile.TemporaryDirectory(prefix="mlproxy-bench-") as name:
        folder = Path(name)
        (folder / "mnt").mkdir()
        config = folder / "nilfs_cleanerd.conf"
        config.write_text(_CONFIG, encoding="ascii")
        for repeat in range(plan.repeats):
            image = folder / "aged.img"
            begun = time.monotonic()
            profile = _aged(plan, plan.seed + repeat, folder, image)
            say(f"{repeat} aged: {profile} {time.monotonic() - begun:.0f} s")
            for load in plan.loads:
                # So that nobody is always the first after the ager.
                turn = repeat % len(plan.arms)
                for arm in (*plan.arms[turn:], *plan.arms[:turn]):
                    begun = time.monotonic()
                    row = _one(plan, arm, load, plan.seed + repeat, folder, image)
                    row |= {"repeat": plan.seed + repeat, "aged_live_percent": profile}
                    row["guest_seconds"] = round(time.monotonic() - begun, 1)
                    done(row)
                    say(f"{repeat} {load} {arm} copied/segment {row['copied_per_segment']:.2f} "
                        f"wa {row['write_amplification']:.3f} {row['guest_seconds']} s "
                        f"{row.get('mode', '')} {row.get('acting', '')}")  # fmt: skip


def _call(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)  # noqa: S603


@contextmanager
def _little_memory() -> Iterator[None]:
    """Little may be written that is not on the disk yet: the disk is small, too."""
    limit = Path("/proc/sys/vm/dirty_bytes")
    limit.write_text(str(1 << 20))
    try:
        yield
    finally:
        Path("/proc/sys/vm/dirty_ratio").write_text("20")


@contextmanager
def _mounted(device: str, folder: Path) -> Iterator[Path]:
    _call("mount", "-t", "nilfs2", "-o", "nogc,noatime", device, folder)
    try:
        yield folder
    finally:
        for attempt in range(40):
            if not subprocess.run(["umount", str(folder)], check=False).returncode:  # noqa: S603, S607
                break
            time.sleep(0.25 * (attempt + 1))


def _options(device: str, folder: Path, arm: str) -> NilfsOptions:
    learn = arm in ("mlproxy", "poisoned")
    poison = {"poison": "inverted", "poison_at": POISON_AT} if arm == "poisoned" else {}
    return NilfsOptions.model_validate(
        {
            "device": device,
            "default": "timestamp" if learn else arm,
            "learn": learn,
            "protection_seconds": PROTECTION,
            "interval_seconds": 1.0,
            "interval_seconds_low": 0.5,
            "lock_dir": str(folder / "lock"),
            **poison,
        }
    )


@contextmanager
def _ours(plan: Plan, arm: str, seed: int, folder: Path) -> Iterator[NilfsSubsystem]:
    """The subsystem, as the daemon would run it."""
    state = folder / "state"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    subsystem = NilfsSubsystem()
    context = SubsystemContext("nilfs", _options(plan.device, folder, arm), seed, str(state))
    try:
        subsystem.start(context)
        yield subsystem
    finally:
        subsystem.stop()
        for proxy in context.made:
            proxy.close()


def _aged(plan: Plan, seed: int, folder: Path, image: Path) -> list[int]:
    """Age a new file system and keep it; gives the living share of its segments, deciles."""
    _call("mkfs.nilfs2", "-q", "-f", "-B", str(plan.segment_blocks), plan.device)
    with (
        _mounted(plan.device, folder / "mnt") as mounted,
        _ours(plan, "timestamp", seed, folder) as ours,
    ):
        volume = Volume(plan.device)

        def pause() -> None:
            ours.step()
            for _ in range(400):
                if volume.stat().clean > _begins(volume):
                    return
                time.sleep(TICK)
                ours.step()

        age(mounted, seed, plan.cold_mib, plan.churn_mib, pause)
        os.sync()
        tracker = Tracker(volume)
        tracker.follow()
        pool = tracker.pool
        live = pool.live()[pool.used] / pool.slots
        volume.close()
    with Path(plan.device).open("rb") as disk, image.open("wb") as file:
        shutil.copyfileobj(disk, file, 1 << 20)
    return [int(n) for n in np.histogram(live, bins=10, range=(0, 1))[0]]


def _begins(volume: Volume) -> float:
    """Cleaning begins when fewer segments are free."""
    return volume.geometry.segments / 10 + volume.geometry.reserved_segments


def _one(plan: Plan, arm: str, load: str, seed: int, folder: Path, image: Path) -> Row:
    with image.open("rb") as file, Path(plan.device).open("r+b") as disk:
        shutil.copyfileobj(file, disk, 1 << 20)
        disk.flush()
        os.fsync(disk.fileno())
    with _mounted(plan.device, folder / "mnt") as mounted:
        work = mounted / "load"
        work.mkdir()
        volume = Volume(plan.device)
        try:
            meter = Meter(volume)
            if arm == "nilfs_cleanerd":
                with _stock(plan, folder):
                    return _row(plan, arm, load, seed, work, volume, meter, None)
            with _ours(plan, arm, seed, folder) as ours:
                return _row(plan, arm, load, seed, work, volume, meter, ours)
        finally:
            volume.close()


@contextmanager
def _stock(plan: Plan, folder: Path) -> Iterator[None]:
    _call("nilfs_cleanerd", "-c", folder / "nilfs_cleanerd.conf", plan.device, folder / "mnt")
    try:
        time.sleep(1)
        yield
    finally:
        for process in cleanerds(plan.device):
            os.kill(process, signal.SIGTERM)
        while cleanerds(plan.device):
            time.sleep(TICK)


def _row(
    plan: Plan,
    arm: str,
    load: str,
    seed: int,
    work: Path,
    volume: Volume,
    meter: Meter,
    ours: NilfsSubsystem | None,
) -> Row:
    """Let a load run until enough was written."""
    capacity = volume.geometry.segments * volume.geometry.segment_blocks
    # A load waits when cleaning is behind; some of what it wrote is still in memory.
    low = _begins(volume) - volume.geometry.segments // 40
    warm, end = round(plan.warm * capacity), round((plan.warm + plan.measured) * capacity)
    before = half = None
    stalls = 0
    metrics: dict[str, float] = {}
    modes: list[str] = []
    words = (sys.executable, "-m", "mlproxy_nilfs.bench_loads", load, str(work), str(seed))
    with Held(*words) as program:
        while meter.user < end:
            if program.status is not None:
                raise RuntimeError(f"{load} ended with status {program.status}")
            if volume.stat().clean > low:
                program.run_for(plan.runs)
                stalls = 0
            else:
                stalls += 1
                if stalls > MOST_STALLS:
                    raise RuntimeError(f"{arm}: nothing was cleaned for {stalls * plan.tick} s")
            time.sleep(plan.tick - plan.runs)
            if ours is not None:
                stepped = ours.step()
                metrics = dict(stepped.metrics.get(PROXY, {}))
                modes += [
                    f"{meter.user / capacity:.2f} {event.new} {event.reason}"
                    for event in stepped.events
                    if isinstance(event, ModeEvent)
                ]
            meter.look()
            if before is None and meter.user >= warm:
                before = meter.counts()
            if half is None and meter.user >= (warm + end) // 2:
                half = meter.counts()
    assert before is not None
    assert half is not None
    counts = meter.counts()
    user, copied, dragged, segments = (b - a for a, b in zip(before, counts, strict=True))
    row: Row = {
        "arm": arm,
        "load": load,
        "seed": seed,
        "user_blocks": user,
        "copied_blocks": copied,
        "dragged_blocks": dragged,
        "segments_reclaimed": segments,
        "copied_per_segment": copied / max(1, segments),
        "write_amplification": 1 + (copied + dragged) / max(1, user),
        # What one way saves up another may harvest: the halves tell whether that is over.
        "copied_per_segment_first_half": _rate(before, half),
        "copied_per_segment_second_half": _rate(half, counts),
        "logs": meter.logs,
        "missed_segments": meter.missed,
    }
    if ours is not None:
        row |= {k: v for k, v in metrics.items() if "reclaimed" in k or "refused" in k}
        row |= ours.told() | {"modes": modes}
    return row


def _rate(before: Sequence[int], after: Sequence[int]) -> float:
    return (after[1] - before[1]) / max(1, after[3] - before[3])


assert set(Plan("").loads) <= set(LOADS)
