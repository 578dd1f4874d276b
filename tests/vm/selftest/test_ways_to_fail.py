"""Every way in which a case can end: `run.py --selftest` compares it with what the name says."""

import signal
import time
from pathlib import Path

import pytest
from mlproxy_vm.modules import MODULE, insmod

KMSG = Path("/dev/kmsg")


def test_passes():
    pass


def test_failed_by_an_assertion():
    assert not Path("/proc/version").read_text()


def test_skipped():
    pytest.skip("for a reason")


def test_failed_by_a_report_in_the_log():
    KMSG.write_text("<4>WARNING: CPU: 0 PID: 1 at made by hand\n")


def test_passes_since_the_log_of_others_is_not_its():
    pass


@pytest.mark.allow_log("made by hand")
def test_passes_with_a_report_that_it_announced():
    KMSG.write_text("<4>WARNING: CPU: 0 PID: 1 at made by hand\n")


@pytest.mark.timeout(5)
def test_failed_by_its_own_limit():
    time.sleep(60)


def test_failed_by_a_panic():
    Path("/proc/sysrq-trigger").write_text("c")


def test_passes_after_a_panic(module):
    assert module.exists()


def test_failed_by_a_module_that_stays():
    insmod(MODULE)
    # Held by the process until the guest boots anew.
    globals()["held"] = Path("/dev/mlproxy").open("rb", buffering=0)  # noqa: SIM115
    raise AssertionError("and it is in use")


def test_passes_after_a_module_that_stayed(module):
    assert module.exists()


@pytest.mark.timeout(5)
def test_failed_by_a_hang_that_no_signal_ends():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(3600)


def test_passes_after_a_hang(module):
    assert module.exists()
