"""The parts of the kernel that plugins can steer."""

from __future__ import annotations

from collections.abc import Iterator

from mlproxy.doctor.finding import Finding
from mlproxy.doctor.host import Host

__all__ = ("damon", "f2fs", "nilfs2", "readahead")

DAMON = "/sys/kernel/mm/damon/admin/kdamonds"


def damon(host: Host) -> Iterator[Finding]:
    """DAMON, and who else uses it."""
    number = host.text(f"{DAMON}/nr_kdamonds")
    if number is None:
        there = host.at("/sys/kernel/mm/damon").is_dir()
        yield Finding(
            "damon",
            "unusable" if there else "missing",
            f"{DAMON} cannot be read" if there else "not in this kernel",
            "the subsystem damon cannot run",
            "run as root" if there else "a kernel with CONFIG_DAMON_SYSFS",
        )
        return
    count = int(number) if number.isdigit() else 0
    states = [host.text(f"{DAMON}/{i}/state") or "?" for i in range(count)]
    found = f"{count} kdamonds" + (f" ({', '.join(states)})" if states else "")
    others = [
        name
        for name in ("damon_reclaim", "damon_lru_sort")
        if host.text(f"/sys/module/{name}/parameters/enabled") in ("Y", "1")
    ]
    if others:
        found += f"; {', '.join(others)} on"
    if "on" in states or others:
        yield Finding(
            "damon",
            "unusable",
            found,
            "somebody else uses DAMON: mlproxy touches no kdamond that it did not start",
            "end the other user of DAMON first; a running mlproxy's own kdamonds count here too",
        )
    elif not host.writable(f"{DAMON}/nr_kdamonds"):
        yield Finding(
            "damon", "unusable", found, "this user may not start a kdamond", "run as root"
        )
    else:
        yield Finding("damon", "ok", found, "the subsystem damon can run")


def f2fs(host: Host) -> Iterator[Finding]:
    """F2FS: known to the kernel, mounted, its tunables."""
    known, mounts = host.file_system("f2fs"), host.mounted("f2fs")
    if not known:
        yield _no_file_system("f2fs", "CONFIG_F2FS_FS")
        return
    if not mounts:
        word = "built in or loaded" if known == "yes" else "as a module"
        yield Finding("f2fs", "missing", f"{word}, none mounted", "nothing to steer", "mount one")
        return
    names = [device.rsplit("/", 1)[-1] for device, _ in mounts]
    found = ", ".join(f"{device} on {place}" for device, place in mounts)
    shut = [n for n in names if not host.writable(f"/sys/fs/f2fs/{n}/gc_urgent_sleep_time")]
    if shut:
        yield Finding(
            "f2fs",
            "unusable",
            found,
            f"the tunables of {', '.join(shut)} in /sys/fs/f2fs cannot be written",
            "run as root; the kernel needs sysfs for F2FS",
        )
    else:
        yield Finding("f2fs", "ok", found, "cleaning and its thresholds can be steered")


def nilfs2(host: Host) -> Iterator[Finding]:
    """NILFS2: known to the kernel, mounted, and what cleans it."""
    known, mounts = host.file_system("nilfs2"), host.mounted("nilfs2")
    if not known:
        yield _no_file_system("nilfs2", "CONFIG_NILFS2_FS")
        return
    library = host.library("libnilfsgc")
    cleaner = host.program("nilfs_cleanerd")
    found = [f"{device} on {place}" for device, place in mounts] or ["none mounted"]
    found += [library or "no libnilfsgc", cleaner or "no nilfs_cleanerd"]
    running = _cleaners(host)
    if not library:
        state, effect = "missing", "victims cannot be chosen: that takes libnilfsgc"
        hint = "install nilfs-tools"
    elif not mounts:
        state, effect, hint = "missing", "nothing to steer", "mount one, with -o nogc"
    elif running:
        state, effect = "unusable", f"nilfs_cleanerd runs (pid {running}): two would clean"
        hint = "mount with -o nogc, or end it"
    else:
        state, effect, hint = "ok", "victims can be chosen", ""
    yield Finding("nilfs2", state, ", ".join(found), effect, hint)  # type: ignore[arg-type]


def _cleaners(host: Host) -> str:
    for comm in sorted(host.at("/proc").glob("[0-9]*/comm")):
        try:
            name = comm.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:  # it has ended
            continue
        if name == "nilfs_cleanerd":
            return comm.parent.name
    return ""


def readahead(host: Host) -> Iterator[Finding]:
    """Block devices whose read-ahead can be set."""
    knobs = sorted(host.at("/sys/block").glob("*/queue/read_ahead_kb"))
    names = [knob.parents[1].name for knob in knobs]
    if not names:
        yield Finding("readahead", "missing", "no block devices", "nothing to steer")
        return
    shut = [n for n in names if not host.writable(f"/sys/block/{n}/queue/read_ahead_kb")]
    if shut:
        yield Finding(
            "readahead",
            "unusable",
            f"read_ahead_kb of {', '.join(shut)} cannot be written",
            "read-ahead cannot be steered there",
            "run as root",
        )
    else:
        yield Finding("readahead", "ok", ", ".join(names), "read-ahead can be steered")


def _no_file_system(name: str, option: str) -> Finding:
    return Finding(
        name,
        "missing",
        "not known to the kernel, and no module of it",
        "nothing to steer",
        f"a kernel with {option}",
    )
