"""A twin: what another way to choose segments would have copied, on the same writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlproxy_nilfs.pool import Blocks, Floats, Ids, Pool

__all__ = ("Score", "Twin", "TwinShape")

Score = Callable[[Pool, Floats], Floats]
"""(segments, live blocks in each) -> score in each; the highest is cleaned first."""


@dataclass(frozen=True, slots=True)
class TwinShape:
    """What a twin imitates.

    Attributes:
        segments: how many.
        slots: blocks in each.
        spare: it cleans while fewer segments are free.
        batch: segments that are cleaned at a time.
        least_dead: a segment with fewer dead blocks is not worth it.
    """

    segments: int
    slots: int
    spare: int
    batch: int
    least_dead: int


class Twin:
    """One log, as NILFS2 has: what cleaning copies goes where writes go.

    Args:
        shape: of the file system.
        blocks: the stream's blocks.
        score: how segments are chosen; may be changed at any time.
    """

    def __init__(self, shape: TwinShape, blocks: Blocks, score: Score) -> None:
        self.shape = shape
        self.score = score
        self.pool = Pool(shape.segments, shape.slots, blocks)
        self.copied = 0
        self.cleaned = 0
        self._free = list(range(shape.segments))
        self._open = self._free.pop()
        self._room = shape.slots

    def adopt(self, pool: Pool) -> None:
        """Begin with what lives in another pool, segment by segment in order of age."""
        order = sorted(pool.used, key=lambda segment: pool.closed[segment])
        for segment in order:
            living = pool.living(segment)
            if len(living) and len(self._free) > self.shape.spare // 2:
                mine = self._free.pop(0)
                # A segment of the disk has some slots more: not all of them hold blocks.
                living, rest = living[: self.shape.slots], living[self.shape.slots :]
                self.pool.put(mine, living, copied=float(pool.copied[segment]))
                self.pool.closed[mine] = pool.closed[segment]
                self._append(rest, copied=True)
            elif len(living):
                self._append(living, copied=True)
        self.pool.remember()

    def write(self, ids: Ids) -> None:
        """The stream's next blocks; `Blocks.write` has seen them."""
        self._append(ids, copied=False)
        self.clean()

    def kill(self, ids: Ids) -> None:
        """Files were deleted or cut."""
        self.pool.kill(ids)

    def _append(self, ids: Ids, *, copied: bool) -> None:
        while len(ids):
            if not self._room:
                if not self._free:
                    return  # fuller than it can be: the disk will not do better either
                self._open, self._room = self._free.pop(0), self.shape.slots
            part, ids = ids[: self._room], ids[self._room :]
            self.pool.append(self._open, part, copied=copied)
            self._room -= len(part)

    def clean(self) -> None:
        """Clean until enough segments are free, or nothing is won any more."""
        shape = self.shape
        for _ in range(shape.segments):
            if len(self._free) >= shape.spare:
                return
            live = self.pool.live()
            worth = [
                s
                for s in self.pool.used
                if s != self._open and live[s] <= shape.slots - shape.least_dead
            ]
            if not worth:
                return
            score = self.score(self.pool, live)
            worth.sort(key=lambda s: (-score[s], s))
            chosen = worth[: shape.batch]
            living = [self.pool.living(s) for s in chosen]
            for segment in chosen:
                self.pool.free(segment)
            moved = np.concatenate(living)
            self.copied += len(moved)
            self.cleaned += len(chosen)
            # The kernel frees them only after it has copied, but has room reserved for that.
            self._free.extend(chosen)
            self._append(moved, copied=True)
