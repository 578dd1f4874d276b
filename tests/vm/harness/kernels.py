"""The kernels that are tested, each with what a guest needs to boot it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import initramfs
from .debugkernel import INSIDE as DEBUG_INSIDE
from .debugkernel import debug_kernel
from .host import ROOT, key_of, once
from .images import MAKE, NO_HARDWARE, layer, modules_layer
from .trees import bookworm, kernel_version, trixie

_INIT = ROOT / "tests/vm/guest/init"


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel.

    Attributes:
        name: as people choose it: `6.12`, `6.1`, `7`, `debug`.
        release: as `uname -r` says it.
        image: what is booted.
        initramfs: its first file system.
        modules: the image with its modules.
        tree: where modules for it are built.
        build: the folder in that tree that Kbuild wants.
        binds: what must be bound into the tree for that.
        memory_mib: of the guest.
        slow: how much longer than on a plain kernel everything takes.
        packaged: it and its headers are installed in `tree`, as DKMS wants them.
    """

    name: str
    release: str
    image: Path
    initramfs: Path
    modules: Path
    tree: Path
    build: str
    binds: Mapping[str, Path] = field(default_factory=dict)
    memory_mib: int = 2048
    slow: float = 1.0
    packaged: bool = True


def _debian(name: str, tree: Callable[[], Path], prefix: str) -> Kernel:
    where = tree()
    release = kernel_version(where, prefix)
    modules = where / "usr/lib/modules" / release

    def make(folder: Path) -> None:
        modules_layer(where, release, folder)
        busybox = trixie() / "usr/bin/busybox"
        (folder / "initramfs.gz").write_bytes(initramfs.initramfs(modules, busybox, _INIT))

    key = key_of(where.parent.name, _INIT.read_text(encoding="utf-8"), NO_HARDWARE, MAKE)
    folder = once(f"kernel-{name}-{key}", make)
    image = where / f"boot/vmlinuz-{release}"
    return Kernel(
        name=name,
        release=release,
        image=image if image.exists() else modules / "vmlinuz",
        initramfs=folder / "initramfs.gz",
        modules=folder / "modules.ext4",
        tree=where,
        build=f"/lib/modules/{release}/build",
    )


def _debug() -> Kernel:
    built = debug_kernel()
    (modules,) = (built / "lib/modules").iterdir()
    release = modules.name

    def make(folder: Path) -> None:
        script = "mkdir -p /layer/usr/lib && cp -a /debug/lib/modules /layer/usr/lib/\n"
        layer(trixie(), script, folder, "modules", {"/debug": built})
        busybox = trixie() / "usr/bin/busybox"
        (folder / "initramfs.gz").write_bytes(initramfs.initramfs(modules, busybox, _INIT))

    key = key_of(built.name, _INIT.read_text(encoding="utf-8"), MAKE)
    folder = once(f"kernel-debug-{key}", make)
    return Kernel(
        name="debug",
        release=release,
        image=built / "vmlinuz",
        initramfs=folder / "initramfs.gz",
        modules=folder / "modules.ext4",
        tree=trixie(),
        build=f"{DEBUG_INSIDE}/linux",
        binds={DEBUG_INSIDE: built},
        memory_mib=4096,
        slow=4.0,
        packaged=False,
    )


KERNELS: dict[str, Callable[[], Kernel]] = {
    "6.12": lambda: _debian("6.12", trixie, "6.12."),
    "6.1": lambda: _debian("6.1", bookworm, "6.1."),
    "7": lambda: _debian("7", trixie, "7."),
    "debug": _debug,
}
