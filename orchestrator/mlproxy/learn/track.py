"""One candidate in the race: its model, its record and its budgets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from mlproxy.learn.batch import Columns
from mlproxy.learn.candidate import Candidate, CandidateRecipe, Size
from mlproxy.learn.drift import RisingAdwin
from mlproxy.learn.meters import FadingMean, FadingRatio
from mlproxy.learn.policy import ArbitrationPolicy
from mlproxy.learn.spec import DecisionSpec

__all__ = ("Diverged", "Drift", "Track")

# ADWIN sees means of so many errors: by default it looks for a change only every 32
# values anyway, and seeing every single one would cost as much as a linear model.
_BLOCK = 8

State = Literal["warming", "ready", "dropped"]


class Diverged(Exception):  # noqa: N818 - it names what the model did
    """Raised inside the learner when a model predicts something that is no usable number."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A rise of the prediction error that ADWIN found."""

    stream: int
    before: float
    after: float


@dataclass(slots=True)
class _Understudy:
    """A fresh model that learns beside the old one after a drift."""

    candidate: Candidate
    own: FadingMean
    old: FadingMean


@dataclass(slots=True)
class Track:
    """Mutable record of one candidate; only the learner touches it."""

    recipe: CandidateRecipe
    order: int
    spec: DecisionSpec
    policy: ArbitrationPolicy
    candidate: Candidate
    seed: int
    state: State = "warming"
    dropped_because: str = ""
    labels: list[int] = field(default_factory=list)
    loss: FadingMean = field(init=False)
    cost: FadingRatio = field(init=False)
    drifts: int = 0
    rebuilt: int = 0
    drifted_at: int = -1
    seconds: float = 0.0
    pace: FadingMean = field(default_factory=lambda: FadingMean(0.9))
    size: Size = field(default_factory=lambda: Size(0, 0))
    effort: int = 0
    cuts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _watches: list[RisingAdwin] = field(init=False)
    _blocks: list[float] = field(init=False)
    _understudies: dict[int, _Understudy] = field(default_factory=dict)

    def __post_init__(self) -> None:
        streams = len(self.spec.streams)
        self.labels = [0] * streams
        self.loss = FadingMean(self.policy.fading)
        self._blocks = [0.0] * streams
        self.cost = FadingRatio(self.policy.cost_fading)
        self._watches = [
            RisingAdwin(self.policy.drift_delta, clock=32 // _BLOCK) for _ in range(streams)
        ]

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.recipe.name

    @property
    def alive(self) -> bool:
        """Not dropped."""
        return self.state != "dropped"

    def train(self, columns: Columns) -> list[Drift]:
        """Test-then-train on `columns`.

        Raises:
            Diverged: when a prediction is not finite.
            Exception: whatever the model raises.
        """
        if not self.candidate.predicts:
            learn = self.candidate.learn_one
            for stream, x, y, w in zip(*columns, strict=True):
                learn(stream, x, y, w)
                self.labels[stream] += 1
            return []
        drifts: list[Drift] = []
        predict, learn = self.candidate.predict_one, self.candidate.learn_one
        watches, labels, blocks = self._watches, self.labels, self._blocks
        squared = self.policy.loss == "squared"
        low, high = self.spec.label_low, self.spec.label_high
        span = high - low
        fading = self.policy.fading
        mass, total = self.loss.mass, self.loss.total
        understudied = bool(self._understudies)
        for stream, x, y, w in zip(*columns, strict=True):
            guess = predict(stream, x)
            # What a program may answer is limited, and NaN fails every comparison.
            if low <= guess <= high:
                error = abs(guess - y)
            elif math.isfinite(guess):
                error = abs((low if guess < low else high) - y)
            else:
                raise Diverged(f"predicted {guess!r}")
            learn(stream, x, y, w)
            loss = error * error if squared else error
            mass = mass * fading + w
            total = total * fading + w * loss
            labels[stream] += 1
            blocks[stream] += error
            if labels[stream] % _BLOCK == 0:
                watch = watches[stream]
                watch.update(blocks[stream] / (_BLOCK * span))
                blocks[stream] = 0.0
                if watch.drift_detected:
                    drifts.append(Drift(stream, watch.before * span, watch.after * span))
            if understudied and stream in self._understudies:
                self._rehearse(stream, x, y, w, loss)
        self.loss.mass, self.loss.total = mass, total
        self.loss.count += len(columns[0])
        return drifts

    def _rehearse(self, stream: int, x: Any, y: float, w: float, old_loss: float) -> None:
        one = self._understudies[stream]
        guess = one.candidate.predict_one(stream, x)
        if not math.isfinite(guess):
            raise Diverged(f"its understudy predicted {guess!r}")
        error = abs(min(max(guess, self.spec.label_low), self.spec.label_high) - y)
        one.own.add(error * error if self.policy.loss == "squared" else error, w)
        one.old.add(old_loss, w)
        one.candidate.learn_one(stream, x, y, w)

    def begin_understudy(self, stream: int) -> bool:
        """Start a fresh model for `stream` unless the model adapts itself or one is at it."""
        if self.candidate.adapts or stream in self._understudies:
            return False
        fading = self.policy.fading
        self._understudies[stream] = _Understudy(
            self.recipe.make(self.spec, self.seed + 1 + self.drifts),
            FadingMean(fading),
            FadingMean(fading),
        )
        return True

    def settle_understudies(self) -> list[int]:
        """Let understudies that do better take over; returns their streams."""
        taken = []
        for stream, one in list(self._understudies.items()):
            own, old = one.own.value, one.old.value
            if own is None or old is None or one.own.count < self.policy.warmup_labels:
                continue
            if own < old * (1 - self.policy.switch_margin):
                self.candidate.adopt(stream, one.candidate)
                self.rebuilt += 1
                taken.append(stream)
                del self._understudies[stream]
            elif one.own.count >= self.policy.understudy_labels:
                del self._understudies[stream]
        return taken

    def warm(self, stream: int) -> bool:
        """Whether `stream` has its warm-up labels (a model that predicts nothing needs none)."""
        return not self.candidate.predicts or self.labels[stream] >= self.policy.warmup_labels

    def account(self, seconds: float, labels: int) -> None:
        """Book the time that `labels` labels took."""
        self.seconds += seconds
        if labels:
            self.pace.add(seconds / labels, labels)

    def over_budget(self) -> str:
        """Which budget is exceeded, in words; "" for none. Estimates the size anew."""
        self.size = self.candidate.size()
        policy, pace = self.policy, self.pace.value
        if policy.max_bytes and self.size.bytes > policy.max_bytes:
            return f"needs {self.size.bytes} bytes of {policy.max_bytes}"
        if policy.max_seconds_per_label and pace and pace > policy.max_seconds_per_label:
            return (
                f"takes {pace * 1e6:.0f} us per label of {policy.max_seconds_per_label * 1e6:.0f}"
            )
        return ""
