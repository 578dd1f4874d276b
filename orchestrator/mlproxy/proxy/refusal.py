"""What an errno of /dev/mlproxy means: what happened, and what to do."""

from __future__ import annotations

import errno
import os
from typing import Final

from mlproxy.errors import ProxyError

__all__ = ("failure",)

_HOW_TO: Final = "docs/how-to/use-the-kernel-module.md"

# Two names for one number: the kernel's own.
_NAMES: Final = {errno.EOPNOTSUPP: "EOPNOTSUPP"}

_Said = tuple[str, str, str]  # code, what happened, what to do

_VERSION: Final[_Said] = (
    "kernel.version",
    "the module speaks another ABI than this package",
    "use module and package of one release; `mlproxy doctor` shows both versions",
)

_ALWAYS: Final[dict[int, _Said]] = {
    errno.ENODEV: (
        "proxy.gone",
        "the part of the kernel that owned the proxy is gone",
        "its module was removed; attach again when it is back",
    ),
    errno.ENOTCONN: ("proxy.closed", "the file has no proxy", "create or attach one first"),
    errno.ENOTTY: _VERSION,
    errno.EPROTONOSUPPORT: _VERSION,
    errno.ENOMEM: (
        "kernel.memory",
        "the kernel has no memory for it",
        "a smaller ring capacity, or a larger memory limit of the service",
    ),
    errno.EPERM: (
        "proxy.permission",
        "this process may not do that",
        (
            "raising a mode and releasing an emergency take CAP_SYS_ADMIN, reports and decisions"
            " the rights that the proxy's owner gave"
        ),
    ),
}

_STATE: Final[_Said] = (
    "proxy.state",
    "it is not possible in the proxy's present state",
    "`mlproxy status` shows the mode, its reason and what holds it",
)

_BY_CALL: Final[dict[str, dict[int, _Said]]] = {
    "create": {
        errno.EEXIST: (
            "proxy.exists",
            "there is a proxy of that name",
            (
                "another daemon may have it, or a process that still has its file open;"
                " proxies are listed in /sys/class/mlproxy"
            ),
        ),
        errno.EPERM: (
            "knob.permission",
            "only a process with CAP_SYS_ADMIN may give a knob to the kernel",
            "run the daemon as root, or with AmbientCapabilities=CAP_SYS_ADMIN",
        ),
        errno.EBADF: (
            "knob.not_writable",
            "a knob's file cannot be written, or is not open for writing",
            "open it with O_RDWR",
        ),
        errno.EOPNOTSUPP: (
            "knob.file",
            "a knob's file is none that the module takes",
            "a knob is a writable file of sysfs, cgroup2 or /proc/sys",
        ),
        errno.ERANGE: (
            "knob.range",
            "a setting lies outside its knob's minimum and maximum",
            "correct the settings or the range",
        ),
        errno.EBUSY: (
            "knob.busy",
            "another proxy holds one of the knobs",
            "one proxy per tunable: stop the other one first",
        ),
    },
    "attach": {
        errno.ENOENT: (
            "proxy.unknown",
            "there is no such proxy in the kernel",
            "is the module that registers it loaded? /sys/class/mlproxy lists those that are there",
        ),
        errno.EBUSY: (
            "proxy.busy",
            "it has an agent already",
            "one agent per proxy: stop the other daemon",
        ),
    },
    "bpf_attach": {
        errno.ENOENT: (
            "proxy.unknown",
            "there is no such proxy in the kernel",
            "/sys/class/mlproxy lists those that are there",
        ),
        errno.EBUSY: (
            "bpf.busy",
            "it has a BPF model already",
            "`bpftool link` lists them; they end with the process that attached them",
        ),
        errno.EINVAL: (
            "bpf.kind",
            "only a proxy of kind program takes a BPF model",
            "submit recommendations of the proxy's kind",
        ),
        errno.EPERM: (
            "proxy.permission",
            "this process may not load BPF programs",
            "root, or CAP_BPF and CAP_PERFMON",
        ),
    },
    "reinit": {
        errno.EPERM: (
            "proxy.config",
            "name, kind, trial, streams, features, max_nodes, min and max stay as they are",
            "make another proxy instead; one of a part of the kernel takes CAP_SYS_ADMIN as well",
        ),
        errno.EBUSY: ("proxy.state", "only a stopped proxy may begin anew", "stop it first"),
    },
    "start": {errno.EBUSY: _STATE},
    "set_mode": {errno.EBUSY: _STATE},
    "operator": {
        errno.EBUSY: (
            "proxy.state",
            "the panic button holds all proxies in emergency",
            "write 0 to /sys/class/misc/mlproxy/panic first",
        ),
    },
    "knobs": {errno.ENOENT: ("knob.none", "the proxy has no knobs", "")},
    "consume": {errno.EINVAL: ("proxy.consume", "there are not so many records to consume", "")},
    "open": {
        errno.ENOENT: (
            "kernel.no_module",
            "the kernel module is not loaded",
            f"`modprobe mlproxy`; to build it: {_HOW_TO}",
        ),
        errno.EACCES: (
            "kernel.permission",
            "no permission to use the kernel's proxies",
            (
                "root, or the members of the device's group (mlproxy) may:"
                " `usermod -aG mlproxy USER`, then log in again"
            ),
        ),
    },
}
# Not there, not ready, or no longer: the device node may outlive the module.
_BY_CALL["open"] |= dict.fromkeys((errno.ENXIO, errno.ENODEV), _BY_CALL["open"][errno.ENOENT])
_BY_CALL["open"][errno.EPERM] = _BY_CALL["open"][errno.EACCES]


def failure(error: int, what: str, subject: str, **context: object) -> ProxyError:
    """Return the error for an errno.

    Args:
        error: positive errno.
        what: the call, as in this module's tables.
        subject: whose call it was: a proxy's name, a path.
        context: where it happened.

    Example:
        >>> failure(errno.EBUSY, "attach", "readahead").code
        'proxy.busy'
    """
    name = _NAMES.get(error) or errno.errorcode.get(error, str(error))
    known = _BY_CALL.get(what, {}).get(error) or _ALWAYS.get(error)
    if known is None:
        known = (
            "kernel.call",
            f"the module refused the call {what}: {os.strerror(error)} ({name})",
            "please report it, with the kernel's log",
        )
    code, message, hint = known
    return ProxyError(
        f"{subject}: {message}", code=code, hint=hint, call=what, errno=name, **context
    )
