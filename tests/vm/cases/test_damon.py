"""The plugin damon on a real kernel: it saves memory, and whatever happens no scheme is left."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import pytest
from mlproxy_vm.daemon import Daemon
from mlproxy_vm.memory import STORM, Program, zram_swap
from mlproxy_vm.memory import storm as pressure

ADMIN = Path("/sys/kernel/mm/damon/admin/kdamonds")
pytestmark = [
    pytest.mark.requires_kernel(6, 12),
    pytest.mark.skipif(not ADMIN.is_dir(), reason="this kernel has no DAMON in sysfs"),
]
NEVER = "4294967295"
QUICK = [
    "subsystem.damon.baseline_seconds=2",
    "subsystem.damon.epoch_seconds=2",
    "subsystem.damon.min_age_seconds=[2.0,4.0]",
    "subsystem.damon.quota_shares=[0.25,1.0]",
    "subsystem.damon.quota_ms=0",
    "subsystem.damon.refaults_percent_per_minute=100",
    "subsystem.damon.cpu_percent=50",
    # The model acts in nearly all epochs from the start.
    *(f"proxy.damon.share_{mode}=950000" for mode in ("learning", "collaboration", "trusted")),
]


def until(condition, seconds=240.0):
    """Wait; the limit only ends a case that has failed already."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail("it did not come about")
        time.sleep(0.1)


def state():
    try:
        return (ADMIN / "0/state").read_text().strip()
    except OSError:
        return "none"


def min_age():
    return (ADMIN / "0/contexts/0/schemes/0/access_pattern/age/min").read_text().strip()


STAT = Path("/sys/module/damon_stat/parameters/enabled")


@pytest.fixture(scope="module", autouse=True)
def free():
    """Newer kernels have a user of DAMON of their own, switched on; an operator must decide."""
    if STAT.exists():
        STAT.write_text("N")


@pytest.fixture(scope="module")
def swap():
    with zram_swap(256):
        yield


@pytest.fixture
def program(swap, tmp_path):
    made = []

    def start(**sizes):
        made.append(Program(tmp_path / f"work{len(made)}", **sizes))
        return made[-1]

    yield start
    for one in made:
        one.end()


@pytest.fixture
def run(module, tmp_path):
    daemons = []

    def start(*options, guard="kernel", ready=True):
        daemon = Daemon(tmp_path, "damon", [*QUICK, *options], guard=guard)
        daemons.append(daemon)
        if ready:
            until(lambda: daemon.proxy["mode"] or daemon.subsystem["failure"])
            assert daemon.subsystem["failure"] is None
        return daemon

    yield start
    for daemon in daemons:
        with contextlib.suppress(ProcessLookupError):
            daemon.process.send_signal(signal.SIGCONT)
            daemon.process.terminate()
        daemon.process.wait(60)

    assert (ADMIN / "nr_kdamonds").read_text().strip() == "0"


def emptied(target, before):
    """Whether the model has taken what the program does not use."""
    return lambda: target.resident_mib() < 0.7 * before


@pytest.fixture
def acting(run, program):
    """A program, and a daemon whose model has taken memory from it."""

    def start(*options, guard="kernel"):
        target = program()
        before = target.resident_mib()
        daemon = run(f"subsystem.damon.pid={target.pid}", *options, guard=guard)
        assert daemon.proxy["guard"] == guard
        until(emptied(target, before))
        return daemon, target

    return start


@pytest.fixture
def group():
    """A control group; it may vanish."""
    folder = Path("/sys/fs/cgroup/served")
    (folder.parent / "cgroup.subtree_control").write_text("+memory")
    folder.mkdir()
    yield folder
    with contextlib.suppress(FileNotFoundError):
        until(lambda: "populated 0" in (folder / "cgroup.events").read_text())
        folder.rmdir()


def test_memory_that_is_not_used_is_taken(acting, measure):
    daemon, target = acting()
    measure("resident_mib", target.resident_mib())
    metrics = daemon.proxy["metrics"]
    measure("kdamond_cpu", metrics["kdamond_cpu_ratio"])
    measure("plugin_cpu", metrics["plugin_cpu_ratio"])
    assert state() == "on"
    daemon.process.terminate()
    daemon.process.wait(60)
    assert state() == "none"


def test_killed_the_kernel_switches_it_off(acting, run):
    daemon, target = acting()
    daemon.process.kill()
    daemon.process.wait()
    until(lambda: state() == "off", 30)
    assert min_age() == NEVER
    # What it left is known by its note, and taken over.
    again = run(f"subsystem.damon.pid={target.pid}")
    until(lambda: state() == "on")
    assert again.proxy["mode"] == "learning"


def test_killed_without_the_module_the_journal_knows(acting, run):
    daemon, target = acting(guard="in-process")
    daemon.process.kill()
    daemon.process.wait()
    again = run(f"subsystem.damon.pid={target.pid}", guard="in-process")
    assert again.events("plugin.put_back")
    until(lambda: state() == "on")


