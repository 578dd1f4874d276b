"""Who cleans a file system: mlproxy, or the stand-by; never both.

Two files below `lock_dir`, each with a lock of the kernel (`flock(2)`), which goes with the
process that holds it, however that ends. `claim` is mlproxy's for as long as it runs, and has
the time of its last step in it. `active` belongs to who cleans.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlproxy_nilfs.errors import NilfsError

__all__ = ("Beat", "Lease", "cleanerds", "lock_path", "started_at")

_BEAT = struct.Struct("<QQQ")
_NAME: Final = "nilfs_cleanerd"


@dataclass(frozen=True, slots=True)
class Beat:
    """What mlproxy last wrote into its claim.

    Attributes:
        pid: its process.
        started: of that process, as `started_at` tells.
        at: CLOCK_BOOTTIME, nanoseconds.
    """

    pid: int
    started: int
    at: int


def lock_path(folder: str, device: str, name: str) -> Path:
    """The lock `name` of a block device, which has one number by whatever name it goes."""
    number = Path(device).stat().st_rdev
    return Path(folder) / f"nilfs-{os.major(number)}-{os.minor(number)}.{name}"


def started_at(pid: int) -> int:
    """When a process began, in ticks since boot; 0 when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(text.rsplit(")", 1)[1].split()[19])


def cleanerds(device: str) -> list[int]:
    """Processes of nilfs_cleanerd that clean a device."""
    wanted = os.path.realpath(device)
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended meanwhile
        if Path(os.fsdecode(words[0])).name == _NAME and any(
            word.startswith(b"/") and os.path.realpath(os.fsdecode(word)) == wanted
            for word in words[1:]
        ):
            found.append(int(folder.name))
    return found


class Lease:
    """One of the two locks.

    Args:
        path: as `lock_path` gives it; folder and file are made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise NilfsError(
                f"{path}: {error.strerror}",
                code="nilfs.lock",
                hint="subsystem.nilfs.lock_dir must be a folder that mlproxy may write to",
            ) from error
        self.held = False

    def fileno(self) -> int:
        """The file; who inherits it keeps the lock."""
        return self._file

    def take(self) -> bool:
        """Take the lock if nobody has it; True when it is ours."""
        if not self.held:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self.held = True
        return True

    def taken_by_other(self) -> bool:
        """Whether somebody else has it."""
        if self.held:
            return False
        if self.take():
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give it back, if it is ours."""
        if self.held:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self.held = False

    def close(self) -> None:
        """Give it back and close the file; a second time is harmless."""
        if self._file >= 0:
            # A child that inherited the file keeps the lock.
            os.close(self._file)
            self._file = -1
            self.held = False

    def beat(self) -> None:
        """Write that we live."""
        pid = os.getpid()
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        os.pwrite(self._file, _BEAT.pack(pid, started_at(pid), now), 0)

    def last_beat(self) -> Beat | None:
        """What was last written; None when nothing was."""
        data = os.pread(self._file, _BEAT.size, 0)
        return Beat(*_BEAT.unpack(data)) if len(data) == _BEAT.size else None
