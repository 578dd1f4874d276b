"""The kernel and mlproxy's module in it."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mlproxy.doctor.finding import Finding
from mlproxy.doctor.host import CAP_BPF, CAPABILITIES, Host
from mlproxy.errors import ProxyError
from mlproxy.proxy.device import ABI_VERSION, ModuleInfo, module_info

__all__ = ("bpf", "device", "kernel", "module", "module_of", "psi", "rights")

HOW_TO = "docs/how-to/use-the-kernel-module.md"
OLDEST = (6, 1)
STRUCT_OPS = (6, 9)


def kernel(host: Host) -> Iterator[Finding]:
    """The running kernel."""
    if host.version >= OLDEST:
        found, effect, hint = "", "the module can be built for it", ""
    else:
        found = f", older than {OLDEST[0]}.{OLDEST[1]}"
        effect, hint = "no module: proxies live in the daemon", "a newer kernel"
    state = "ok" if not hint else "missing"
    yield Finding("kernel", state, f"Linux {host.release}{found}", effect, hint)  # type: ignore[arg-type]


def module_of(host: Host) -> ModuleInfo | ProxyError:
    """What the loaded module says, or why it says nothing."""
    try:
        return module_info(host.device)
    except ProxyError as error:
        return error


def module(host: Host, info: ModuleInfo | ProxyError, guard: str) -> Iterator[Finding]:
    """The module, and so which guard proxies get.

    Args:
        host: where to look.
        info: of `module_of`.
        guard: `daemon.guard`.
    """
    alone = "guard in-process: after a crash tunables are put back when the daemon starts again"
    if isinstance(info, ProxyError):
        loaded = host.at("/sys/module/mlproxy").is_dir()
        found = str(info.args[0]) if loaded else "not loaded"
        if guard == "kernel":
            alone = "daemon.guard is 'kernel': subsystems that ask for a proxy will not start"
        elif info.code == "kernel.version":
            alone = f"not used; {alone}"
        state = "unusable" if loaded or guard == "kernel" else "missing"
        yield Finding("module", state, found, alone, info.hint)  # type: ignore[arg-type]
        return
    found = f"mlproxy.ko {info.version}, ABI {info.abi_version}, {info.proxies} proxies"
    if info.abi_version != ABI_VERSION:
        yield Finding(
            "module",
            "unusable",
            f"{found}; this package speaks ABI {ABI_VERSION}",
            alone,
            "use module and package of one release",
        )
    elif guard == "in-process":
        yield Finding("module", "ok", found, f"daemon.guard is 'in-process': not used; {alone}")
    else:
        able = [w for w, there in (("knobs", info.knobs), ("struct_ops", info.struct_ops)) if there]
        panic = "; its panic button holds all proxies in emergency" if info.panic else ""
        yield Finding(
            "module",
            "unusable" if info.panic else "ok",
            f"{found}, can do {', '.join(able) or 'plain proxies only'}{panic}",
            "guard kernel: the default acts at once when the daemon dies",
            "write 0 to the panic attribute of /dev/mlproxy in sysfs" if info.panic else "",
        )


def device(host: Host) -> Iterator[Finding]:
    """Who may use the device."""
    try:
        found = Path(host.device).stat()
    except OSError:
        yield Finding("device", "missing", f"no {host.device}", "see module")
        return
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        group = str(found.st_gid)
    text = f"{host.device}, mode {stat.S_IMODE(found.st_mode):04o}, group {group}"
    if os.access(host.device, os.R_OK | os.W_OK):
        yield Finding("device", "ok", text, "this user may make and steer proxies in the kernel")
        return
    yield Finding(
        "device",
        "unusable",
        text,
        "this user may not make or steer proxies in the kernel",
        f"run as root, or: usermod -aG {group} USER, and log in again",
    )


def rights(host: Host) -> Iterator[Finding]:
    """Capabilities and limits of whoever asks; the daemon's may be others."""
    have = [name for name, number in CAPABILITIES.items() if host.has(number)]
    found = ", ".join(have) or "none of " + ", ".join(CAPABILITIES)
    if "CAP_SYS_ADMIN" in have:
        yield Finding("capabilities", "ok", found, "tunables may be given to the kernel")
    else:
        yield Finding(
            "capabilities",
            "missing",
            found,
            "tunables cannot be given to the kernel, modes not raised, emergencies not released",
            "run the daemon as root, or with AmbientCapabilities=CAP_SYS_ADMIN",
        )
    limit = host.memlock()
    if limit == -1 or "CAP_IPC_LOCK" in have:
        yield Finding("memlock", "ok", "no limit", "the daemon's memory may be locked")
    else:
        yield Finding(
            "memlock",
            "missing",
            f"at most {limit >> 10} KiB",
            "the daemon's memory is not locked: under pressure it may be late, and then the"
            " default acts",
            "LimitMEMLOCK=infinity in its unit",
        )


def psi(host: Host) -> Iterator[Finding]:
    """Pressure stall information."""
    text = host.text("/proc/pressure/memory")
    if text is not None:
        line = text.splitlines()[0] if text else ""
        yield Finding("psi", "ok", f"memory: {line}", "pressure can put proxies into emergency")
        return
    there = host.at("/proc/pressure").is_dir()
    yield Finding(
        "psi",
        "unusable" if there else "missing",
        "/proc/pressure cannot be read" if there else "no /proc/pressure",
        "pressure sources count as critical: they see nothing",
        "boot with psi=1; the kernel needs CONFIG_PSI",
    )


def bpf(host: Host, info: ModuleInfo | ProxyError) -> Iterator[Finding]:
    """Whether a BPF program may decide."""
    btf = host.at("/sys/kernel/btf/vmlinux").exists()
    without = "no BPF program can decide; programs of the proxy's own can"
    if host.version < STRUCT_OPS or not btf:
        found = "no BTF of the kernel" if not btf else f"Linux {host.release}"
        newer = "needs Linux 6.9 or newer with CONFIG_DEBUG_INFO_BTF"
        yield Finding("bpf", "missing", found, without, newer)
        return
    if isinstance(info, ProxyError) or not info.struct_ops:
        why = "the module is not usable" if isinstance(info, ProxyError) else "the module lacks it"
        yield Finding("bpf", "missing", f"BTF, {why}", without, f"see module, and {HOW_TO}")
        return
    if not (host.has(CAP_BPF) or host.has(CAPABILITIES["CAP_SYS_ADMIN"])):
        yield Finding("bpf", "missing", "BTF, module; no CAP_BPF", without, "run as root")
        return
    yield Finding("bpf", "ok", "BTF, struct_ops in the module", "a BPF program may decide")