def test_stopped_the_default_is_back_and_it_goes_on_afterwards(acting):
    daemon, _ = acting()
    daemon.process.send_signal(signal.SIGSTOP)
    until(lambda: min_age() == NEVER, 60)
    time.sleep(3)
    assert min_age() == NEVER
    daemon.process.send_signal(signal.SIGCONT)
    until(lambda: daemon.proxy["reason"] == "cooldown")
    assert [e["reason"] for e in daemon.events("mode.changed")][-2:] == ["heartbeat", "cooldown"]


def test_buttons(acting):
    daemon, _ = acting()
    daemon.call("emergency", on=True)
    until(lambda: min_age() == NEVER)
    assert (daemon.proxy["mode"], daemon.proxy["reason"]) == ("emergency", "operator")
    daemon.call("emergency", on=False, proxy="damon")
    until(lambda: daemon.proxy["mode"] != "emergency")
    panic = Path("/sys/class/misc/mlproxy/panic")
    panic.write_text("1")
    until(lambda: daemon.proxy["mode"] == "emergency")
    until(lambda: min_age() == NEVER)
    panic.write_text("0")


def test_a_value_of_the_administrator_is_left_alone(acting):
    daemon, _ = acting()
    # As a person does it: write, then commit.
    file = ADMIN / "0/contexts/0/schemes/0/access_pattern/age/min"
    file.write_text("77")
    until(lambda: daemon.proxy["reason"] == "operator-override")
    time.sleep(2)
    assert min_age() == "77"
    assert daemon.events("mode.changed")[-1]["reason"] == "operator-override"


def test_a_kdamond_of_somebody_else_is_not_touched(run, program):
    target = program(hot=4, cold=4)
    (ADMIN / "nr_kdamonds").write_text("1")
    try:
        (ADMIN / "0/contexts/nr_contexts").write_text("1")
        daemon = run(f"subsystem.damon.pid={target.pid}", ready=False)
        until(lambda: daemon.events("plugin.quarantined"))
        assert daemon.events("plugin.quarantined")[0]["code"] == "damon.foreign"
        assert daemon.process.poll() is None
        assert (ADMIN / "nr_kdamonds").read_text().strip() == "1"
        assert (ADMIN / "0/contexts/nr_contexts").read_text().strip() == "1"
        daemon.process.terminate()
        daemon.process.wait(60)
        assert (ADMIN / "nr_kdamonds").read_text().strip() == "1"
    finally:
        (ADMIN / "nr_kdamonds").write_text("0")


@pytest.mark.skipif(not STAT.exists(), reason="this kernel has no DAMON_STAT")
def test_the_kernels_own_statistics_are_not_touched(run, program):
    target = program(hot=4, cold=4)
    STAT.write_text("Y")
    try:
        daemon = run(f"subsystem.damon.pid={target.pid}", ready=False)
        until(lambda: daemon.events("plugin.quarantined"))
        assert daemon.events("plugin.quarantined")[0]["code"] == "damon.foreign"
        assert STAT.read_text().strip() == "Y"
    finally:
        STAT.write_text("N")


def test_a_program_that_ends_and_comes_back(run, program, tmp_path):
    file = tmp_path / "program.pid"
    first = program(hot=4, cold=12)
    file.write_text(f"{first.pid}\n")
    daemon = run(f"subsystem.damon.pid_file='{file}'")
    until(lambda: state() == "on")
    first.end()
    until(lambda: daemon.events("plugin.target-gone"))
    assert daemon.events("plugin.target-gone")[0]["code"] == "damon.target_gone"
    assert state() == "off"
    assert daemon.proxy["mode"] == "emergency"
    second = program(hot=4, cold=12)
    file.write_text(f"{second.pid}\n")
    until(lambda: len(daemon.events("plugin.target-found")) == 2)
    until(lambda: daemon.proxy["mode"] == "learning")
    assert state() == "on"


def test_a_group_that_grows_and_vanishes(run, program, group):
    programs = [program(hot=4, cold=12, group=str(group))]
    daemon = run(f"subsystem.damon.cgroup='{group}'", "subsystem.damon.least_mib=4")
    until(lambda: daemon.proxy["metrics"].get("targets") == 1)
    programs.append(program(hot=4, cold=12, group=str(group)))
    until(lambda: daemon.proxy["metrics"].get("targets") == 2)
    for one in programs:
        one.end()
    until(lambda: "populated 0" in (group / "cgroup.events").read_text())
    group.rmdir()
    until(lambda: daemon.events("plugin.target-gone"))
    until(lambda: state() == "off")
    assert daemon.process.poll() is None
    assert daemon.subsystem["failure"] is None


@pytest.fixture
def storm():
    """`storm()`: programs in a control group stall for memory."""
    with pressure() as rage:
        yield rage


def test_under_pressure_the_default_acts(storm, acting):
    daemon, _ = acting(f"psi.storm.cgroup='{STORM}'", "subsystem.damon.critical=['storm']")
    raging = storm()
    until(lambda: daemon.proxy["reason"] == "critical")
    until(lambda: min_age() == NEVER)
    assert "memory pressure" in daemon.subsystem["critical"]["storm"]
    raging.kill()
    until(lambda: not daemon.subsystem["critical"])
    until(lambda: daemon.proxy["mode"] != "emergency")
