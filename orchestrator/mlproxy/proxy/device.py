"""/dev/mlproxy: open it, call it, ask the module what it is."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Any, Final

from mlproxy import _core
from mlproxy.errors import ProxyError
from mlproxy.proxy.refusal import failure

__all__ = (
    "ABI_VERSION",
    "DEVICE",
    "ModuleInfo",
    "call",
    "module_info",
    "open_device",
)

ffi = _core.ffi
lib = _core.lib

DEVICE: Final = "/dev/mlproxy"
ABI_VERSION: Final = int(lib.MLP_ABI_VERSION)


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """What the loaded module says of itself (struct mlp_ioc_info).

    Attributes:
        abi_version: what it speaks; `ABI_VERSION` is what this package speaks.
        version: of the module.
        knobs: whether it can hold tunables.
        struct_ops: whether a BPF program may decide.
        proxies: how many there are.
        panic: whether the panic button holds all of them in emergency.
        proxy_bytes: kernel memory of a proxy without ring and programs.
    """

    abi_version: int
    version: str
    knobs: bool
    struct_ops: bool
    proxies: int
    panic: bool
    proxy_bytes: int


def call(fd: int, request: int, argument: Any) -> int:
    """Do an ioctl on a struct.

    Args:
        fd: the open device.
        request: `lib.MLP_IOC_*`.
        argument: cffi pointer to the struct; out fields are set also on errors.

    Returns:
        What the kernel returned, or a negative errno.
    """
    result: int = lib.mlpy_ioctl(fd, request, argument)
    return result


def open_device(path: str = DEVICE) -> int:
    """Open the device and see that both sides speak one ABI.

    Returns:
        A file descriptor, closed on exec.

    Raises:
        ProxyError: `kernel.no_module`, `kernel.permission`, `kernel.version`, `kernel.call`.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        raise failure(e.errno or errno.EIO, "open", path) from e
    try:
        _check_version(_info(fd, path))
    except BaseException:
        os.close(fd)
        raise
    return fd


def module_info(path: str = DEVICE) -> ModuleInfo:
    """Return what the loaded module says of itself, whatever its ABI.

    Raises:
        ProxyError: `kernel.no_module`, `kernel.permission`, `kernel.version` (it is not
            mlproxy's device at all), `kernel.call`.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        raise failure(e.errno or errno.EIO, "open", path) from e
    try:
        return _info(fd, path)
    finally:
        os.close(fd)


def _info(fd: int, path: str) -> ModuleInfo:
    info = ffi.new("struct mlp_ioc_info *")
    error = call(fd, lib.MLP_IOC_INFO, info)
    if error < 0:
        raise failure(-error, "info", path)
    return ModuleInfo(
        abi_version=info.abi_version,
        version=ffi.string(info.version).decode(errors="replace"),
        knobs=bool(info.features & lib.MLP_FEATURE_KNOBS),
        struct_ops=bool(info.features & lib.MLP_FEATURE_STRUCT_OPS),
        proxies=info.nr_proxies,
        panic=bool(info.panic),
        proxy_bytes=info.proxy_bytes,
    )


def _check_version(info: ModuleInfo) -> None:
    if info.abi_version != ABI_VERSION:
        raise ProxyError(
            f"the module (release {info.version}) speaks ABI {info.abi_version},"
            f" this package ABI {ABI_VERSION}",
            code="kernel.version",
            hint="use module and package of one release",
            module=info.abi_version,
            package=ABI_VERSION,
        )
