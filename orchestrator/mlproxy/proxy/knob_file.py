"""A knob's open file, as this process writes and reads it."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from types import TracebackType
from typing import Final, Self

__all__ = ("GONE", "PASSING", "KnobFile", "open_to_write")

_TEXT: Final = 4096
_TRIES: Final = 10
_PAUSE: Final = 0.01

GONE: Final = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR)
"""Errors of a tunable that is no longer there: nothing is left to put back."""
PASSING: Final = (errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ENOMEM)
"""Errors that may be over in a moment: some tunables only try their lock."""


def open_to_write(path: str) -> tuple[int, bool]:
    """Open a tunable for writing, and for reading where that is allowed.

    Returns:
        The file descriptor (closed on exec), and whether it can be read.

    Raises:
        OSError: it cannot be opened for writing.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC), True
    except PermissionError:
        # Some tunables can only be written; others nobody but root may read.
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC), False


class KnobFile:
    """A tunable that is held open: whatever takes its path later is not written.

    Args:
        path: the file.
        fd: open already, for writing; this object's from now on. None: opened here.
        readable: whether `fd` can be read.

    Raises:
        OSError: it cannot be opened for writing.
    """

    def __init__(self, path: str, fd: int | None = None, *, readable: bool = True) -> None:
        self.path = path
        self._fd, self._readable = open_to_write(path) if fd is None else (fd, readable)

    @property
    def identity(self) -> tuple[int, int]:
        """Which file it is: device and inode."""
        found = os.fstat(self._fd)
        return found.st_dev, found.st_ino

    def read(self) -> str | None:
        """Return what it says, newline and all; None when it does not."""
        if not self._readable:
            return None
        try:
            return os.pread(self._fd, _TEXT, 0).decode(errors="replace")
        except OSError:
            return None

    def write(self, text: str) -> None:
        """Write a value, as `echo` does.

        Raises:
            OSError: the tunable does not take it.
        """
        # Does nothing to a tunable; where a plain file stands in for one, the
        # old value may be longer.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text.encode(), 0)

    def put_back(self, text: str) -> None:
        """Write what must not fail for a reason that passes: up to a tenth of a second.

        Raises:
            OSError: the tunable does not take it.
        """
        for left in range(_TRIES - 1, -1, -1):
            try:
                self.write(text)
            except OSError as error:
                if not left or error.errno not in PASSING:
                    raise
                time.sleep(_PAUSE)
            else:
                return

    def close(self) -> None:
        """Let it go; a second time is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
