"""How a file of /dev/mlproxy gets its proxy: CREATE and ATTACH."""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mlproxy import _core
from mlproxy.errors import ProxyError
from mlproxy.proxy.device import ABI_VERSION, call, open_device
from mlproxy.proxy.kernel_file import KernelFile
from mlproxy.proxy.knob import Knob, open_knob
from mlproxy.proxy.knob_rules import check_shape, settings_of
from mlproxy.proxy.native import config_of, native_config, refused_config
from mlproxy.proxy.refusal import failure
from mlproxy.proxy.types import ProxyConfig

__all__ = ("KernelClock", "Made", "attach", "create")

ffi = _core.ffi
lib = _core.lib

_MEASURES: Final = int(lib.MLP_AGENT_REPORTS | lib.MLP_AGENT_TWINS)
_DECIDES: Final = int(lib.MLP_AGENT_DECIDES)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class KernelClock(enum.IntEnum):
    """Whose time a proxy lives in (enum mlp_clock)."""

    MONOTONIC = int(lib.MLP_CLOCK_MONOTONIC)
    CALLER = int(lib.MLP_CLOCK_CALLER)
    OWNER = int(lib.MLP_CLOCK_OWNER)


@dataclass(frozen=True, slots=True)
class Made:
    """A file with its proxy, and what is known of it."""

    file: KernelFile
    config: ProxyConfig
    capacity: int
    clock: KernelClock
    rights: int


@contextlib.contextmanager
def _opened(device: str) -> Iterator[int]:
    """The open device, closed again only on errors."""
    fd = open_device(device)
    try:
        yield fd
    except BaseException:
        os.close(fd)
        raise


def create(
    config: ProxyConfig,
    capacity: int,
    clock: KernelClock,
    knobs: Sequence[Knob],
    settings: Sequence[Sequence[int]],
    default_action: int,
    device: str,
) -> Made:
    """Make a proxy that ends with its file; see `KernelProxy.create`."""
    _check(config, capacity, clock, knobs)
    request = ffi.new("struct mlp_ioc_create *")
    request.abi_version = ABI_VERSION
    request.clock = clock
    request.capacity = capacity
    request.default_action = default_action
    request.config = native_config(config)[0]
    rows = settings_of(config, knobs, settings)
    if len(rows):
        request.nr_settings = len(rows)
        request.settings = rows.ctypes.data
    with contextlib.ExitStack() as stack:
        natives = _open_all(knobs, stack)
        if knobs:
            request.nr_knobs = len(knobs)
            request.knobs = int(ffi.cast("uintptr_t", natives))
        fd = stack.enter_context(_opened(device))
        error = call(fd, lib.MLP_IOC_CREATE, request)
        if error < 0:
            bad = ffi.string(request.bad).decode(errors="replace")
            raise _create_failure(-error, config, bad, knobs)
        # Last: from now on the file is closed by its owner alone.
        file = KernelFile(fd, config.name, capacity)
    # With knobs the kernel decides, once per epoch.
    return Made(file, config, capacity, clock, _MEASURES | (0 if knobs else _DECIDES))


def attach(name: str, watchdog_ns: int, device: str) -> Made:
    """Become an in-kernel proxy's agent; see `KernelProxy.attach`."""
    request = ffi.new("struct mlp_ioc_attach *")
    request.abi_version = ABI_VERSION
    request.watchdog = watchdog_ns
    encoded = name.encode()
    if not 0 < len(encoded) < ffi.sizeof(request.name):
        raise ProxyError(
            f"{name!r} is no proxy's name: 1 to {ffi.sizeof(request.name) - 1} bytes",
            code="proxy.config",
            field="name",
        )
    request.name = encoded
    with _opened(device) as fd:
        error = call(fd, lib.MLP_IOC_ATTACH, request)
        if error < 0:
            raise failure(-error, "attach", name)
        config, clock = config_of(request.config), KernelClock(request.clock)
        # Last: from now on the file is closed by its owner alone.
        file = KernelFile(fd, name, request.capacity)
    return Made(file, config, request.capacity, clock, request.rights)


def _open_all(knobs: Sequence[Knob], stack: contextlib.ExitStack) -> Any:
    """The knobs as struct mlp_knob[]; their files stay open as long as the stack."""
    natives = ffi.new("struct mlp_knob[]", max(1, len(knobs)))
    for knob, native in zip(knobs, natives, strict=False):
        native.fd, restore = open_knob(knob)
        stack.callback(os.close, native.fd)
        native.min, native.max = knob.minimum, knob.maximum
        native.restore, native.trigger = restore.encode(), knob.trigger.encode()
    return natives


def _check(config: ProxyConfig, capacity: int, clock: KernelClock, knobs: Sequence[Knob]) -> None:
    """What the kernel demands beyond the core, with the field's name."""
    held = bool(knobs)
    checks = (
        ("capacity", capacity, 1 <= capacity <= lib.MLP_MAX_CAPACITY),
        ("capacity", capacity, not capacity & (capacity - 1)),
        ("name", config.name, bool(_NAME.match(config.name))),
        ("clock", clock, clock is not KernelClock.OWNER),
        ("clock", clock, not held or clock is KernelClock.MONOTONIC),
    )
    for field, value, fine in checks:
        if not fine:
            raise ProxyError(
                f"{config.name!r}: {field} = {value!r} is not possible in the kernel"
                + (" with knobs" if held else ""),
                code="proxy.config",
                hint="docs/reference/kernel-transport.md says what is",
                field=field,
            )
    if held:
        check_shape(config)


def _create_failure(error: int, config: ProxyConfig, bad: str, knobs: Sequence[Knob]) -> ProxyError:
    """The error of a CREATE; `bad` is what the module says is wrong."""
    what, _, index = bad.rstrip("]").partition("[")
    if what == "knobs" and index:
        path = knobs[int(index)].path
        return failure(error, "create", f"{config.name}: {path}", knob=path)
    if what == "settings":
        row, column = divmod(int(index), len(knobs))
        where = f"choice {row} of {knobs[column].path}"
        return failure(error, "create", f"{config.name}: {where}", setting=where)
    if error == errno.EINVAL and bad:
        return refused_config(config, bad)
    return failure(error, "create", config.name, field=bad)
