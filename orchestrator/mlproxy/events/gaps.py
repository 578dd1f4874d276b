"""For readers of the feed: duplicates and gaps in the events of each node."""

from __future__ import annotations

__all__ = ("GapWatch",)


class GapWatch:
    """Follows `seq` per node and session.

    Events are delivered at least once and in order: a number that was seen is a
    duplicate, one that is skipped was lost. Only a reader of all events of a
    node (`event/#`) can tell.

    >>> watch = GapWatch()
    >>> [watch.see("box", "s1", seq) for seq in (4, 5, 5, 9)]
    [0, 0, None, 3]
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], int] = {}

    def see(self, node: str, session: str, seq: int) -> int | None:
        """Return how many events are missing before this one; None: seen before."""
        last = self._last.get((node, session))
        if last is not None and seq <= last:
            return None
        self._last[node, session] = seq
        return 0 if last is None else seq - last - 1
