"""The first file system of a guest: busybox, the modules that find the disks, `guest/init`."""

from __future__ import annotations

import gzip
import lzma
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

# What stands between the kernel and its root: disks, and two layers of file systems.
# Names, not files: what a kernel has built in needs no module.
WANTED = (
    *("crc32c_generic", "crc32c_intel", "virtio_pci", "virtio_blk", "virtio_console"),
    *("virtio_rng", "ext4", "overlay"),
)


def module_name(path: str) -> str:
    """`kernel/fs/ext4/ext4.ko.xz` -> `ext4`; dashes as the kernel spells them.

    >>> module_name("kernel/drivers/char/hw_random/virtio-rng.ko.xz")
    'virtio_rng'
    """
    return path.rsplit("/", 1)[-1].split(".ko", maxsplit=1)[0].replace("-", "_")


def load_order(modules_dep: str, wanted: Iterable[str]) -> list[str]:
    """Files to insmod, in this order, so that each finds what it depends on.

    >>> load_order("a.ko: b.ko c.ko\\nb.ko: c.ko\\nc.ko:", ["a", "builtin"])
    ['c.ko', 'b.ko', 'a.ko']
    """
    needs: dict[str, list[str]] = {}
    for line in modules_dep.splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    paths = {module_name(path): path for path in needs}
    order: list[str] = []

    def add(path: str) -> None:
        # modules.dep lists the deepest dependency last
        for need in reversed(needs[path]):
            add(need)
        if path not in order:
            order.append(path)

    for name in wanted:
        if name in paths:
            add(paths[name])
    return order


def _plain(path: Path) -> bytes:
    """A module without its compression, since busybox's insmod wants it so."""
    raw = path.read_bytes()
    match path.suffix:
        case ".xz":
            return lzma.decompress(raw)
        case ".gz":
            return gzip.decompress(raw)
        case ".zst":
            done = subprocess.run(["zstd", "-dc"], input=raw, stdout=subprocess.PIPE, check=True)
            return done.stdout
        case _:
            return raw


def newc(files: Mapping[str, bytes | None], executable: Iterable[str] = ()) -> bytes:
    """A cpio archive in the format that the kernel unpacks; None is a folder."""
    out = bytearray()
    runs = set(executable)
    entries = [*files.items(), ("TRAILER!!!", b"")]
    for inode, (name, data) in enumerate(entries, start=1):
        mode = 0o040755 if data is None else 0o100755 if name in runs else 0o100644
        body = data or b""
        fields = (inode, mode, 0, 0, 2 if data is None else 1, 0, len(body), 0, 0, 0, 0)
        encoded = name.encode() + b"\0"
        out += b"070701" + b"".join(b"%08X" % f for f in (*fields, len(encoded), 0)) + encoded
        out += bytes(-len(out) % 4) + body
        out += bytes(-len(out) % 4)
    return bytes(out)


def initramfs(modules: Path, busybox: Path, init: Path) -> bytes:
    """The archive for one kernel, compressed.

    Args:
        modules: its `lib/modules/RELEASE` folder, with `modules.dep`.
        busybox: a statically linked one.
        init: the script that mounts the root.
    """
    order = load_order((modules / "modules.dep").read_text(encoding="utf-8"), WANTED)
    files: dict[str, bytes | None] = dict.fromkeys(
        ("bin", "dev", "proc", "sys", "mods", "disk", "disk/a", "disk/b", "disk/c", "up", "root")
    )
    files["bin/busybox"] = busybox.read_bytes()
    files["init"] = init.read_bytes()
    names = [f"{module_name(path)}.ko" for path in order]
    for path, name in zip(order, names, strict=True):
        files[f"mods/{name}"] = _plain(modules / path)
    files["mods/list"] = "".join(f"{name}\n" for name in names).encode()
    return gzip.compress(newc(files, ("init", "bin/busybox")), compresslevel=1, mtime=0)
