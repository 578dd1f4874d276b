"""What a model must offer to run as a candidate, and how candidates are named and made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlproxy.learn.spec import DecisionSpec
from mlproxy.proxy.types import Program

__all__ = (
    "Candidate",
    "CandidateRecipe",
    "Compiled",
    "Features",
    "Measured",
    "PredictorDefaults",
    "Size",
)

# Feature index -> value. One dict per label is shared by all candidates: do not modify it.
Features = dict[int, int]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A model as a program without cuts.

    Attributes:
        program: to which the learner adds the cuts.
        resolution: bound on |program - model| in label units; 0 when exact up
            to the rounding of one leaf.
        pruned: splits that had to go to fit the program's limits.
        final: the cuts (or their absence) are the candidate's own: leave them.
    """

    program: Program
    resolution: float = 0.0
    pruned: int = 0
    final: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """How big a model is: tree nodes and bytes (a cheap estimate)."""

    nodes: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured cost over the default's (lower is better) and from how many windows."""

    cost: float
    windows: int


class Candidate(Protocol):
    """A model of one decision, all its streams.

    Every method may raise: the learner drops the candidate and goes on.
    Derive from nothing; `name` and the methods are all there is.
    """

    @property
    def predicts(self) -> bool:
        """Whether `predict_one` predicts labels (else only measured cost can rank it)."""

    @property
    def adapts(self) -> bool:
        """Whether the model deals with drift itself, so that it need not be rebuilt."""

    def predict_one(self, stream: int, x: Features) -> float:
        """Predicted label, in label units; finite."""

    def learn_one(self, stream: int, x: Features, y: float, w: float) -> None:
        """Learn one label of weight `w`. `x` must be neither kept nor modified."""

    def compile(self, stream: int) -> Compiled:
        """The model as a program.

        Raises:
            ProgramError: when it cannot be one.
        """

    def adopt(self, stream: int, other: Any) -> None:
        """Replace what was learned of `stream` by what `other` (same recipe) learned of it."""

    def size(self) -> Size:
        """How big it is now."""

    def observe_cost(self, cost: float, baseline: float, weight: float, policy: str) -> None:
        """What this candidate's program cost in one window, and the default in the same one.

        `policy` names the policy that ran, "" for the one that `compile` gave.
        `baseline` is NaN when the default was not measured in this window.
        """

    def measured(self) -> Measured | None:
        """Its own account of what it would publish, as a ratio; None: the learner's counts."""

    def compile_best(self, stream: int) -> Compiled:
        """What to publish; differs from `compile` where a candidate explores on its twin."""


@dataclass(frozen=True, slots=True)
class CandidateRecipe:
    """A name and how to make the candidate: `factory(spec, seed, **params)`.

    Plugins offer recipes through the hook `mlproxy_models`.

    Attributes:
        name: unique within a learner.
        factory: makes the candidate.
        params: keyword arguments of the factory.
    """

    name: str
    factory: Callable[..., Candidate]
    params: Mapping[str, Any] = field(default_factory=dict)

    def make(self, spec: DecisionSpec, seed: int) -> Candidate:
        """Make the candidate for `spec`."""
        return self.factory(spec, seed, **self.params)


class PredictorDefaults:
    """What is the same for every candidate that predicts labels."""

    predicts = True
    adapts = False

    def observe_cost(self, cost: float, baseline: float, weight: float, policy: str) -> None:
        """Nothing to do: the learner keeps the account."""

    def measured(self) -> Measured | None:
        """The learner's account counts."""
        return None

    def compile(self, stream: int) -> Compiled:
        """See `Candidate`; each model has its own."""
        raise NotImplementedError

    def compile_best(self, stream: int) -> Compiled:
        """The same as `compile`."""
        return self.compile(stream)
