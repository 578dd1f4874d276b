"""The file of what was seen and done: one JSON object per line, for the report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlproxy_damon.errors import DamonError

__all__ = ("RecordFile", "read_records", "thinned")

MOST_ROWS: Final = 256
"""Regions per picture in the file."""


def thinned(regions: npt.NDArray[np.uint64], most: int = MOST_ROWS) -> list[list[int]]:
    """At most so many regions: neighbours are put together, smallest first.

    Args:
        regions: shape [n, 4]: first byte, last + 1, accesses, age.
        most: rows to be left.

    Returns:
        Rows in the same columns; accesses and age weighted by size. Holes stay.

    Example:
        >>> rows = np.array([[0, 10, 2, 0], [10, 20, 4, 0], [50, 90, 0, 9]], np.uint64)
        >>> thinned(rows, 2)
        [[0, 20, 3, 0], [50, 90, 0, 9]]
    """
    rows: list[list[int]] = [[int(v) for v in row] for row in regions.tolist()]
    limit = 1 << 14
    while len(rows) > most:
        merged: list[list[int]] = []
        for row in rows:
            last = merged[-1] if merged else None
            if last is not None and last[1] == row[0] and row[1] - last[0] <= limit:
                old, new = last[1] - last[0], row[1] - row[0]
                for column in (2, 3):
                    last[column] = round((last[column] * old + row[column] * new) / (old + new))
                last[1] = row[1]
            else:
                merged.append(list(row))
        if limit > 1 << 62:
            return merged[:most]
        rows, limit = merged, limit * 2
    return rows


class RecordFile:
    """Appends lines; begun anew when it has grown too large.

    Args:
        path: the file.
        most_bytes: the old one is then kept as `.1`.

    Raises:
        DamonError: `damon.records` when it cannot be opened.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self._most = most_bytes
        try:
            self._file = path.open("a", encoding="ascii", buffering=1)
        except OSError as error:
            raise DamonError(
                f"{path} cannot be written: {error.strerror}",
                code="damon.records",
                hint="another path for `records`, in a directory that exists",
            ) from error

    def write(self, kind: str, at: float, **values: Any) -> None:
        """One line; a full disk loses it and nothing else.

        Args:
            kind: `start`, `target`, `picture`, `window` or `setting`.
            at: seconds of CLOCK_MONOTONIC.
            **values: what JSON can say.
        """
        line = json.dumps({"kind": kind, "at": round(at, 3)} | values, separators=(",", ":"))
        try:
            if self._file.tell() + len(line) > self._most:
                self._file.close()
                self.path.replace(self.path.with_name(self.path.name + ".1"))
                self._file = self.path.open("a", encoding="ascii", buffering=1)
            self._file.write(line + "\n")
        except (OSError, ValueError):
            return

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def read_records(path: Path) -> Iterator[Mapping[str, Any]]:
    """The lines of a file in order; a last one that was cut off is left out.

    Raises:
        DamonError: `damon.records` when it cannot be read or holds something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DamonError(
            f"{path} cannot be read: {error}",
            code="damon.records",
            hint="the file that `records` in [subsystem.damon] names",
        ) from error
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                return
            raise _no_record(path, number, str(error)) from error
        if not isinstance(found, dict) or not {"kind", "at"} <= found.keys():
            raise _no_record(path, number, "not a record")
        yield found


def _no_record(path: Path, number: int, why: str) -> DamonError:
    return DamonError(
        f"{path}, line {number}: {why}",
        code="damon.records",
        hint="is it the file that `records` in [subsystem.damon] names?",
    )
