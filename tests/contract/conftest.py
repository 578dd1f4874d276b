"""All transports for every contract test: `pytest tests/contract`, and in a guest with the
module loaded `MLPROXY_KERNEL=1 pytest tests/contract`. Without the variable the kernel's
variants are not collected at all, so that a run without a kernel has nothing to skip.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from mlproxy.proxy import BpfProxy, InProcessProxy, KernelClock, KernelProxy, ProxyConfig
from mlproxy.testing import FakeProxy

KERNEL = os.environ.get("MLPROXY_KERNEL") == "1"
TRANSPORTS = ["in-process", "kernel"] if KERNEL else ["in-process"]
BPF = ["bpf"] if KERNEL else []
serial = itertools.count()

Made = FakeProxy | InProcessProxy | KernelProxy
MakeProxy = Callable[..., Made]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "transport" in metafunc.fixturenames:
        fake = ["fake"] if getattr(metafunc.module, "WITH_FAKE", False) else []
        bpf = BPF if getattr(metafunc.module, "WITH_BPF", False) else []
        metafunc.parametrize("transport", fake + TRANSPORTS + bpf)


@pytest.fixture
def make_proxy(transport: str, request: pytest.FixtureRequest) -> Iterator[MakeProxy]:
    """Make proxies on the caller's clock; closed after the test."""
    made: list[Made] = []
    if transport == "bpf":
        request.getfixturevalue("bpf")  # of the guest: skips where models as BPF are not possible

    def make(config: ProxyConfig, *, capacity: int = 64) -> Made:
        proxy: Made
        if transport == "fake":
            proxy = FakeProxy(config, capacity)
        elif transport in ("kernel", "bpf"):
            # A failed test's proxy may still be there under its name.
            config = dataclasses.replace(config, name=f"{config.name[:20]}.{next(serial)}")
            kind = KernelProxy if transport == "kernel" else BpfProxy
            proxy = kind.create(config, capacity=capacity, clock=KernelClock.CALLER)
        else:
            proxy = InProcessProxy(config, capacity=capacity)
        made.append(proxy)
        return proxy

    yield make
    for proxy in made:
        proxy.close()
