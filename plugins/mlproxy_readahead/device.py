"""A block device as sysfs shows it: its tunable, its counters, its numbers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mlproxy import MlproxyError

__all__ = ("BlockDevice", "Counters", "DeviceError")

SECTOR = 512


class DeviceError(MlproxyError):
    """Raised when the device is not there, or no longer."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What the device has done since it is there.

    Attributes:
        requests: read requests completed, after merging.
        read_bytes: bytes that they read.
    """

    requests: int
    read_bytes: int


class BlockDevice:
    """A whole block device.

    Args:
        name: as in /sys/block.
        root: where /sys is found; for tests.

    Raises:
        DeviceError: `readahead.no_device`.
    """

    def __init__(self, name: str, *, root: str = "/") -> None:
        self.name = name
        """As in /sys/block."""
        self._folder = Path(root) / "sys/block" / name
        self.knob = self._folder / "queue/read_ahead_kb"
        """The tunable."""
        self._open: dict[Path, int] = {}
        if not self.knob.is_file():
            whole = self._whole_of(name, Path(root))
            raise DeviceError(
                f"there is no block device {name!r} with a read-ahead of its own",
                code="readahead.no_device",
                hint=f"{name} is a partition: name its device, {whole}"
                if whole
                else "`ls /sys/block` shows those there are",
                device=name,
            )

    @staticmethod
    def _whole_of(name: str, root: Path) -> str:
        found = next(iter((root / "sys/block").glob(f"*/{name}/partition")), None)
        return found.parent.parent.name if found else ""

    def _read(self, path: Path) -> str:
        """A file of sysfs, which is kept open: it is read several times a second."""
        try:
            if path not in self._open:
                self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._open[path], 4096, 0).decode("ascii")
        except OSError as error:
            # Everything of a device that is taken away vanishes at once (ENOENT, ENODEV).
            raise DeviceError(
                f"block device {self.name!r} is gone: {path.name}: {error.strerror}",
                code="readahead.device_gone",
                hint="plug it in again; mlproxy then takes it up by itself, or after a reload",
                device=self.name,
            ) from error

    def close(self) -> None:
        """Close its files; a second time is harmless."""
        while self._open:
            os.close(self._open.popitem()[1])

    def read_ahead_kb(self) -> int:
        """The value in force.

        Raises:
            DeviceError: `readahead.device_gone`, as from all methods.
        """
        return int(self._read(self.knob))

    def counters(self) -> Counters:
        """Completed reads (Documentation/block/stat.rst: fields 1 and 3)."""
        fields = self._read(self._folder / "stat").split()
        return Counters(int(fields[0]), int(fields[2]) * SECTOR)

    def numbers(self) -> list[tuple[int, int]]:
        """Major and minor number of the device and of its partitions."""
        files = [self._folder / "dev"]
        files += [p.parent / "dev" for p in sorted(self._folder.glob("*/partition"))]
        pairs = [self._read(file).strip().split(":") for file in files]
        return [(int(major), int(minor)) for major, minor in pairs]
