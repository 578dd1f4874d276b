"""A mounted NILFS2 file system as its ioctls show it: segments, checkpoints, blocks.

Layouts are those of the kernel's `include/uapi/linux/nilfs2_api.h` and `nilfs2_ondisk.h`.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from mlproxy_nilfs.errors import NilfsError

__all__ = (
    "ACTIVE",
    "ALIVE",
    "DIRTY",
    "ERROR",
    "SUINFO",
    "VINFO",
    "Geometry",
    "SegmentStat",
    "Volume",
    "find_mount",
    "parse_superblock",
)

SUINFO: Final = np.dtype([("lastmod", "<u8"), ("nblocks", "<u4"), ("flags", "<u4")])
"""struct nilfs_suinfo: seconds, blocks written, flags."""
VINFO: Final = np.dtype([("vblocknr", "<u8"), ("start", "<u8"), ("end", "<u8"), ("blocknr", "<u8")])
"""struct nilfs_vinfo: a virtual block, the checkpoints it belongs to, where it is."""
CPINFO: Final = np.dtype(
    [
        ("flags", "<u4"),
        ("pad", "<u4"),
        ("cno", "<u8"),
        ("create", "<u8"),
        ("nblk_inc", "<u8"),
        ("inodes", "<u8"),
        ("blocks", "<u8"),
        ("next", "<u8"),
    ]
)
"""struct nilfs_cpinfo."""
ACTIVE, DIRTY, ERROR = 1, 2, 4
"""Flags of a segment: being written or next to be; holds data; bad."""
ALIVE: Final = (1 << 64) - 1
"""`end` of a block that the newest checkpoint still has."""

_ARGV = struct.Struct("<QIHHQ")
_SUSTAT = struct.Struct("<6Q")
_CPSTAT = struct.Struct("<3Q")
_SUPER = struct.Struct("<IHHHHIIIQQQII")
_SUPER_AT, _SUPER_MAGIC = 1024, 0x3434
_BATCH = 512
_SNAPSHOT = 1


def _ioc(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("n") << 8 | number


_GET_CPINFO = _ioc(2, 0x82, _ARGV.size)
_GET_CPSTAT = _ioc(2, 0x83, _CPSTAT.size)
_GET_SUINFO = _ioc(2, 0x84, _ARGV.size)
_GET_SUSTAT = _ioc(2, 0x85, _SUSTAT.size)
_GET_VINFO = _ioc(3, 0x86, _ARGV.size)


@dataclass(frozen=True, slots=True)
class Geometry:
    """The file system's shape, from its superblock.

    Attributes:
        block_bytes: size of a block.
        segments: how many there are.
        segment_blocks: blocks in each; the first one has fewer.
        first_block: where the first segment begins.
        reserved_percent: share of the segments that only cleaning may use.
    """

    block_bytes: int
    segments: int
    segment_blocks: int
    first_block: int
    reserved_percent: int

    @property
    def reserved_segments(self) -> int:
        """Segments that the kernel keeps for cleaning (NILFS_MIN_NRSVSEGS is 8)."""
        return max(-(-self.segments * self.reserved_percent // 100), 8)

    def span(self, segment: int) -> tuple[int, int]:
        """First block of a segment, and how many it has."""
        first = segment * self.segment_blocks
        begin = self.first_block if segment == 0 else first
        return begin, first + self.segment_blocks - begin


@dataclass(frozen=True, slots=True)
class SegmentStat:
    """struct nilfs_sustat.

    Attributes:
        segments: of the file system.
        clean: free ones.
        dirty: those with data.
        created: when the last one was begun, seconds.
        created_by_user: ... by anything but cleaning.
        protected_sequence: segments with this sequence number and later ones must stay.
    """

    segments: int
    clean: int
    dirty: int
    created: int
    created_by_user: int
    protected_sequence: int


def parse_superblock(data: bytes) -> Geometry:
    """The shape that a superblock (from byte 1024 of the device) tells.

    Raises:
        NilfsError: `nilfs.superblock` when it is none.
    """
    if len(data) < _SUPER.size:
        raise NilfsError("the superblock is cut off", code="nilfs.superblock")
    fields = _SUPER.unpack_from(data)
    magic, log_size, segments = fields[2], fields[7], fields[8]
    first, blocks, reserved = fields[10], fields[11], fields[12]
    if magic != _SUPER_MAGIC or not segments or not blocks or log_size > 6:
        raise NilfsError(
            "this is no superblock of NILFS2",
            code="nilfs.superblock",
            hint="name the device that holds the file system, not a part or a whole of it",
        )
    return Geometry(1024 << log_size, segments, blocks, first, reserved)


def find_mount(device: str, mounts: str = "/proc/self/mounts") -> str:
    """Where a device is mounted, writable, as NILFS2.

    Raises:
        NilfsError: `nilfs.not_mounted`.
    """
    wanted = os.path.realpath(device)
    for line in Path(mounts).read_text(encoding="utf-8").splitlines():
        what, where, kind, options = line.split()[:4]
        if kind == "nilfs2" and os.path.realpath(what) == wanted and "rw" in options.split(","):
            # Blanks and the like come as octal escapes.
            return where.encode().decode("unicode_escape")
    raise NilfsError(
        f"{device} is not mounted, writable, as nilfs2",
        code="nilfs.not_mounted",
        hint=f"mount -t nilfs2 -o nogc {device} FOLDER",
        device=device,
    )


class Volume:
    """A mounted NILFS2 file system.

    Args:
        device: the block device it is on.
        folder: where it is mounted; found when not given.

    Raises:
        NilfsError: `nilfs.not_mounted`, `nilfs.superblock`, `nilfs.permission`.
    """

    def __init__(self, device: str, folder: str = "") -> None:
        self.device = os.path.realpath(device)
        self.folder = folder or find_mount(device)
        self._files: list[int] = []
        try:
            self._root = self._open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            self._disk = self._open(self.device, os.O_RDONLY)
            self.geometry = parse_superblock(os.pread(self._disk, 1024, _SUPER_AT))
        except BaseException:
            self.close()
            raise

    def _open(self, path: str, flags: int) -> int:
        try:
            file = os.open(path, flags | os.O_CLOEXEC)
        except OSError as error:
            raise NilfsError(
                f"{path}: {error.strerror}", code="nilfs.permission", hint="run it as root"
            ) from error
        self._files.append(file)
        return file

    def close(self) -> None:
        """Close its files; a second time is harmless."""
        while self._files:
            os.close(self._files.pop())

    def _call(self, request: int, buffer: bytearray, what: str) -> None:
        try:
            fcntl.ioctl(self._root, request, buffer)
        except OSError as error:
            raise NilfsError(
                f"{self.device}: {what}: {error.strerror}",
                code="nilfs.ioctl",
                hint="the kernel's log says whether the file system is damaged or was unmounted",
                errno=error.errno,
            ) from error

    def _array(self, request: int, index: int, array: npt.NDArray[np.void], flags: int) -> int:
        argv = bytearray(
            _ARGV.pack(array.ctypes.data, len(array), array.dtype.itemsize, flags, index)
        )
        self._call(request, argv, f"ioctl {request & 0xFF:#x}")
        count: int = _ARGV.unpack(argv)[1]
        return count

    def stat(self) -> SegmentStat:
        """How many segments there are of each kind (GET_SUSTAT).

        Raises:
            NilfsError: `nilfs.ioctl`, as from all methods.
        """
        buffer = bytearray(_SUSTAT.size)
        self._call(_GET_SUSTAT, buffer, "segment statistics")
        return SegmentStat(*_SUSTAT.unpack(buffer))

    def segments(self) -> npt.NDArray[np.void]:
        """All segments (GET_SUINFO): SUINFO, indexed by segment number."""
        total = self.geometry.segments
        found = np.zeros(total, SUINFO)
        at = 0
        while at < total:
            part = found[at : at + _BATCH]
            got = self._array(_GET_SUINFO, at, part, 0)
            if not got:
                break
            at += got
        return found

    def blocks(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.void]:
        """What the DAT says of virtual blocks (GET_VINFO): VINFO, in the order asked."""
        found = np.zeros(len(numbers), VINFO)
        found["vblocknr"] = numbers
        for at in range(0, len(found), _BATCH):
            self._array(_GET_VINFO, 0, found[at : at + _BATCH], 0)
        return found

    def checkpoints(self) -> tuple[int, int, int]:
        """Number of the next checkpoint, of checkpoints, of snapshots (GET_CPSTAT)."""
        buffer = bytearray(_CPSTAT.size)
        self._call(_GET_CPSTAT, buffer, "checkpoint statistics")
        number, count, snapshots = _CPSTAT.unpack(buffer)
        return number, count, snapshots

    def checkpoint_list(self, first: int = 1, *, most: int = 1 << 20) -> npt.NDArray[np.void]:
        """The checkpoints from number `first` on, ascending: CPINFO."""
        parts: list[npt.NDArray[np.void]] = []
        count = 0
        while count < most:
            part = np.zeros(min(_BATCH, most - count), CPINFO)
            got = self._array(_GET_CPINFO, first, part, 0)
            if not got:
                break
            parts.append(part[:got])
            first = int(part["cno"][got - 1]) + 1
            count += got
        return np.concatenate(parts) if parts else np.zeros(0, CPINFO)

    def snapshots(self) -> list[int]:
        """Numbers of the checkpoints that are snapshots."""
        if not self.checkpoints()[2]:
            return []
        found = self.checkpoint_list()
        return [int(cno) for cno in found["cno"][found["flags"] & _SNAPSHOT != 0]]

    def read(self, block: int, count: int) -> bytes:
        """Raw blocks of the device."""
        size = self.geometry.block_bytes
        return os.pread(self._disk, count * size, block * size)
