"""What DAMON has found, from its tracepoint: regions, how often and how long ago used.

`damon:damon_aggregated` tells of every region at the end of an aggregation. Reading
`tried_regions` in sysfs instead would hold DAMON's one lock for an aggregation, and a
guard that wants to put a default back would find it taken. A tracing instance of our
own is used, filtered to nothing but this event; it is on only while a picture is taken.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from mlproxy_damon.errors import DamonError

__all__ = ("Picture", "RegionTrace", "parse")

INSTANCE: Final = "mlproxy-damon"
BUFFER_KB: Final = 1024
PART: Final = 1 << 16
MOST: Final = 4 << 20
"""Bytes read for one picture: some 40,000 regions."""
_LINE: Final = re.compile(
    rb"damon_aggregated: target_id=(\d+) nr_regions=(\d+) (\d+)-(\d+): (\d+) (\d+)"
)


@dataclass(frozen=True, slots=True)
class Picture:
    """One aggregation of one target.

    Attributes:
        target: its index.
        regions: shape [regions, 4]: first byte, last + 1, samples with an access, age in
            aggregations; ascending.
    """

    target: int
    regions: npt.NDArray[np.uint64]


def parse(text: bytes) -> list[Picture]:
    r"""Read lines of a trace; targets that are not whole are left out.

    Example:
        >>> line = b" kdamond.0-9 [000] ..... 1.5: damon_aggregated: target_id=0 nr_regions=1 "
        >>> parse(line + b"4096-8192: 3 7\n")[0].regions.tolist()
        [[4096, 8192, 3, 7]]
    """
    found: dict[int, list[tuple[int, int, int, int]]] = {}
    counts: dict[int, int] = {}
    for line in _LINE.findall(text):
        target, count, *region = map(int, line)
        rows = found.setdefault(target, [])
        if len(rows) == counts.get(target, count) or counts.get(target, count) != count:
            rows.clear()  # the next aggregation: the latest counts
        counts[target] = count
        rows.append(tuple(region))  # type: ignore[arg-type]
    return [
        Picture(target, np.array(rows, np.uint64).reshape(-1, 4))
        for target, rows in sorted(found.items())
        if len(rows) == counts[target]
    ]


class RegionTrace:
    """The tracing instance.

    One that an earlier daemon left behind when it was killed is used again.

    Args:
        root: where /sys is found; for tests.

    Raises:
        DamonError: `damon.no_trace`.
    """

    def __init__(self, *, root: str = "/") -> None:
        tracing = Path(root) / "sys/kernel/tracing"
        event = tracing / "events/damon/damon_aggregated"
        if not event.is_dir():
            raise DamonError(
                f"{event} is not there, or may not be read",
                code="damon.no_trace",
                hint="run as root, with `mount -t tracefs tracefs /sys/kernel/tracing`",
            )
        self._instance = tracing / "instances" / INSTANCE
        try:
            self._instance.mkdir(exist_ok=True)
            self._write("tracing_on", "0")
            self._write("trace", "\n")
            self._write("buffer_size_kb", str(BUFFER_KB))
            self._write("events/damon/damon_aggregated/enable", "1")
            self._pipe = os.open(self._instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            self._remove()
            raise DamonError(
                f"{error.filename or self._instance}: {error.strerror}",
                code="damon.no_trace",
                hint="is the kernel locked down, or does somebody else use the instance?",
            ) from error
        self._text = b""
        self._taking = False

    def _write(self, file: str, text: str) -> None:
        (self._instance / file).write_text(text, encoding="ascii")

    def begin(self) -> None:
        """Take a picture from now on."""
        if not self._taking:
            self._text, self._taking = b"", True
            self._write("tracing_on", "1")

    def read(self, targets: int) -> list[Picture]:
        """The picture, once every target has been seen; empty before. Never waits."""
        if not self._taking:
            return []
        while len(self._text) < MOST:
            try:
                part = os.read(self._pipe, PART)
            except BlockingIOError:
                break
            if not part:
                break
            self._text += part
        if b"damon_aggregated" not in self._text:
            return []
        pictures = parse(self._text)
        if len(pictures) < targets and len(self._text) < MOST:
            return []
        self.end()
        return pictures

    def end(self) -> None:
        """Take none."""
        if self._taking:
            self._taking, self._text = False, b""
            self._write("tracing_on", "0")

    def close(self) -> None:
        """Take the instance away."""
        os.close(self._pipe)
        self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._write("tracing_on", "0")
        with contextlib.suppress(OSError):
            self._instance.rmdir()
