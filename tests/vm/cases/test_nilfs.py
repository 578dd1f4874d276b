"""The NILFS2 cleaner on a real file system: it may stop, die or be wrong; nothing is lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from mlproxy_vm.nilfs import DEVICE, Writer, mount, nilfs, umount

from mlproxy import SubsystemContext
from mlproxy.app.client import ControlClient
from mlproxy.errors import ControlError
from mlproxy_nilfs.lease import Lease, cleanerds, lock_path
from mlproxy_nilfs.options import NilfsOptions
from mlproxy_nilfs.subsystem import NilfsSubsystem
from mlproxy_nilfs.volume import ACTIVE, DIRTY, Volume

pytestmark = [pytest.mark.requires_kernel(6, 12), pytest.mark.timeout(600)]
CONFIG = """protection_period 1
min_clean_segments 3%
max_clean_segments 4%
clean_check_interval 1
nsegments_per_clean 4
mc_nsegments_per_clean 4
cleaning_interval 0.2
mc_cleaning_interval 0.2
retry_interval 1
min_reclaimable_blocks 1%
mc_min_reclaimable_blocks 1%
use_set_suinfo
log_priority info
"""


def until(condition, seconds=240.0):
    """Wait; the limit only ends a case that has failed already."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail("it did not come about")
        time.sleep(0.05)


@pytest.fixture
def disk(tmp_path):
    with nilfs(tmp_path / "mnt") as folder:
        yield folder


def options(tmp_path, **more):
    return {
        "device": DEVICE,
        "min_clean_percent": 3.0,
        "max_clean_percent": 4.0,
        "protection_seconds": 1,
        "interval_seconds": 0.2,
        "interval_seconds_low": 0.2,
        "lock_dir": str(tmp_path / "lock"),
        **more,
    }


class Daemon:
    """`mlproxy run` with nothing but this plugin."""

    def __init__(self, folder):
        self.socket = str(folder / "control.sock")
        self.log = folder / "daemon.log"
        settings = [
            *("feed.enabled=false", 'plugins.allow=["nilfs"]'),
            *("daemon.import_seconds=300.0", "daemon.start_seconds=300.0"),
            *("daemon.step_seconds=120.0", f"daemon.state_dir={folder}/state"),
            *(f"daemon.socket={self.socket}", "daemon.log_format=json"),
            "subsystem.nilfs.enabled=true",
            *(f"subsystem.nilfs.{k}={json.dumps(v)}" for k, v in options(folder).items()),
        ]
        arguments = [part for option in settings for part in ("-o", option)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlproxy", "run", *arguments],
                stderr=log,
                env=os.environ | {"MLPROXY_PLUGINS": "nilfs"},
            )

    @property
    def reclaimed(self):
        try:
            with ControlClient(self.socket, timeout=60) as client:
                status = client.call("status")["subsystems"].get("nilfs", {})
        except ControlError:
            return 0
        found = status.get("proxies", {}).get("nilfs-victim", {}).get("metrics", {})
        return found.get("reclaimed_segments", 0)


@contextlib.contextmanager
def standing_by(tmp_path):
    config = tmp_path / "cleanerd.conf"
    config.write_text(CONFIG)
    words = ["nilfs", "stand-by", DEVICE, "--lock-dir", str(tmp_path / "lock")]
    words += ["--stale-seconds", "15", "--config", str(config)]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlproxy", *words], env=os.environ | {"MLPROXY_PLUGINS": "nilfs"}
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(120)
        assert not cleanerds(DEVICE)


def check_all(folder, writer):
    """Remount, read every file back, walk the checkpoints, read the newest one as it was."""
    umount(folder)
    mount(folder)
    assert writer.wrong() == []
    volume = Volume(DEVICE)
    found = volume.checkpoint_list()
    numbers = found["cno"].tolist()
    assert numbers
    assert numbers == sorted(set(numbers))
    assert len(numbers) == volume.checkpoints()[1]
    volume.close()
    subprocess.run(["chcp", "ss", DEVICE, str(numbers[-1])], check=True)
    old = folder.parent / "old"
    old.mkdir()
    subprocess.run(["mount", "-t", "nilfs2", "-o", f"ro,cp={numbers[-1]}", DEVICE, old], check=True)
    assert writer.wrong(old) == []
    umount(old)


