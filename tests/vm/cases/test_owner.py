"""What an in-kernel owner says stays said, and its agent cannot hold it up."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from mlproxy_vm.agents import SECOND, Agent, drop_capability, knob_config, moment, trust
from mlproxy_vm.consumer import CRITICAL, FOLDER, OP, TICK
from mlproxy_vm.modules import EXAMPLE, is_loaded

from mlproxy.errors import ProxyError
from mlproxy.proxy import KernelProxy, Kind, Knob, Mode, ProxyConfig

CAP_SYS_ADMIN = 21
GROUPS = Path("/sys/fs/cgroup")


def play(now, what, arg=0):
    op = np.zeros(1, OP)
    op["now"], op["what"], op["arg"] = now, what, arg
    with (FOLDER / "ops").open("wb", buffering=0) as file:
        file.write(op.tobytes())


def test_an_agent_cannot_take_back_its_owners_need(example):
    with KernelProxy.attach("example") as proxy:
        proxy.start(0)
        play(10, CRITICAL, 1)
        assert proxy.snapshot(0).mode is Mode.EMERGENCY
        proxy.critical(True, 0)
        proxy.critical(False, 0)
        play(100_000, TICK)
        assert proxy.snapshot(0).mode is Mode.EMERGENCY
        proxy.critical(True, 0)
        play(100_001, CRITICAL, 0)
        play(200_000, TICK)
        assert proxy.snapshot(0).mode is Mode.EMERGENCY
    # Its own word ends with the agent.
    with KernelProxy.attach("example") as proxy:
        proxy.start(0)
        assert proxy.snapshot(0).mode is Mode.LEARNING


def test_an_agent_cannot_loosen_its_owners_configuration(example):
    def without_capability(ready):
        drop_capability(CAP_SYS_ADMIN)
        with KernelProxy.attach("example") as proxy:
            loose = dataclasses.replace(proxy.config, share_learning=500_000, alpha=900_000)
            with pytest.raises(ProxyError) as caught:
                proxy.reinit(loose, 0)
            assert "CAP_SYS_ADMIN" in str(caught.value.hint)
            assert proxy.config.share_learning == 50_000
        own = dataclasses.replace(loose, name="own", heartbeat_limit=0)
        with KernelProxy.create(own, capacity=16) as proxy:
            proxy.reinit(dataclasses.replace(own, alpha=800_000), 0)
        ready()

    with Agent(without_capability):
        pass
    with KernelProxy.attach("example") as proxy:
        proxy.reinit(dataclasses.replace(proxy.config, share_learning=60_000), 0)
        assert proxy.config.share_learning == 60_000


@pytest.mark.skipif(
    not Path("/proc/sys/vm/unprivileged_userfaultfd").exists(),
    reason="this kernel has no userfaultfd",
)
@pytest.mark.parametrize("call", ["8", "3"], ids=["submit", "reinit"])
def test_an_agent_whose_memory_never_comes_holds_nobody_up(example, call):
    done = subprocess.run(
        ["/src/tests/vm/bin/stall", call], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not is_loaded(EXAMPLE)


def kernel_memory(group):
    """What the kernel has taken for the members of a control group, bytes."""
    rows = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(rows["kernel"])


def test_a_ring_is_charged_to_who_asks_for_it(module):
    (GROUPS / "cgroup.subtree_control").write_text("+memory")
    group = GROUPS / "mlproxy-ring"
    group.mkdir()
    home = GROUPS / "cgroup.procs"
    try:
        (group / "cgroup.procs").write_text(str(os.getpid()))
        before = kernel_memory(group)
        config = ProxyConfig("ring", Kind.VALUE)
        with KernelProxy.create(config, capacity=1 << 17):  # 16 MiB
            moment(lambda: kernel_memory(group) - before >= 16 << 20)
        moment(lambda: kernel_memory(group) - before < 8 << 20)
    finally:
        home.write_text(str(os.getpid()))
        moment(lambda: "populated 0" in (group / "cgroup.events").read_text())
        group.rmdir()


def test_a_knob_whose_handler_waits_for_ordinary_work(module):
    """Its write flushes work of a queue without a rescuer: the kernel warns when one with does."""
    config = knob_config("refresh", kind=Kind.CHOICE, max=1)
    knob = Knob("/proc/sys/vm/stat_refresh", 0, 9, restore="1")
    with KernelProxy.create(config, knobs=[knob], settings=[[0], [1]]) as proxy:
        proxy.start(0)
        trust(proxy)
        moment(lambda: proxy.knob_status().writes > 0)
        begin = time.monotonic_ns()
        moment(lambda: time.monotonic_ns() > begin + SECOND // 4)
        assert proxy.knob_status().failures == 0
