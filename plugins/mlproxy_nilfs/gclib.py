"""libnilfsgc by ctypes: how much of a segment lives, and cleaning it.

The library (nilfs-utils 2.2 and later) exports `nilfs_xreclaim_segment`; `nilfs_assess_segment`
is an inline of its header, which is that function told to do nothing. It copes with snapshots,
protected checkpoints and segments that others have cleaned meanwhile, and takes the semaphore
that `nilfs_cleanerd` takes.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlproxy_nilfs.errors import NilfsError

__all__ = ("GcLibrary", "Reclaimed", "semaphore_file")

_RDWR, _RAW, _GC_LOCK = 0x8, 0x1, 0x1000
_BY_SEQUENCE, _BY_CHECKPOINT, _LEAST = 1, 2, 4


class _Params(ctypes.Structure):
    """struct nilfs_reclaim_params (nilfs_gc.h)."""

    _fields_ = (
        ("flags", ctypes.c_ulong),
        ("min_reclaimable_blks", ctypes.c_ulong),
        ("protseq", ctypes.c_uint64),
        ("protcno", ctypes.c_uint64),
    )


class _Stat(ctypes.Structure):
    """struct nilfs_reclaim_stat (nilfs_gc.h)."""

    _fields_ = (
        ("exflags", ctypes.c_ulong),
        ("cleaned_segs", ctypes.c_size_t),
        ("protected_segs", ctypes.c_size_t),
        ("deferred_segs", ctypes.c_size_t),
        ("live_blks", ctypes.c_size_t),
        ("live_vblks", ctypes.c_size_t),
        ("live_pblks", ctypes.c_size_t),
        ("defunct_blks", ctypes.c_size_t),
        ("defunct_vblks", ctypes.c_size_t),
        ("defunct_pblks", ctypes.c_size_t),
        ("freed_vblks", ctypes.c_size_t),
    )


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What cleaning has done, or would do.

    Attributes:
        cleaned: segments that are free now.
        protected: segments left alone, for they hold what must not be cleaned yet.
        deferred: segments left alone, for too little would be won.
        live: blocks that had to be copied.
        dead: blocks that were not.
    """

    cleaned: int
    protected: int
    deferred: int
    live: int
    dead: int


def semaphore_file(device: str) -> Path:
    """The file of the semaphore by which cleaners keep apart (`sem_overview(7)`)."""
    return Path(f"/dev/shm/sem.nilfs-cleaner-{Path(device).stat().st_rdev}")  # noqa: S108


