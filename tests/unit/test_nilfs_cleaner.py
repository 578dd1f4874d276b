"""The cleaner and its subsystem on a file system in memory, with the real proxy and models."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from nilfs_world import World

from mlproxy import SubsystemContext
from mlproxy.errors import MlproxyError
from mlproxy.events.types import ModeEvent
from mlproxy.proxy import Mode
from mlproxy_nilfs import cleaner as cleaner_module
from mlproxy_nilfs import lease, standby, subsystem
from mlproxy_nilfs.lease import Lease, lock_path
from mlproxy_nilfs.options import NilfsOptions
from mlproxy_nilfs.standby import StandBy, StandByOptions
from mlproxy_nilfs.subsystem import NilfsSubsystem

Start = Callable[..., NilfsSubsystem]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(segments=64, blocks=32)
    monkeypatch.setattr(subsystem, "Volume", lambda device: made)
    monkeypatch.setattr(subsystem, "GcLibrary", lambda device, folder: made)
    monkeypatch.setattr(subsystem, "cleanerds", lambda device: [])
    monkeypatch.setattr(cleaner_module.Cleaner, "unstick", lambda self, *, done: None)
    return made


@pytest.fixture
def start(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    contexts, running = [], []
    monkeypatch.setattr(subsystem, "semaphore_file", lambda device: tmp_path / "semaphore")
    wall = cleaner_module.Cleaner.__init__

    def init(self: Any, *args: Any) -> None:
        wall(self, *args, clock=lambda: world.time)

    monkeypatch.setattr(cleaner_module.Cleaner, "__init__", init)

    def begin(**options: Any) -> NilfsSubsystem:
        chosen = {
            "device": os.devnull, "protection_seconds": 0, "lock_dir": str(tmp_path / "lock"),
            "min_clean_percent": 15.0, "max_clean_percent": 16.0, "segments_per_clean_low": 2,
        } | options  # fmt: skip
        ticks = iter(range(1 << 40))
        made = NilfsSubsystem(clock=lambda: float(10 * next(ticks)))
        context = SubsystemContext(
            "nilfs", NilfsOptions.model_validate(chosen), 1, str(tmp_path), guard="in-process"
        )
        contexts.append(context)
        running.append(made)
        made.start(context)
        return made

    yield begin
    for one in running:
        one.stop()
    for context in contexts:
        for proxy in context.made:
            proxy.close()


class Load:
    """Cold files, and busy ones of which some blocks are busier."""

    def __init__(self, world: World, cold: int = 600, hot: int = 300) -> None:
        self.world = world
        self.hot = hot
        self.rng = random.Random(4)
        for ino, count in ((20, cold), (21, hot)):
            for at in range(0, count, 20):
                world.write([(ino, at + n) for n in range(20)])

    def run(self, made: NilfsSubsystem, capacities: float) -> list[Any]:
        """Write so much, step by step; gives the events."""
        events = []
        shape = self.world.geometry
        until = self.world.user + capacities * shape.segments * shape.segment_blocks
        while self.world.user < until:
            self.world.time += 1
            busy = self.hot // 8 if self.rng.random() < 0.8 else self.hot
            self.world.write(sorted({(21, self.rng.randrange(busy)) for _ in range(12)}))
            events += made.step().events
        return events


def rate(world: World, before: tuple[int, int]) -> float:
    return (world.copied - before[0]) / (world.cleaned - before[1])


def test_a_model_is_trusted_and_copies_less_than_the_default(world: World, start: Start) -> None:
    load, made = Load(world), start()

    events = load.run(made, 5)
    before = world.copied, world.cleaned
    contents = world.contents()
    events += load.run(made, 3)

    assert made.told()["mode"] == "trusted"
    assert [e.new for e in events if isinstance(e, ModeEvent)][-1] == "trusted"
    assert made._arms[1] > 100
    assert set(world.contents()) == set(contents)  # nothing is lost
    ours = rate(world, before)

    other = World(segments=64, blocks=32)
    assert ours < 0.9 * default_rate(other, start)


def default_rate(world: World, start: Start) -> float:
    """The default alone, on the same writes."""
    from mlproxy_nilfs import subsystem as module

    old = module.Volume
    module.Volume = lambda device: world  # type: ignore[assignment,misc]
    library = module.GcLibrary
    module.GcLibrary = lambda device, folder: world  # type: ignore[assignment,misc]
    try:
        load = Load(world)
        made = start(learn=False, device="/dev/zero")
        load.run(made, 5)
        before = world.copied, world.cleaned
        load.run(made, 3)
        assert made._arms[1] == 0
        return rate(world, before)
    finally:
        module.Volume, module.GcLibrary = old, library


def test_a_model_that_turns_bad_is_out(world: World, start: Start) -> None:
    load = Load(world)
    made = start(poison="inverted", poison_at=8.0)

    load.run(made, 5)
    assert made.told()["mode"] == "trusted"
    events = load.run(made, 4)

    changes = [e for e in events if isinstance(e, ModeEvent)]
    assert any(e.new == "emergency" for e in changes), [(e.new, e.reason) for e in changes]


def test_recommendations_that_must_not_be_followed_are_refused(world: World, start: Start) -> None:
    load = Load(world)
    made = start(poison="invalid")

    events = load.run(made, 5)

    assert made._arms == [made._cleaner.totals.segments, 0]
    refused = made._cleaner.totals.refused
    assert sum(refused.values()) >= 6
    assert set(refused) <= {"current", "free", "out-of-range"}
    changes = [(e.new, e.reason) for e in events if isinstance(e, ModeEvent)]
    assert ("emergency", "rejects") in changes


def test_a_silent_model_does_not_stop_the_cleaning(world: World, start: Start) -> None:
    load, made = Load(world), start()
    load.run(made, 4)
    made._brain.acting = None
    made._brain._choose = lambda now: None
    before = made._cleaner.totals.segments, made._arms[1]

    load.run(made, 1)

    assert made._cleaner.totals.segments > before[0] + 30
    # What was recommended before is good for a while, then there is the default.
    assert made._arms[1] - before[1] < 30


def test_what_a_snapshot_has_is_seen_by_a_closer_look(world: World, start: Start) -> None:
    Load(world)
    made = start(default="greedy", learn=False)
    made.step()
    victim = min(made._tracker.pool.used)
    virtual = {e[2] for e in world._segments[victim].entries}
    world.pinned |= virtual
    world.delete(20)
    made._tracker.refresh(made._tracker.pool.used)
    assert made._tracker.pool.live()[victim] == 0

    chosen = [made._cleaner.by_default(world.stat(), 2) for _ in range(4)]

    assert victim not in chosen[-1]
    assert chosen[-1]


def test_youngest_segments_and_those_of_recovery_are_left_alone(world: World, start: Start) -> None:
    Load(world)
    made = start(learn=False, protection_seconds=5)
    made.step()
    made._may_clean()
    world.protected_sequence = 12
    world.time += 100
    chosen = made._cleaner.by_default(world.stat(), 30)
    assert chosen
    assert all(made._tracker.sequence(s) < 12 for s in chosen)
    world.time = 1003
    assert made._cleaner.by_default(world.stat(), 30) == []


def test_two_do_not_clean_at_once(world: World, start: Start, tmp_path: Path) -> None:
    made = start()
    with pytest.raises(MlproxyError) as caught:
        start()
    assert caught.value.code == "nilfs.claimed"
    made.stop()

    other = Lease(lock_path(str(tmp_path / "lock"), os.devnull, "active"))
    assert other.take()
    waiting = start()
    Load(world, cold=900, hot=300)
    for _ in range(5):
        waiting.step()
    assert waiting._cleaner is None
    assert world.cleaned == 0
    other.release()
    for _ in range(5):
        waiting.step()
    assert waiting._cleaner is not None


def test_a_running_cleanerd_is_told_of(
    world: World, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subsystem, "cleanerds", lambda device: [77])
    made = start()
    with pytest.raises(MlproxyError) as caught:
        made.step()
    assert caught.value.code == "nilfs.cleanerd"


# -- the stand-by ---------------------------------------------------------------


HOLDER = """
import sys, time
from pathlib import Path
from mlproxy_nilfs.lease import Lease
lease = Lease(Path(sys.argv[1]))
assert lease.take()
lease.beat()
print("ready", flush=True)
while True:
    time.sleep(0.02)
    lease.beat()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    path = lock_path(str(tmp_path), os.devnull, "claim")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def sleepers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Cleaners that do nothing, but hold the lock that they inherit."""
    monkeypatch.setattr(standby, "semaphore_file", lambda device: tmp_path / "semaphore")
    monkeypatch.setattr(standby, "cleanerds", lambda device: [])
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def stand_by(tmp_path: Path, sleepers: list[Any], stale: float = 60.0) -> StandBy:
    def begin(lock: int) -> int:
        sleepers.append(subprocess.Popen(["sleep", "600"], pass_fds=(lock,)))
        return int(sleepers[-1].pid)

    return StandBy(StandByOptions(os.devnull, str(tmp_path), stale), begin)


def reap(process: subprocess.Popen[bytes]) -> None:
    process.wait(30)


def test_the_stand_by_waits_while_mlproxy_cleans(
    tmp_path: Path, holder: subprocess.Popen[str], sleepers: list[Any]
) -> None:
    one = stand_by(tmp_path, sleepers)
    for _ in range(3):
        one.look()
    assert sleepers == []

    holder.kill()
    holder.wait()
    one.look()

    assert len(sleepers) == 1
    active = Lease(lock_path(str(tmp_path), os.devnull, "active"))
    assert active.taken_by_other()
    sleepers[0].kill()
    sleepers[0].wait()
    assert not active.taken_by_other()  # the lock went with the cleaner
    one.look()
    assert len(sleepers) == 2


def test_a_stopped_mlproxy_is_ended_before_another_cleans(
    tmp_path: Path, holder: subprocess.Popen[str], sleepers: list[Any]
) -> None:
    one = stand_by(tmp_path, sleepers, stale=0.5)
    (tmp_path / "semaphore").touch()
    holder.send_signal(signal.SIGSTOP)
    end = time.monotonic() + 60
    while not sleepers and time.monotonic() < end:
        one.look()
        time.sleep(0.05)

    assert len(sleepers) == 1
    assert holder.wait(30) == -signal.SIGKILL
    assert not (tmp_path / "semaphore").exists()


def test_the_stand_by_gives_way(tmp_path: Path, sleepers: list[Any]) -> None:
    one = stand_by(tmp_path, sleepers)
    one.look()
    assert len(sleepers) == 1
    claim = Lease(lock_path(str(tmp_path), os.devnull, "claim"))
    assert claim.take()
    claim.beat()
    # A zombie still has its number: let it be collected.
    import threading

    collector = threading.Thread(target=reap, args=(sleepers[0],))
    collector.start()
    one.look()
    collector.join()

    assert one.cleaner == 0
    assert not Lease(lock_path(str(tmp_path), os.devnull, "active")).taken_by_other()
    one.look()
    assert len(sleepers) == 1
    claim.close()


def test_a_reused_process_number_is_not_killed(tmp_path: Path, sleepers: list[Any]) -> None:
    claim = Lease(lock_path(str(tmp_path), os.devnull, "claim"))
    assert claim.take()
    # It says that it is this very process, begun at another time.
    os.pwrite(claim.fileno(), lease._BEAT.pack(os.getpid(), 1, 1), 0)
    one = stand_by(tmp_path, sleepers, stale=0.5)
    one.look()
    assert sleepers == []
    claim.close()


def test_modes_are_the_proxys(world: World, start: Start) -> None:
    made = start()
    assert made._proxy.snapshot(0).mode is Mode.LEARNING
    assert made._proxy.guard == "in-process"
