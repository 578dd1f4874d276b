"""Counts of what was written to the log, by whom: neutral, whoever cleans."""

from __future__ import annotations

import numpy as np

from mlproxy_nilfs.summary import read_segment
from mlproxy_nilfs.volume import ACTIVE, DIRTY, Volume

__all__ = ("Meter",)

DRAGGED = (3, 4, 5)
"""Inodes of DAT, checkpoint file and segment usage file; the few of their blocks that were
copied unchanged count as changed."""


class Meter:
    """Reads the summaries of every segment that is completed.

    Args:
        volume: the file system.

    Attributes:
        user: blocks that anything but cleaning wrote, metadata included, summaries not.
        copied: blocks that cleaning copied.
        dragged: metadata that cleaning changed thereby: each copy has a new place, which the
            DAT must know.
        segments: how many were completed.
        logs: partial segments.
        missed: segments that were used again before they were looked at.
    """

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._known: dict[int, int] = {}
        self._newest = 0
        self._modified: dict[int, int] = {}
        self.user = self.copied = self.dragged = self.segments = self.logs = self.missed = 0
        self.look()
        self._dirty = volume.stat().dirty
        self.user = self.copied = self.dragged = self.segments = self.logs = self.missed = 0

    def look(self) -> None:
        """Take in what was completed since the last look."""
        usage = self._volume.segments()
        flags = usage["flags"]
        shape = self._volume.geometry
        found = []
        for segment in np.flatnonzero((flags & DIRTY != 0) & (flags & ACTIVE == 0)).tolist():
            modified = int(usage["lastmod"][segment]) << 32 | int(usage["nblocks"][segment])
            if self._modified.get(segment) == modified:
                continue
            self._modified[segment] = modified
            begin, count = shape.span(segment)
            contents = read_segment(
                self._volume.read, begin, count, int(usage["nblocks"][segment]), shape.block_bytes
            )
            if self._known.get(segment) != contents.sequence:
                self._known[segment] = contents.sequence
                found.append(contents)
        for contents in sorted(found, key=lambda one: one.sequence):
            if self._newest:
                self.missed += max(0, contents.sequence - self._newest - 1)
            self._newest = max(self._newest, contents.sequence)
            entries = contents.entries
            cleaning = entries[entries["gc"]]
            dragged = int(np.count_nonzero(np.isin(cleaning["ino"], DRAGGED)))
            self.copied += len(cleaning) - dragged
            self.dragged += dragged
            self.user += len(entries) - len(cleaning)
            self.segments += 1
            self.logs += contents.logs

    def counts(self) -> tuple[int, int, int, int]:
        """Blocks by users, copied, dragged; segments reclaimed; all since the beginning."""
        # What was completed and is no longer dirty was reclaimed.
        gone = self.segments + self._dirty - self._volume.stat().dirty
        return self.user, self.copied, self.dragged, gone
