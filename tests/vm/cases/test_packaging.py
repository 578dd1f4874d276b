"""The files in `configs/` that make the device known to a system, used as they are."""

import grp
import os
import pwd
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest
from mlproxy_vm.modules import FOLDER, MODULE, is_loaded, loaded, rmmod

CONFIGS = Path("/src/configs")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def sysusers():
    run("systemd-sysusers", str(CONFIGS / "sysusers.d/mlproxy.conf"))


@pytest.fixture
def udevd():
    rules = Path("/etc/udev/rules.d")
    rules.mkdir(parents=True, exist_ok=True)
    shutil.copy(CONFIGS / "udev/60-mlproxy.rules", rules)
    daemon = subprocess.Popen(
        ["/usr/lib/systemd/systemd-udevd"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    while not Path("/run/udev/control").exists():
        assert daemon.poll() is None, daemon.communicate()[0]
        time.sleep(0.05)
    run("udevadm", "control", "--ping")
    yield
    daemon.terminate()
    daemon.communicate()


def test_sysusers_makes_user_and_group(sysusers):
    assert pwd.getpwnam("mlproxy").pw_gid == grp.getgrnam("mlproxy").gr_gid


def test_without_a_rule_the_device_is_roots(module):
    status = module.stat()
    assert (status.st_uid, status.st_gid) == (0, 0)
    assert not status.st_mode & stat.S_IRWXO


def test_the_rule_gives_the_device_to_the_group(sysusers, udevd):
    run("udevadm", "verify", "/etc/udev/rules.d/60-mlproxy.rules")
    with loaded(MODULE):
        run("udevadm", "settle", "--timeout=60")
        status = Path("/dev/mlproxy").stat()
        assert grp.getgrgid(status.st_gid).gr_name == "mlproxy"
        assert stat.S_IMODE(status.st_mode) == 0o660


def test_modprobe_finds_an_installed_module_and_boot_does_not_load_it():
    release = os.uname().release
    target = Path("/lib/modules", release, "updates/dkms")
    target.mkdir(parents=True)
    shutil.copy(FOLDER / f"{MODULE}.ko", target)
    run("depmod", release)
    # As systemd-modules-load reads it: a name a line, but for comments.
    listed = (CONFIGS / "modules-load.d/mlproxy.conf").read_text().splitlines()
    assert not [line for line in listed if line.strip() and line.strip()[0] not in "#;"]
    run("modprobe", MODULE)
    assert is_loaded(MODULE)
    rmmod(MODULE)
