"""Which transport a proxy gets: the kernel's when it is there and wanted, else this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from mlproxy.errors import ProxyError
from mlproxy.log import get_logger
from mlproxy.proxy.bpf_proxy import BpfProxy
from mlproxy.proxy.device import DEVICE, open_device
from mlproxy.proxy.in_process import InProcessProxy
from mlproxy.proxy.kernel import KernelProxy
from mlproxy.proxy.kernel_make import KernelClock
from mlproxy.proxy.knob import Knob, KnobProxy
from mlproxy.proxy.knob_in_process import InProcessKnobProxy
from mlproxy.proxy.types import ProxyConfig

__all__ = ("Guard", "attach_proxy", "make_knob_proxy", "make_proxy", "usable")

Guard = Literal["auto", "kernel", "in-process"]
"""Who falls back when the daemon dies; `auto`: the kernel where it can."""

_NOT_THE_KERNELS: Final = ("knob.permission", "knob.file")
"""Knobs that the module does not take, and a process may write nevertheless."""


def usable(guard: Guard, device: str = DEVICE) -> bool:
    """Whether proxies are to be made in the kernel.

    A module that is there but cannot be used is told of in the log.
    """
    if guard == "auto":
        try:
            os.close(open_device(device))
        except ProxyError as error:
            if error.code != "kernel.no_module":
                get_logger().warning("guard.in_process", code=error.code, why=str(error.args[0]))
            return False
    return guard != "in-process"


def make_proxy(
    config: ProxyConfig, *, guard: Guard, capacity: int = 65536, device: str = DEVICE
) -> InProcessProxy | KernelProxy:
    """Make a proxy for operations of this process's own, on the caller's clock.

    Raises:
        ProxyError: `proxy.config`; with guard `kernel` also `kernel.*`; `proxy.exists`.
    """
    if usable(guard, device):
        return KernelProxy.create(
            config, capacity=capacity, clock=KernelClock.CALLER, device=device
        )
    return InProcessProxy(config, capacity=capacity)


def make_knob_proxy(
    config: ProxyConfig,
    knobs: Sequence[Knob],
    *,
    guard: Guard,
    settings: Sequence[Sequence[int]] = (),
    default_action: int = 0,
    capacity: int = 65536,
    journal_dir: str | Path | None = None,
    device: str = DEVICE,
) -> KnobProxy:
    """Make a proxy that holds tunables.

    Args:
        config: of the proxy; times in nanoseconds.
        knobs: the tunables.
        guard: who is to hold them. With `auto` a knob that the module does not take is
            held by this process.
        settings: CHOICE: per choice one value per knob that is no trigger.
        default_action: what samples give as the default's action.
        capacity: records in the ring.
        journal_dir: where this process notes what to put back, when it holds the knobs.
        device: where the module is.

    Raises:
        ProxyError: as `KernelProxy.create` and `InProcessKnobProxy`.
    """
    if usable(guard, device):
        try:
            return KernelProxy.create(
                config,
                capacity=capacity,
                knobs=knobs,
                settings=settings,
                default_action=default_action,
                device=device,
            )
        except ProxyError as error:
            if guard == "kernel" or error.code not in _NOT_THE_KERNELS:
                raise
            get_logger().warning(
                "guard.in_process", proxy=config.name, code=error.code, why=str(error.args[0])
            )
    return InProcessKnobProxy(
        config,
        knobs,
        settings=settings,
        default_action=default_action,
        capacity=capacity,
        journal_dir=journal_dir,
    )


def attach_proxy(
    name: str, *, guard: Guard, watchdog_ns: int = 0, bpf: bool = False, device: str = DEVICE
) -> KernelProxy:
    """Become the agent of an in-kernel user's proxy; `bpf`: its programs decide as BPF.

    Raises:
        ProxyError: `proxy.guard` when the configuration forbids the kernel; `kernel.*`,
            `proxy.unknown`, `proxy.busy`; with `bpf` also `bpf.*`.
    """
    if guard == "in-process":
        raise ProxyError(
            f"{name} is a proxy of the kernel, and daemon.guard is 'in-process'",
            code="proxy.guard",
            hint="set daemon.guard to 'auto' or 'kernel', or do without that subsystem",
        )
    kind = BpfProxy if bpf else KernelProxy
    return kind.attach(name, watchdog_ns=watchdog_ns, device=device)
