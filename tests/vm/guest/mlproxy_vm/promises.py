"""Blocks that tell what they are, and what was promised of them."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import struct
import time
from collections.abc import Mapping
from pathlib import Path

BLOCK = 4096
_HEAD = struct.Struct("<QQQ")


def block(file: int, place: int, generation: int) -> bytes:
    """The contents of a block of a file, as of a generation.

    >>> data = block(1, 2, 3)
    >>> len(data), generation_of(1, 2, data), generation_of(1, 3, data)
    (4096, 3, None)
    """
    head = _HEAD.pack(file, place, generation)
    return head + hashlib.shake_128(head).digest(BLOCK - _HEAD.size)


def generation_of(file: int, place: int, data: bytes) -> int | None:
    """Which generation a block's contents are; None: they are not that block's."""
    if len(data) != BLOCK:
        return None
    generation = _HEAD.unpack_from(data)[2]
    return generation if data == block(file, place, generation) else None


class Promises:
    """Files of such blocks.

    Args:
        folder: where they are.
        files: how many.
        blocks: in each.
        seed: of what is written.
    """

    def __init__(self, folder: Path, *, files: int, blocks: int, seed: int) -> None:
        self._folder = folder
        self._files = files
        self._blocks = blocks
        self._rng = random.Random(seed)
        self._now: dict[tuple[int, int], int] = {}

    def _path(self, file: int) -> Path:
        return self._folder / f"p{file}"

    def fill(self) -> dict[str, int]:
        """Write all once; gives what is promised."""
        promised = {}
        for file in range(self._files):
            data = b"".join(block(file, place, 1) for place in range(self._blocks))
            self._path(file).write_bytes(data)
            for place in range(self._blocks):
                self._now[file, place] = 1
                promised[f"{file}/{place}"] = 1
            os.sync()
        return promised

    def verify(self, promised: Mapping[str, int]) -> list[str]:
        """What is wrong; takes note of what is there."""
        wrong = []
        for file in range(self._files):
            data = self._path(file).read_bytes()
            for place in range(self._blocks):
                part = data[place * BLOCK : (place + 1) * BLOCK]
                found = generation_of(file, place, part)
                least = promised.get(f"{file}/{place}", 0)
                if found is None or found < least:
                    wrong.append(f"{file}/{place}: {found}, promised {least}")
                else:
                    self._now[file, place] = found
        return wrong

    def write(self, count: int) -> dict[str, int]:
        """Write some blocks of a file and fsync it; gives what is promised by that."""
        # Four of five go to a fifth of the files.
        few = self._rng.random() < 0.8
        file = self._rng.randrange(max(1, self._files // 5) if few else self._files)
        promised = {}
        while True:
            try:
                handle = os.open(self._path(file), os.O_WRONLY | os.O_CLOEXEC)
                try:
                    for _ in range(count):
                        place = self._rng.randrange(self._blocks)
                        generation = self._now[file, place] + 1
                        os.pwrite(handle, block(file, place, generation), place * BLOCK)
                        self._now[file, place] = promised[f"{file}/{place}"] = generation
                    os.fsync(handle)
                finally:
                    os.close(handle)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                promised.clear()
                time.sleep(0.05)
            else:
                return promised
