"""The example consumer: operations to play, what it says of them, its bench."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

DEBUGFS = Path("/sys/kernel/debug/mlproxy_example")
NAME = "example"
_OP = struct.Struct("=QQqqIIiI16i")  # struct mlp_example_op
_DECIDE = 0
_CALLS = 1000


class Cost(NamedTuple):
    """Nanoseconds per turn: the bare loop, with an empty indirect call, with a decision."""

    loop: float
    empty: float
    decide: float


def decide(now: int, unit: int, default_action: int, features: Sequence[int]) -> bytes:
    """One operation to decide, on stream 0."""
    row = (*features, *(0,) * (16 - len(features)))
    return _OP.pack(now, unit, 0, 0, _DECIDE, 0, default_action, 0, *row)


def play(operations: Iterable[bytes]) -> None:
    """Let the example do them."""
    data = b"".join(operations)
    with (DEBUGFS / "ops").open("wb", buffering=0) as file:
        assert file.write(data) == len(data)


def digest() -> str:
    """A hash over all its decisions since it was loaded."""
    return (DEBUGFS / "digest").read_text().strip()


def bench() -> Cost:
    """What a decision costs now: medians over blocks of the three loops, in turn."""
    rows = [list(map(int, line.split())) for line in (DEBUGFS / "bench").read_text().splitlines()]
    return Cost(*(median(column) / _CALLS for column in zip(*rows, strict=True)))
