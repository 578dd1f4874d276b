"""The candidates: what a setting does to memory and to faults, by context and setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from river import stats

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

__all__ = ("POLICY", "TableCandidate", "recipes")

FADING: Final = 0.15


class TableCandidate(PredictorDefaults):
    """Mean labels by setting and by cell of the context: a contextual bandit's memory.

    A cell is a tenth of the memory that is out and a tenth that can be taken.
    """

    adapts = True

    def __init__(self, spec: DecisionSpec, seed: int) -> None:
        del seed
        self._priors = [stream.prior for stream in spec.streams]
        self._cells: dict[tuple[int, ...], Any] = {}

    @staticmethod
    def _cell(stream: int, x: Features) -> tuple[int, ...]:
        return stream, x[0] // 100, x[2] // 100, x[3], x[4]

    def predict_one(self, stream: int, x: Features) -> float:
        """See `Candidate`; what was never tried is taken for the prior."""
        found = self._cells.get(self._cell(stream, x))
        return self._priors[stream] if found is None else float(found.get())

    def learn_one(self, stream: int, x: Features, y: float, w: float) -> None:
        """See `Candidate`."""
        del w
        key = self._cell(stream, x)
        if key not in self._cells:
            self._cells[key] = stats.EWMean(FADING)
        self._cells[key].update(y)

    def adopt(self, stream: int, other: TableCandidate) -> None:
        """See `Candidate`."""
        self._cells = {k: v for k, v in self._cells.items() if k[0] != stream} | {
            k: v for k, v in other._cells.items() if k[0] == stream
        }

    def size(self) -> Size:
        """See `Candidate`."""
        return Size(nodes=len(self._cells), bytes=1024 * len(self._cells))

    def compile(self, stream: int) -> Compiled:
        """Not asked for: a CHOICE is made in user space.

        Raises:
            ProgramError: always.
        """
        raise ProgramError(
            "a table of means is not compiled",
            code="program.model",
            hint="it serves decisions that are made in user space",
            stream=stream,
        )


def recipes() -> Sequence[CandidateRecipe]:
    """The candidates, in order of preference among equals.

    There is a label every few seconds: the linear model starts from what reclaim does
    by its nature, the trees may split early.
    """
    quick: dict[str, Any] = {"grace_period": 12, "delta": 0.05, "tau": 0.5, "bins": 64}
    return (
        linear(rate=0.4),
        CandidateRecipe("table", TableCandidate),
        htr(**quick),
        hatr(**quick),
    )


POLICY: Final = ArbitrationPolicy(
    warmup_labels=12,
    fading=0.97,
    dwell_labels=24,
    decide_every=4,
    understudy_labels=160,
    budget_labels=320,
    # A label is a window of seconds: some milliseconds do not matter.
    max_seconds_per_label=0.05,
)
