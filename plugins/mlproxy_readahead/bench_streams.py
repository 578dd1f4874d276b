"""What programs of the bench read: streams that differ in what read-ahead suits them."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

__all__ = ("FILES", "FILE_BYTES", "STREAMS", "Files", "Stream")

FILES: Final = 12
FILE_BYTES: Final = 8 << 20
PAGE: Final = mmap.PAGESIZE
PIECE: Final = 16 * 1024
TOUCHES: Final = 32
BETWEEN: Final = 8
"""Pieces of a scan between two random pages, in the mixed stream."""


@dataclass(frozen=True, slots=True)
class Files:
    """Files on the device.

    Args:
        folder: where they are; on a file system of the device.
    """

    folder: Path

    def make(self) -> None:
        """Write them, and see to it that they are on the device."""
        for number in range(FILES):
            with self._path(number).open("wb") as out:
                for _ in range(FILE_BYTES >> 20):
                    out.write(os.urandom(1 << 20))
                os.fsync(out.fileno())
                os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def _path(self, number: int) -> Path:
        return self.folder / f"mlproxy-bench-{number}"

    def remove(self) -> None:
        """Take them away."""
        for number in range(FILES):
            self._path(number).unlink(missing_ok=True)

    def open(self, rng: random.Random, count: int = 1) -> list[int]:
        """Open so many of them by chance, each another one."""
        chosen = rng.sample(range(FILES), count)
        return [os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC) for number in chosen]

    @staticmethod
    def close(fd: int) -> None:
        """Close one; its pages leave the page cache, so that every operation reads anew."""
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


class Stream(Protocol):
    """One operation of a stream after the other."""

    def __call__(self, files: Files, rng: random.Random) -> int:
        """Do one; return how many bytes were asked for (pages, each once)."""


def sequential(files: Files, rng: random.Random) -> int:
    """A file from end to end, in pieces of 16 KiB."""
    (fd,) = files.open(rng)
    asked = 0
    while piece := os.read(fd, PIECE):
        asked += len(piece)
    files.close(fd)
    return asked


def lookups(files: Files, rng: random.Random) -> int:
    """Some random pages of a file that is mapped, as a database or a linker does it."""
    (fd,) = files.open(rng)
    pages = {rng.randrange(FILE_BYTES // PAGE) for _ in range(TOUCHES)}
    order = sorted(pages)
    rng.shuffle(order)
    with mmap.mmap(fd, FILE_BYTES, prot=mmap.PROT_READ) as memory:
        for page in order:
            memory[page * PAGE]
    files.close(fd)
    return len(pages) * PAGE


def mixed(files: Files, rng: random.Random) -> int:
    """Both at once: a file from end to end, and in between random pages of another."""
    scanned, mapped = files.open(rng, 2)
    asked = 0
    pages = set()
    with mmap.mmap(mapped, FILE_BYTES, prot=mmap.PROT_READ) as memory:
        while piece := os.read(scanned, PIECE):
            asked += len(piece)
            if not asked // PIECE % BETWEEN:
                page = rng.randrange(FILE_BYTES // PAGE)
                pages.add(page)
                memory[page * PAGE]
    files.close(scanned)
    files.close(mapped)
    return asked + len(pages) * PAGE


STREAMS: Final[Mapping[str, Stream]] = {
    "sequential": sequential,
    "random": lookups,
    "mixed": mixed,
}
