"""A NILFS2 file system on a disk of memory, and a program that writes to it and knows what."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlproxy_vm.blockdev import modprobe

DEVICE = "/dev/ram0"


def mount(folder: Path, *options: str, device: str = DEVICE) -> None:
    """Mount it without a cleaner of its own."""
    words = ",".join(("nogc", "noatime", *options))
    subprocess.run(["mount", "-t", "nilfs2", "-o", words, device, folder], check=True)


def umount(folder: Path) -> None:
    """Unmount it; a cleaner that ends may hold it for a moment."""
    for attempt in range(60):
        if not subprocess.run(["umount", folder], check=False).returncode:
            return
        time.sleep(0.1 * (attempt + 1))
    subprocess.run(["umount", folder], check=True)


@contextmanager
def nilfs(folder: Path, *, mib: int = 64, segment_blocks: int = 64) -> Iterator[Path]:
    """DEVICE with a new file system, mounted at `folder`."""
    modprobe("nilfs2")
    modprobe("brd", "rd_nr=1", f"rd_size={mib * 1024}")
    folder.mkdir(exist_ok=True)
    make = ["mkfs.nilfs2", "-q", "-f", "-B", str(segment_blocks), DEVICE]
    subprocess.run(make, check=True)
    mount(folder)
    try:
        yield folder
    finally:
        if os.path.ismount(folder):
            umount(folder)
        subprocess.run(["modprobe", "-r", "brd"], check=False)


class Writer(threading.Thread):
    """Overwrites files in pieces, until told to stop, and keeps what must be in them.

    Args:
        folder: where.
        files: how many.
        size: of each, bytes.
        seed: of places and contents.
    """

    PIECE = 16 << 10

    def __init__(self, folder: Path, *, files: int, size: int, seed: int = 1) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.written = 0
        self.refused = 0
        self.failure: BaseException | None = None
        self._folder = folder
        self._rng = random.Random(seed)
        self._contents = {
            folder / f"f{number}": bytearray(self._rng.randbytes(size)) for number in range(files)
        }

    def fill(self) -> None:
        """Write all files once."""
        for path, data in self._contents.items():
            self._write(path, 0, bytes(data))
            os.sync()

    def run(self) -> None:
        """Overwrite pieces."""
        try:
            paths = list(self._contents)
            while not self.over.is_set():
                # A quarter of the files is written three times of four.
                few = paths[: len(paths) // 4]
                path = self._rng.choice(few if self._rng.random() < 0.75 else paths)
                data = self._contents[path]
                at = self._rng.randrange(len(data) // self.PIECE) * self.PIECE
                piece = self._rng.randbytes(self.PIECE)
                self._write(path, at, piece)
                data[at : at + self.PIECE] = piece
        except BaseException as error:
            self.failure = error
            raise

    def _write(self, path: Path, at: int, data: bytes) -> None:
        while True:
            try:
                mode = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                file = os.open(path, mode, 0o644)
                try:
                    # On a full disk a part of it may be written.
                    if os.pwrite(file, data, at) < len(data):
                        raise OSError(errno.ENOSPC, "a part was written")
                    if self._rng.random() < 0.1:
                        os.fsync(file)
                finally:
                    os.close(file)
            except OSError as error:
                # Full for now: a program sees that, and tries again.
                if error.errno != errno.ENOSPC:
                    raise
                self.refused += 1
                time.sleep(0.05)
            else:
                self.written += len(data)
                return

    def wrong(self, folder: Path | None = None) -> list[str]:
        """Names of the files that do not hold what was written to them."""
        where = folder or self._folder
        return [
            path.name
            for path, data in self._contents.items()
            if hashlib.sha256((where / path.name).read_bytes()).digest()
            != hashlib.sha256(data).digest()
        ]
