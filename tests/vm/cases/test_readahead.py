"""The plugin readahead on a real device: its count, and that the default always comes back."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from mlproxy_vm.blockdev import null_blk, remove_null_blk
from mlproxy_vm.daemon import Daemon
from mlproxy_vm.memory import STORM
from mlproxy_vm.memory import storm as pressure

from mlproxy_readahead.bench_streams import STREAMS, Files

# The tracepoints that tell what was asked for came with Linux 6.12.
pytestmark = pytest.mark.requires_kernel(6, 12)
DEVICE = "nullb0"
KNOB = Path(f"/sys/block/{DEVICE}/queue/read_ahead_kb")
SETTINGS = [
    f'subsystem.readahead.device="{DEVICE}"',
    # The model acts in nearly all epochs from the start, so that there is something to restore.
    *(f"proxy.readahead.share_{mode}=900000" for mode in ("learning", "collaboration", "trusted")),
]


def until(condition, seconds=280.0):
    """Wait; the limit only ends a case that has failed already."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail("it did not come about")
        time.sleep(0.05)


def setting():
    return int(KNOB.read_text())


@pytest.fixture
def files():
    with null_blk(DEVICE, mib=160) as folder:
        made = Files(folder)
        made.make()
        yield made


class Load(threading.Thread):
    """A program that reads files from end to end, until told to stop or its device is gone."""

    def __init__(self, files):
        super().__init__(daemon=True)
        self.files = files
        self.over = threading.Event()

    def run(self):
        rng = random.Random(1)
        with contextlib.suppress(OSError):
            # Pauses, or on a slow processor the daemon does not get its turn.
            while not self.over.wait(0.02):
                STREAMS["sequential"](self.files, rng)


@pytest.fixture
def run(module, files, tmp_path):
    """`run(*options)`: a daemon over a program that reads, once the model has written."""
    daemons, load = [], Load(files)

    def start(*options, acts=True, guard="kernel"):
        daemon = Daemon(tmp_path, "readahead", [*SETTINGS, *options], guard=guard)
        daemons.append(daemon)
        until(lambda: daemon.proxy["mode"] or daemon.process.poll() is not None)
        if not load.is_alive():
            load.start()
        if acts:
            until(lambda: setting() != 128)
        return daemon

    yield start
    load.over.set()
    for daemon in daemons:
        with contextlib.suppress(ProcessLookupError):
            daemon.process.send_signal(signal.SIGCONT)
            daemon.process.terminate()
        daemon.process.wait(60)
    if load.ident:
        load.join(60)


def test_what_is_counted_is_what_was_asked_for(files, measure):
    from mlproxy_readahead.accesses import AccessTrace
    from mlproxy_readahead.demand import DemandMeter
    from mlproxy_readahead.device import BlockDevice

    device = BlockDevice(DEVICE)
    trace = AccessTrace(DEVICE, device.numbers(), 4096)
    meter, rng = DemandMeter(), random.Random(1)
    try:
        for kb in (4, 128, 4096):
            device.knob.write_text(str(kb))
            for name, stream in STREAMS.items():
                trace.read(100)
                asked = counted = 0
                for _ in range(12):
                    asked += stream(files, rng)
                    counted += meter.add(*trace.read(100)).asked_bytes
                measure(f"{name}_{kb}", counted / asked)
                # Random pages are not told of that were mapped along with another one:
                # here, in files of 128 windows, up to an eighth.
                least = 0.85 if name == "random" and kb > 4 else 0.98
                assert least <= counted / asked <= 1.02, (name, kb)
    finally:
        trace.close()
    assert not list(Path("/sys/kernel/tracing/instances").iterdir())


def test_killed_the_default_is_back(run):
    daemon = run()
    daemon.process.kill()
    daemon.process.wait()
    end = time.monotonic() + 1
    until(lambda: setting() == 128)
    assert time.monotonic() < end + 1  # a second, and what an emulated look at it takes
    # The instance it left is taken over.
    assert run(acts=False).proxy["mode"] == "learning"


def test_stopped_the_default_is_back_and_it_goes_on_afterwards(run):
    daemon = run()
    daemon.process.send_signal(signal.SIGSTOP)
    until(lambda: setting() == 128, 30)
    time.sleep(3)
    assert setting() == 128
    daemon.process.send_signal(signal.SIGCONT)
    until(lambda: daemon.proxy["reason"] == "cooldown")
    assert [e["reason"] for e in daemon.events("mode.changed")][-2:] == ["heartbeat", "cooldown"]


def test_buttons(run):
    daemon = run()
    daemon.call("emergency", on=True)
    until(lambda: setting() == 128)
    assert (daemon.proxy["mode"], daemon.proxy["reason"]) == ("emergency", "operator")
    daemon.call("emergency", on=False, proxy="readahead")
    until(lambda: setting() != 128)
    panic = Path("/sys/class/misc/mlproxy/panic")
    panic.write_text("1")
    until(lambda: setting() == 128)
    panic.write_text("0")


@pytest.mark.parametrize("guard", ["kernel", "in-process"])
def test_a_value_of_the_administrator_is_left_alone(run, guard):
    daemon = run(guard=guard)
    assert daemon.proxy["guard"] == guard
    KNOB.write_text("512")
    until(lambda: daemon.proxy["reason"] == "operator-override")
    time.sleep(2)
    assert setting() == 512
    assert daemon.events("mode.changed")[-1]["reason"] == "operator-override"
    daemon.call("emergency", on=False, proxy="readahead")
    until(lambda: setting() != 512)
    daemon.process.terminate()
    daemon.process.wait(60)
    assert setting() == 512  # his word is the default now


@pytest.fixture
def storm():
    """`storm()`: programs in a control group stall for memory."""
    with pressure() as rage:
        yield rage


def test_under_pressure_the_default_acts(run, storm):
    daemon = run(f"psi.storm.cgroup='{STORM}'", "subsystem.readahead.critical=['storm']")
    raging = storm()
    until(lambda: daemon.proxy["reason"] == "critical")
    until(lambda: setting() == 128)
    assert "memory pressure" in daemon.subsystem["critical"]["storm"]
    raging.kill()
    until(lambda: not daemon.subsystem["critical"])
    until(lambda: setting() != 128)
    told = [(e["event"], e.get("code", "")) for e in daemon.events("plugin.critical")]
    assert told == [("plugin.critical", "psi.pressure")]
    assert len(daemon.events("plugin.relieved")) == 1


@pytest.mark.allow_log("I/O error", "Buffer I/O error", "EXT4-fs")
def test_a_device_that_is_taken_away_is_told_of(run):
    daemon = run()
    remove_null_blk(DEVICE)
    until(lambda: daemon.events("plugin.gave_up"))
    codes = [event.get("code") for event in daemon.events("plugin.quarantined")]
    assert codes[0] == "readahead.device_gone"
    assert set(codes[1:]) == {"readahead.no_device"}
    assert daemon.process.poll() is None
