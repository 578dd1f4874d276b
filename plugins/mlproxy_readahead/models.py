"""The candidates: regressions of a window's cost over context and setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlproxy.errors import ProgramError
from mlproxy.learn import (
    ArbitrationPolicy,
    CandidateRecipe,
    Compiled,
    DecisionSpec,
    Features,
    PredictorDefaults,
    Size,
    hatr,
    htr,
    linear,
)

__all__ = ("POLICY", "CellTable", "TableCandidate", "UsualCost", "recipes")

Cell = tuple[int, int, int]
FADING = 0.1
FEW = 2


class CellTable:
    """Costs by cell of the context and by setting: a contextual bandit's memory.

    A cell is two octaves of the depth in a run, two of the call's length, and a third
    of the mapped share: coarse enough that a handful of windows fills it.
    """

    def __init__(self) -> None:
        self._costs: dict[tuple[Cell, int], float] = {}
        self._counts: dict[tuple[Cell, int], int] = {}

    @staticmethod
    def cell(depth: int, call: int, mapped: int) -> Cell:
        """The cell of a context."""
        return (depth + 16) // 32, (call + 16) // 32, min(2, mapped * 3 // 100)

    def add(self, cell: Cell, setting: int, cost: float) -> None:
        """Take note of a window's cost: the mean of the first ten, fading from then on."""
        key = (cell, setting)
        count = self._counts[key] = self._counts.get(key, 0) + 1
        mean = self._costs.get(key, cost)
        self._costs[key] = mean + (cost - mean) * max(FADING, 1 / count)

    def cost(self, cell: Cell, setting: int) -> float | None:
        """Faded mean of the costs, or None."""
        return self._costs.get((cell, setting))

    def count(self, cell: Cell, setting: int) -> int:
        """How many windows."""
        return self._counts.get((cell, setting), 0)

    def __len__(self) -> int:
        return len(self._costs)


class UsualCost:
    """What the default costs, by cell of the context: what all windows are compared with."""

    def __init__(self) -> None:
        self._table = CellTable()

    def add(self, context: Cell, cost: float) -> None:
        """Take note of a window in which the default was in force."""
        self._table.add(self._table.cell(*context), 0, cost)

    def cost(self, context: Cell) -> float | None:
        """Faded mean, once there are a few; None before."""
        cell = self._table.cell(*context)
        return self._table.cost(cell, 0) if self._table.count(cell, 0) >= FEW else None


class TableCandidate(PredictorDefaults):
    """A table of mean costs, and nothing between its cells."""

    adapts = True

    def __init__(self, spec: DecisionSpec, seed: int) -> None:
        del seed
        self._prior = spec.streams[0].prior
        self._table = CellTable()

    def predict_one(self, stream: int, x: Features) -> float:
        """See `Candidate`; what was never tried is taken for as dear as the prior."""
        del stream
        cost = self._table.cost(self._table.cell(x[0], x[1], x[2]), x[3])
        return self._prior if cost is None else cost

    def learn_one(self, stream: int, x: Features, y: float, w: float) -> None:
        """See `Candidate`."""
        del stream, w
        self._table.add(self._table.cell(x[0], x[1], x[2]), x[3], y)

    def adopt(self, stream: int, other: TableCandidate) -> None:
        """See `Candidate`."""
        del stream
        self._table = other._table

    def size(self) -> Size:
        """See `Candidate`."""
        return Size(nodes=len(self._table), bytes=1024 * len(self._table))

    def compile(self, stream: int) -> Compiled:
        """Not asked for: a CHOICE is made in user space.

        Raises:
            ProgramError: always.
        """
        raise ProgramError(
            "a table of costs is not compiled",
            code="program.model",
            hint="it serves decisions that are made in user space",
            stream=stream,
        )


def recipes() -> Sequence[CandidateRecipe]:
    """The candidates, in order of preference among equals.

    There are two labels a second and a decision is soon forgotten: the trees
    may split early and be wrong for a while.
    """
    quick: dict[str, Any] = {"grace_period": 12, "delta": 0.05, "tau": 0.5, "bins": 64}
    return (
        CandidateRecipe("table", TableCandidate),
        htr(**quick),
        hatr(**quick),
        linear(rate=0.4),
    )


POLICY = ArbitrationPolicy(
    warmup_labels=24,
    fading=0.98,
    # Which setting is the cheapest does not depend on a twentieth of the least cost, and
    # what a table has seen of it is sure.
    resolution=0.05,
    switch_margin=0.25,
    dwell_labels=48,
    decide_every=4,
    understudy_labels=240,
    budget_labels=480,
    # A label is a window of half a second: some milliseconds do not matter.
    max_seconds_per_label=0.05,
)
