"""The module loads into an unmodified kernel, makes its device, and goes without a trace."""

import os
import stat

import pytest
from mlproxy_vm.modules import EXAMPLE, MODULE, ModuleError, insmod, is_loaded, rmmod


def test_this_is_the_kernel_that_was_asked_for(expected_release):
    assert os.uname().release == expected_release


def test_load_makes_a_device_and_unload_takes_it_away(module):
    device = module.stat()
    assert stat.S_ISCHR(device.st_mode)
    assert os.major(device.st_rdev) == 10  # misc
    rmmod(MODULE)
    assert not is_loaded(MODULE)
    assert not module.exists()


def test_the_example_needs_the_module(module):
    insmod(EXAMPLE)
    with pytest.raises(ModuleError, match="in use"):
        rmmod(MODULE)
    rmmod(EXAMPLE)


def test_an_open_device_keeps_the_module(module):
    with module.open("rb", buffering=0), pytest.raises(ModuleError, match="in use"):
        rmmod(MODULE)
