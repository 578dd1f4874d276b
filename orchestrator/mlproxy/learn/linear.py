"""A River linear regression that cannot run away, compiled to step functions.

An unclipped online regression diverged in the study behind this project and
made write amplification 40 times worse, so: features are clipped to their
declared range and mapped to -1..1, the target to about -1..1 around the prior,
the gradient is clipped, and the learning rate keeps
rate * 2 * |z|^2 below 1/2, where plain SGD on a squared loss contracts.
"""

from __future__ import annotations

from typing import Any

from river import linear_model, optim

from mlproxy.learn.candidate import (
    CandidateRecipe,
    Compiled,
    Features,
    PredictorDefaults,
    Size,
)
from mlproxy.learn.compile import MAX_NODES, MAX_TREES, Cell, assemble, quantise, step_cell
from mlproxy.learn.spec import DecisionSpec

__all__ = ("LinearCandidate", "linear")

_CLIP_GRADIENT = 1.0


class LinearCandidate(PredictorDefaults):
    """SGD linear regression per stream, from the linear prior on.

    Args:
        spec: the decision.
        seed: unused (the model is deterministic).
        rate: learning rate times (number of features + 1); below 0.5 it is stable.
        resolution: largest step of one feature's step function, label units.
        max_steps: largest number of steps per feature.
    """

    # A constant learning rate forgets by itself; a fresh model would learn no faster.
    adapts = True

    def __init__(
        self,
        spec: DecisionSpec,
        seed: int,
        *,
        rate: float = 0.25,
        resolution: float = 0.125,
        max_steps: int = 32,
    ) -> None:
        del seed
        self._spec = spec
        self._rate = rate
        self._resolution = resolution
        self._max_steps = max_steps
        self._span = (spec.label_high - spec.label_low) / 2
        self._scaling = [
            [
                (n, f.low, f.high, 2 / (f.high - f.low), (f.high + f.low) / (f.high - f.low))
                for n, f in enumerate(stream.features)
            ]
            for stream in spec.streams
        ]
        self._models = [self._new(number) for number in range(len(spec.streams))]
        self._last: tuple[Features | None, dict[int, float]] = (None, {})
        self._weight = [0.0] * len(spec.streams)

    def _new(self, stream: int) -> Any:
        features = self._spec.streams[stream].features
        rate = self._rate / (len(features) + 1)
        model = linear_model.LinearRegression(
            optimizer=optim.SGD(rate), intercept_lr=rate, clip_gradient=_CLIP_GRADIENT
        )
        # River makes weights when it first sees a feature; the prior's are set by learning
        # nothing from a zero gradient and then writing them.
        if any(feature.prior_weight for feature in features):
            prior = {
                number: feature.prior_weight * (feature.high - feature.low) / 2 / self._span
                for number, feature in enumerate(features)
            }
            model._weights.update(prior)  # noqa: SLF001 - River has no public way to start there
        return model

    def _scale(self, stream: int, x: Features) -> dict[int, float]:
        last, z = self._last
        if last is x:
            return z
        # Written out: min() and max() would cost more than all the rest.
        z = {
            n: (low if v < low else high if v > high else v) * factor - middle  # noqa: FURB136
            for n, low, high, factor, middle in self._scaling[stream]
            for v in (x[n],)
        }
        self._last = (x, z)
        return z

    def predict_one(self, stream: int, x: Features) -> float:
        """See `Candidate`."""
        value: float = self._models[stream].predict_one(self._scale(stream, x))
        return self._spec.streams[stream].prior + self._span * value

    def learn_one(self, stream: int, x: Features, y: float, w: float) -> None:
        """See `Candidate`."""
        target = (y - self._spec.streams[stream].prior) / self._span
        self._models[stream].learn_one(self._scale(stream, x), target, w)
        self._weight[stream] += w

    def adopt(self, stream: int, other: LinearCandidate) -> None:
        """See `Candidate`."""
        self._models[stream] = other._models[stream]
        self._weight[stream] = other._weight[stream]

    def size(self) -> Size:
        """See `Candidate`."""
        weights = sum(len(model.weights) + 1 for model in self._models)
        return Size(nodes=weights, bytes=1024 * len(self._models) + 128 * weights)

    def compile(self, stream: int) -> Compiled:
        """One balanced step function per feature; the intercept goes into the first.

        The features that matter most get a tree when there are more than a
        program may have; the bound in `resolution` includes those left out.
        """
        spec = self._spec
        features = spec.streams[stream].features
        model = self._models[stream]
        slopes = {n: self._span * float(w) for n, w in model.weights.items() if w}
        order = sorted(slopes, key=lambda number: (-abs(slopes[number]), number))
        keep, rest = order[:MAX_TREES], order[MAX_TREES:]
        bound = sum(abs(slopes[number]) for number in rest)
        base = spec.streams[stream].prior + self._span * float(model.intercept)
        weight = self._weight[stream]
        budget = max(1, (MAX_NODES // max(1, len(keep)) + 1) // 2)
        cells: list[Cell] = []
        for number in keep:
            feature, slope = features[number], slopes[number]
            whole = feature.high - feature.low + 1
            steps = min(int(2 * abs(slope) / self._resolution) + 1, self._max_steps, budget, whole)
            edges = [feature.low + whole * step // steps for step in range(steps + 1)]
            centre, half = (feature.low + feature.high) / 2, (feature.high - feature.low) / 2
            # A step covers the integers edges[i] .. edges[i + 1] - 1; its value is at their middle.
            middles = [(edges[i] + edges[i + 1] - 1) / 2 for i in range(steps)]
            widest = max(edges[i + 1] - 1 - edges[i] for i in range(steps)) / 2
            bound += abs(slope) * widest / half
            offset = base if not cells else 0.0
            values = [
                quantise(offset + slope * (middle - centre) / half, spec.value_scale)
                for middle in middles
            ]
            bound += 0.5 / spec.value_scale
            cells.append(step_cell(number, [edge - 1 for edge in edges[1:-1]], values, weight))
        if not cells:
            cells.append(Cell(value=quantise(base, spec.value_scale), weight=weight))
            bound += 0.5 / spec.value_scale
        return Compiled(assemble(cells, len(features), stream), resolution=bound)


def linear(name: str = "linear", **params: float) -> CandidateRecipe:
    """Recipe of the clipped linear regression."""
    return CandidateRecipe(name, LinearCandidate, params)