class GcLibrary:
    """The library, opened on a file system.

    Args:
        device: the block device.
        folder: where it is mounted.

    Raises:
        NilfsError: `nilfs.library` when it is not installed or too old, `nilfs.open`.
    """

    def __init__(self, device: str, folder: str) -> None:
        self._main, self._gc = _load("nilfs"), _load("nilfsgc")
        self._main.nilfs_open.restype = ctypes.c_void_p
        self._main.nilfs_open.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]
        self._main.nilfs_close.argtypes = [ctypes.c_void_p]
        self._main.nilfs_close.restype = None
        self._main.nilfs_opt_set_set_suinfo.argtypes = [ctypes.c_void_p]
        self._gc.nilfs_xreclaim_segment.argtypes = [
            ctypes.c_void_p,
            ctypes.POINTER(ctypes.c_uint64),
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.POINTER(_Params),
            ctypes.POINTER(_Stat),
        ]
        self._device = device
        self._handle = self._main.nilfs_open(
            os.fsencode(device), os.fsencode(folder), _RAW | _RDWR | _GC_LOCK
        )
        if not self._handle:
            error = ctypes.get_errno()
            raise NilfsError(
                f"libnilfs cannot open {device}: {os.strerror(error)}",
                code="nilfs.open",
                hint="root; mounted writable; /dev/shm for the cleaners' semaphore",
                device=device,
            )
        self._main.nilfs_opt_set_set_suinfo(self._handle)
        self._gc.nilfs_cnoconv_create.restype = ctypes.c_void_p
        self._gc.nilfs_cnoconv_create.argtypes = [ctypes.c_void_p]
        self._gc.nilfs_cnoconv_destroy.argtypes = [ctypes.c_void_p]
        self._gc.nilfs_cnoconv_destroy.restype = None
        self._gc.nilfs_cnoconv_time2cno.argtypes = [
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.POINTER(ctypes.c_uint64),
        ]
        self._converter = self._gc.nilfs_cnoconv_create(self._handle)

    def close(self) -> None:
        """Close the library's handle; a second time is harmless."""
        if self._handle:
            self._gc.nilfs_cnoconv_destroy(self._converter)
            self._main.nilfs_close(self._handle)
            self._handle = None

    def checkpoint_at(self, seconds: int) -> int:
        """The first checkpoint made at or after a time; what it has is protected.

        Raises:
            NilfsError: `nilfs.assess`.
        """
        number = ctypes.c_uint64()
        ctypes.set_errno(0)
        if self._gc.nilfs_cnoconv_time2cno(self._converter, seconds, ctypes.byref(number)) < 0:
            raise NilfsError(
                f"{self._device}: no checkpoint of that time: {os.strerror(ctypes.get_errno())}",
                code="nilfs.assess",
            )
        return number.value

    def assess(
        self, segments: Sequence[int], *, protected_sequence: int, protected_checkpoint: int
    ) -> Reclaimed:
        """What cleaning these segments would copy and free (`nilfs_assess_segment`).

        Raises:
            NilfsError: `nilfs.assess`.
        """
        return self._run(segments, True, protected_sequence, protected_checkpoint, 0)

    def reclaim(
        self,
        segments: Sequence[int],
        *,
        protected_sequence: int,
        protected_checkpoint: int,
        least_dead: int = 0,
    ) -> Reclaimed:
        """Copy what lives in these segments, and free them.

        Args:
            segments: their numbers.
            protected_sequence: segments from this sequence number on are left alone.
            protected_checkpoint: what this checkpoint or a later one has counts as living.
            least_dead: a segment with fewer dead blocks is left alone.

        Raises:
            NilfsError: `nilfs.reclaim`.
        """
        return self._run(segments, False, protected_sequence, protected_checkpoint, least_dead)

    def _run(
        self, segments: Sequence[int], dry: bool, sequence: int, checkpoint: int, least: int
    ) -> Reclaimed:
        numbers = (ctypes.c_uint64 * len(segments))(*segments)
        flags = _BY_SEQUENCE | _BY_CHECKPOINT | (_LEAST if least else 0)
        params, stat = _Params(flags, least, sequence, checkpoint), _Stat()
        ctypes.set_errno(0)
        status = self._gc.nilfs_xreclaim_segment(
            self._handle, numbers, len(segments), int(dry), ctypes.byref(params), ctypes.byref(stat)
        )
        if status < 0:
            error = ctypes.get_errno()
            what = "assessed" if dry else "reclaimed"
            raise NilfsError(
                f"{self._device}: segments {list(segments)} cannot be {what}: {os.strerror(error)}",
                code="nilfs.assess" if dry else "nilfs.reclaim",
                hint="the kernel's log says more",
                errno=error,
            )
        return Reclaimed(
            stat.cleaned_segs, stat.protected_segs, stat.deferred_segs, stat.live_blks,
            stat.defunct_blks,
        )  # fmt: skip


_VERSION: Final = 0


def _load(name: str) -> Any:
    """A library of nilfs-utils.

    Raises:
        NilfsError: `nilfs.library`.
    """
    try:
        return ctypes.CDLL(f"lib{name}.so.{_VERSION}", use_errno=True)
    except OSError as error:
        raise NilfsError(
            f"lib{name}.so.{_VERSION} cannot be loaded: {error}",
            code="nilfs.library",
            hint="install nilfs-tools (nilfs-utils) 2.2 or later",
        ) from error
