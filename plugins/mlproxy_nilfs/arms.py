"""The human-made ways to choose the segments that are cleaned.

Each gives a score per segment; the highest is cleaned first.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mlproxy_nilfs.pool import Floats, Pool

__all__ = ("HUMAN", "benefit", "scores")

HUMAN: Final = ("timestamp", "greedy", "cost-benefit")
"""What is compared with: nilfs_cleanerd's own, and the two of the literature."""


def benefit(live: Floats, slots: int, age: Floats) -> Floats:
    """Space won times how long it stays won, over what it costs.

    Rosenblum and Ousterhout, The Design and Implementation of a Log-Structured File
    System, 1992: (1 - u) age / (1 + u).

    Args:
        live: blocks that live.
        slots: blocks of a segment.
        age: how long what lives there will live on.

    >>> benefit(np.array([0.0, 50.0, 50.0]), 100, np.array([1.0, 1.0, 9.0])).round(2).tolist()
    [1.0, 0.33, 3.0]
    """
    share = np.minimum(live / slots, 1.0)
    found: Floats = (1 - share) * np.maximum(age, 1.0) / (1 + share)
    return found


def scores(arm: str, pool: Pool, live: Floats) -> Floats:
    """Scores of all segments by a human-made way.

    Args:
        arm: `timestamp`: the longest written first; `greedy`: the emptiest;
            `cost-benefit`: `benefit`, with the age of the segment.
        pool: the segments.
        live: blocks that live in each.

    Raises:
        ValueError: for any other name.
    """
    age = (pool.blocks.clock - pool.closed).astype(np.float64)
    match arm:
        case "timestamp":
            return age
        case "greedy":
            return -live
        case "cost-benefit":
            return benefit(live, pool.slots, age)
        case _:
            raise ValueError(f"no such way to choose segments: {arm}")
