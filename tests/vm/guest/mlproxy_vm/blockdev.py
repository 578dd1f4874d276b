"""Block devices that come and go."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CONFIG = Path("/sys/kernel/config/nullb")


def modprobe(name: str, *arguments: str) -> None:
    """Load a module of the kernel's own."""
    subprocess.run(["modprobe", name, *arguments], check=True)


def make_null_blk(name: str, *, mib: int) -> None:
    """Make /dev/NAME: a request queue over the guest's memory, as long as ordinary ones."""
    modprobe("null_blk", "nr_devices=0")
    if not CONFIG.is_dir():
        subprocess.run(["mount", "-t", "configfs", "configfs", "/sys/kernel/config"], check=True)
    folder = CONFIG / name
    folder.mkdir()
    settings = {
        "size": mib, "memory_backed": 1, "blocksize": 4096, "queue_mode": 2, "irqmode": 0,
        "submit_queues": 1, "max_sectors": 2560, "power": 1,
    }  # fmt: skip
    for key, value in settings.items():
        (folder / key).write_text(str(value))


def remove_null_blk(name: str) -> None:
    """Take it away, mounted or not."""
    (CONFIG / name / "power").write_text("0")
    (CONFIG / name).rmdir()


@contextmanager
def null_blk(name: str, *, mib: int) -> Iterator[Path]:
    """/dev/NAME with a file system; gives where it is mounted."""
    make_null_blk(name, mib=mib)
    folder = Path(f"/run/{name}")
    folder.mkdir()
    try:
        subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", f"/dev/{name}"], check=True)
        subprocess.run(["mount", "-o", "noatime", f"/dev/{name}", folder], check=True)
        yield folder
    finally:
        with suppress(subprocess.CalledProcessError):
            subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()
        if (CONFIG / name).is_dir():
            remove_null_blk(name)
