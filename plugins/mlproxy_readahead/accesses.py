"""What programs read through the page cache of a device, from the kernel's tracepoints.

`mm_filemap_get_pages` (read and its kin) and `mm_filemap_fault`,
`mm_filemap_map_pages` (memory-mapped files) name device, inode and range of
every access, cached or not, so they do not depend on the read-ahead that is to
be judged. They are there since Linux 6.12. A tracing instance of our own is
used: nobody else's tracing is touched.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mlproxy import MlproxyError

__all__ = ("CALL", "FAULT", "MAPPED", "Access", "AccessTrace", "TraceError", "parse")

EVENTS: Final = ("mm_filemap_get_pages", "mm_filemap_fault", "mm_filemap_map_pages")
_LINE: Final = re.compile(
    rb"-(\d+) +\[\d+\] \S+ +[\d.]+: mm_filemap_([gfm])\w+: "
    rb"dev=\d+:\d+ ino=([0-9a-f]+) ofs=(\d+)(?:-(\d+))?"
    rb"|LOST (\d+) EVENTS"
)
RATE: Final = 2 << 20
"""Bytes of text per second at the most: some 20,000 accesses, or a tenth of a processor."""
PART: Final = 1 << 16
CALL: Final = b"g"
FAULT: Final = b"f"
MAPPED: Final = b"m"


class TraceError(MlproxyError):
    """Raised when the kernel's tracepoints cannot be used."""


Access = tuple[bytes, bytes, bytes, int, int]
"""Of a task to a file: kind (CALL, FAULT, MAPPED), task, inode, first byte of the first page,
last byte of the last page (a fault: the first again). Tuples, for there are thousands a second."""


def parse(text: bytes) -> tuple[list[Access], int]:
    r"""Read lines of a trace.

    Returns:
        The accesses in order, and how many more the kernel had no room for.

    Example:
        >>> line = b"  cat-12 [000] ..... 1.5: mm_filemap_fault: dev=8:0 ino=1f ofs=4096\n"
        >>> parse(line + b"CPU:0 [LOST 3 EVENTS]\n")
        ([(b'f', b'12', b'1f', 4096, 4096)], 3)
    """
    found: list[Access] = []
    lost = 0
    for task, kind, inode, begin, end, missing in _LINE.findall(text):
        if kind:
            found.append((kind, task, inode, int(begin), int(end or begin)))
        else:
            lost += int(missing)
    return found, lost


class AccessTrace:
    """A tracing instance that sees the accesses to one device's files.

    An instance that an earlier daemon left behind when it was killed is used again.

    Args:
        name: of the device, for the instance's name.
        numbers: major and minor of the device and its partitions.
        buffer_kb: per processor.
        root: where /sys is found; for tests.

    Raises:
        TraceError: `readahead.no_trace`, `readahead.no_tracepoints`.
    """

    def __init__(
        self, name: str, numbers: Iterable[tuple[int, int]], buffer_kb: int, *, root: str = "/"
    ) -> None:
        tracing = Path(root) / "sys/kernel/tracing"
        if not (tracing / "instances").is_dir():
            raise TraceError(
                f"{tracing} is not there, or may not be read",
                code="readahead.no_trace",
                hint="run as root, with `mount -t tracefs tracefs /sys/kernel/tracing`",
            )
        missing = [e for e in EVENTS if not (tracing / "events/filemap" / e).is_dir()]
        if missing:
            raise TraceError(
                f"this kernel has no tracepoint {missing[0]}",
                code="readahead.no_tracepoints",
                hint="they came with Linux 6.12",
            )
        self._instance = tracing / "instances" / f"mlproxy-readahead-{name.replace('!', '-')}"
        self._rest = b""
        try:
            self._instance.mkdir(exist_ok=True)
            self._begin(numbers, buffer_kb)
            self._pipe = os.open(self._instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            self._remove()
            raise TraceError(
                f"{error.filename or self._instance}: {error.strerror}",
                code="readahead.no_trace",
                hint="is the kernel locked down, or does somebody else use the instance?",
            ) from error

    def _write(self, file: str, text: str) -> None:
        (self._instance / file).write_text(text, encoding="ascii")

    def _begin(self, numbers: Iterable[tuple[int, int]], buffer_kb: int) -> None:
        self._write("tracing_on", "0")
        self._write("trace", "\n")
        self._write("buffer_size_kb", str(buffer_kb))
        # The kernel's own dev_t: 12 bits of major, 20 of minor.
        chosen = " || ".join(f"s_dev == {major << 20 | minor}" for major, minor in numbers)
        for event in EVENTS:
            self._write(f"events/filemap/{event}/filter", chosen)
            self._write(f"events/filemap/{event}/enable", "1")
        self._write("tracing_on", "1")

    def read(self, seconds: float) -> tuple[list[Access], int]:
        """What happened since the last call, in order, and how much was lost; never waits.

        Args:
            seconds: since the last call. What is read is bounded by `RATE`, and so is
                the time that it takes: at a higher rate the kernel overwrites the rest.
        """
        parts = [self._rest]
        size, most = 0, max(PART, int(RATE * seconds))
        while size < most:
            try:
                part = os.read(self._pipe, PART)
            except BlockingIOError:
                break
            if not part:
                break
            parts.append(part)
            size += len(part)
        whole, newline, self._rest = b"".join(parts).rpartition(b"\n")
        return parse(whole + newline)

    def close(self) -> None:
        """Stop tracing and take the instance away."""
        os.close(self._pipe)
        self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._write("tracing_on", "0")
        with contextlib.suppress(OSError):
            self._instance.rmdir()
