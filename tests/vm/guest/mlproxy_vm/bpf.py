"""Fixtures for models as BPF: proxies of the case's own, models that end with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from mlproxy.proxy import (
    Arm,
    BpfModel,
    BpfProxy,
    Decision,
    InProcessProxy,
    KernelClock,
    KernelProxy,
    Kind,
    Mode,
    Program,
    ProgramNode,
    ProxyConfig,
    Reason,
    Recommendation,
    Reject,
)
from mlproxy.proxy.bpf import WALKER
from mlproxy.proxy.device import module_info
from mlproxy_vm import programs
from mlproxy_vm.modules import EXAMPLE, MODULE, loaded
from mlproxy_vm.plugin import running

DEFAULT = 77


class Asked(KernelProxy):
    """A proxy whose operations are the case's."""

    seq = 0
    unit = 0

    def trust(self, *, action: int = 5, expiry: int = 1 << 40) -> None:
        """Start, trust the model, submit a program that always says the same."""
        twin = InProcessProxy(self.config)
        for proxy in (self, twin):
            proxy.start(0)
            proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
        self.arm_of = twin.arm_of
        self.unit = next(unit for unit in range(1000) if twin.arm_of(unit, 0) is Arm.MODEL)
        self.seq = 0
        self.submit_leaf(action, expiry=expiry)

    def submit_leaf(self, action: int = 5, *, expiry: int = 1 << 40) -> None:
        """Submit for every stream."""
        for stream in range(self.config.nr_streams):
            self.seq += 1
            one = Program((ProgramNode(-1, action),), nr_features=0, stream=stream)
            advice = Recommendation(Kind.PROGRAM, self.seq, expiry, 1, 1, program=one)
            assert self.submit(advice, 0) is Reject.NONE

    def ask(self, features: Sequence[int], stream: int = 0, *, now: int = 0) -> Decision:
        """A decision for a unit that is the model's."""
        return self.decide(features, self.unit, DEFAULT, now, stream=stream)


class AskedWithBpf(Asked, BpfProxy):
    """Likewise, with a model as BPF that takes what it submits."""


def _proxy(low: int, high: int, kind: type[Asked] = Asked) -> Asked:
    config = ProxyConfig(
        "asked",
        Kind.PROGRAM,
        nr_features=programs.FEATURES,
        nr_streams=4 if low < 0 else 1,
        min=low,
        max=high,
    )
    return kind.create(config, clock=KernelClock.CALLER)


@pytest.fixture
def bpf(module: Path) -> Iterator[None]:
    """The module takes models here; at the end the kernel has let go of all of them."""
    if running() < (6, 9):
        pytest.skip(f"needs kernel 6.9, this is {os.uname().release}")
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("this kernel was built without BTF")
    assert module_info().struct_ops
    yield
    deadline = time.monotonic() + 60
    # What was detached is freed after RCU grace periods, and has the module until then.
    while _users() and time.monotonic() < deadline:
        time.sleep(0.02)


def _users() -> int:
    count = Path("/sys/module", MODULE, "refcnt")
    return int(count.read_text()) if count.exists() else 0


@pytest.fixture
def wide_proxy(bpf: None) -> Iterator[Asked]:
    """A proxy with four streams that takes every action."""
    with _proxy(programs.LEAST, programs.MOST) as proxy:
        yield proxy


@pytest.fixture
def narrow_proxy(bpf: None) -> Iterator[Asked]:
    """A proxy with one stream that takes actions 0 to 3."""
    with _proxy(0, 3) as proxy:
        yield proxy


@pytest.fixture
def bpf_proxy(bpf: None) -> Iterator[Asked]:
    """As `narrow_proxy`, with a model that takes what it submits."""
    with _proxy(0, 3, AskedWithBpf) as proxy:
        yield proxy


@pytest.fixture
def attach(bpf: None) -> Iterator[Callable[..., BpfModel]]:
    """`attach(proxy, walker)`: a model that ends with the case."""
    models: list[BpfModel] = []

    def attach_one(proxy: str, walker: Path = WALKER) -> BpfModel:
        models.append(BpfModel(proxy, walker=walker))
        return models[-1]

    yield attach_one
    for model in models:
        model.close()


@pytest.fixture
def load_example(module: Path) -> Callable[..., AbstractContextManager[None]]:
    """`with load_example("kind=1"):` the example is loaded inside."""
    return partial(loaded, EXAMPLE)