@pytest.mark.parametrize("how", ["SIGSTOP", "SIGKILL"])
def test_full_disk_with_the_agent_gone_in_the_middle_of_cleaning(
    module, disk, tmp_path, measure, how
):
    writer = Writer(disk, files=40, size=1 << 20)  # of some 60 MiB
    writer.fill()
    daemon = Daemon(tmp_path)
    try:
        with standing_by(tmp_path):
            lock = lock_path(str(tmp_path / "lock"), DEVICE, "active")
            writer.start()
            until(lambda: daemon.process.poll() is not None or daemon.log.stat().st_size)
            # Full: from now on every write waits for cleaning.
            volume = Volume(DEVICE)
            until(lambda: volume.stat().clean <= 0.03 * 255 + volume.geometry.reserved_segments)
            volume.close()
            used = os.statvfs(disk)
            measure("used", 1 - used.f_bavail / used.f_blocks)
            until(lambda: daemon.process.poll() is not None or daemon.reclaimed > 40)
            assert daemon.process.poll() is None, daemon.log.read_text()
            assert not cleanerds(DEVICE)
            daemon.process.send_signal(getattr(signal, how))
            at = writer.written
            until(lambda: cleanerds(DEVICE))
            assert Lease(lock).taken_by_other()
            # It is fenced, whether it was dead already or only stopped.
            assert daemon.process.wait(60) == -signal.SIGKILL
            until(lambda: writer.written > at + (40 << 20) or writer.failure)
            writer.over.set()
            writer.join(120)
            assert writer.failure is None
            subprocess.run(["sync", "-f", disk], check=True)
            measure("written_mib", writer.written >> 20)
            measure("refused_writes", writer.refused)
    finally:
        daemon.process.kill()
        daemon.process.wait()
        writer.over.set()
    check_all(disk, writer)


def test_a_rank_of_segments_that_must_not_be_cleaned_is_refused(disk, tmp_path):
    writer = Writer(disk, files=20, size=1 << 20)
    writer.fill()
    subsystem = NilfsSubsystem()
    chosen = NilfsOptions(**options(tmp_path, poison="invalid", min_clean_percent=50.0,
                                    max_clean_percent=50.0))  # fmt: skip
    context = SubsystemContext("nilfs", chosen, 1, str(tmp_path))
    subsystem.start(context)
    try:
        until(subsystem._may_clean)
        cleaner, volume = subsystem._cleaner, subsystem._volume
        subsystem._tracker.follow()
        stat, flags = volume.stat(), volume.segments()["flags"].tolist()
        current = next(n for n, flag in enumerate(flags) if flag & ACTIVE)
        free = flags.index(0)
        plain = [n for n, flag in enumerate(flags) if flag == DIRTY]
        pinned = [n for n in plain if cleaner.pinned(stat)(n)]
        for segments, why in (
            ([current], "current"),
            ([free], "free"),
            ([pinned[0]], "pinned"),
            ([len(flags)], "out-of-range"),
            ([1 << 60], "out-of-range"),
        ):
            assert cleaner.refuses(segments, stat) == why
            assert cleaner.totals.refused[why]
        # What the library would do of them without that check.
        before = stat.dirty
        done = cleaner.clean([current, free], stat, cleaner.pace(stat))
        assert done.cleaned == 0
        assert volume.stat().dirty == before
        # A model that says such things all the time: the default cleans, and it is an emergency.
        writer.start()
        subsystem._brain.acting = "greedy"
        subsystem._brain._choose = lambda now: None

        def told():
            subsystem.step()
            return subsystem.told()["reason"] == "rejects" and cleaner.totals.segments > 8

        until(told)
        assert sum(cleaner.totals.refused.values()) >= 5 + 6
        assert subsystem._arms[1] == 0
        # Cleaning goes on until it is all on the disk: what is being written may wait for that.
        writer.over.set()
        until(lambda: subsystem.step() and not writer.is_alive())
        with subprocess.Popen(["sync", "-f", disk]) as syncing:
            until(lambda: subsystem.step() and syncing.poll() is not None)
        assert syncing.returncode == 0
    finally:
        writer.over.set()
        writer.join(120)
        subsystem.stop()
        for proxy in context.made:
            proxy.close()
    check_all(disk, writer)


def test_a_snapshot_is_kept_while_all_else_is_cleaned(disk, tmp_path):
    writer = Writer(disk, files=16, size=1 << 20)
    writer.fill()
    old = tmp_path / "snapshot"
    old.mkdir()
    subprocess.run(["mkcp", "-s", DEVICE], check=True)
    volume = Volume(DEVICE)
    (number,) = volume.snapshots()
    kept = Writer(disk, files=16, size=1 << 20)  # the same contents, never changed
    subsystem = NilfsSubsystem()
    chosen = NilfsOptions(**options(tmp_path, default="greedy", learn=False))
    context = SubsystemContext("nilfs", chosen, 1, str(tmp_path))
    subsystem.start(context)
    try:
        writer.start()

        def cleaned():
            subsystem.step()
            return subsystem._cleaner is not None and subsystem._cleaner.totals.segments > 300

        until(cleaned)
        # Cleaning goes on until it is all on the disk: what is being written may wait for that.
        writer.over.set()
        until(lambda: subsystem.step() and not writer.is_alive())
        with subprocess.Popen(["sync", "-f", disk]) as syncing:
            until(lambda: subsystem.step() and syncing.poll() is not None)
        assert syncing.returncode == 0
    finally:
        writer.over.set()
        writer.join(120)
        subsystem.stop()
        for proxy in context.made:
            proxy.close()
    assert volume.snapshots() == [number]
    volume.close()
    subprocess.run(["mount", "-t", "nilfs2", "-o", f"ro,cp={number}", DEVICE, old], check=True)
    assert kept.wrong(old) == []
    umount(old)
    check_all(disk, writer)
