"""River's Hoeffding trees as candidates, compiled exactly.

Hoeffding tree regressor: Ikonomovska et al., 2011; the adaptive one keeps ADWIN
in its nodes and grows alternates after a drift: Bifet and Gavalda, 2009.
"""

from __future__ import annotations

from typing import Any

from river import tree
from river.tree.nodes.branch import DTBranch

from mlproxy.errors import ProgramError
from mlproxy.learn.candidate import (
    CandidateRecipe,
    Compiled,
    Features,
    PredictorDefaults,
    Size,
)
from mlproxy.learn.compile import MAX_NODES, Cell, assemble, prune, quantise
from mlproxy.learn.drift import RisingAdwin
from mlproxy.learn.spec import DecisionSpec
from mlproxy.learn.splitter import BinnedSplitter

__all__ = ("AdaptiveTreeCandidate", "TreeCandidate", "hatr", "htr")

# Measured with tracemalloc on River 0.26: a node, a bin of our splitter, a value of River's.
_NODE_BYTES = 1200
_BIN_BYTES = 190
_VALUE_BYTES = 500


class TreeCandidate(PredictorDefaults):
    """One `HoeffdingTreeRegressor` with mean leaves per stream.

    Args:
        spec: the decision.
        seed: for the random choices of the adaptive tree.
        max_depth: of the River tree.
        grace_period: labels between two attempts to split a leaf.
        delta: of the Hoeffding bound.
        tau: ties are broken below this bound.
        bins: splits are sought on the borders of at most this many bins of a
            feature (see `BinnedSplitter`); 0: by River's truncated E-BST over all
            values, several times slower and no better on our streams.
        max_nodes: larger trees are pruned when compiled.
    """

    def __init__(
        self,
        spec: DecisionSpec,
        seed: int,
        *,
        max_depth: int = 9,
        grace_period: int = 150,
        delta: float = 1e-7,
        tau: float = 0.05,
        bins: int = 256,
        max_nodes: int = MAX_NODES,
    ) -> None:
        self._spec = spec
        self._seed = seed
        self._max_nodes = max_nodes
        self._params: dict[str, Any] = {
            "max_depth": max_depth,
            "grace_period": grace_period,
            "delta": delta,
            "tau": tau,
            "leaf_prediction": "mean",
        }
        self._bins = bins
        self._models: list[Any] = [self._new(number) for number in range(len(spec.streams))]

    def _new(self, stream: int) -> Any:
        del stream
        return tree.HoeffdingTreeRegressor(splitter=self._splitter(), **self._params)

    def _splitter(self) -> Any:
        return BinnedSplitter(self._bins) if self._bins else tree.splitter.TEBSTSplitter(digits=0)

    def predict_one(self, stream: int, x: Features) -> float:
        """See `Candidate`; the prior before the first label."""
        model = self._models[stream]
        if model._root is None:  # noqa: SLF001 - River would answer 0.0
            return self._spec.streams[stream].prior
        value: float = model.predict_one(x)
        return value

    def learn_one(self, stream: int, x: Features, y: float, w: float) -> None:
        """See `Candidate`."""
        self._models[stream].learn_one(x, y, w=w)

    def adopt(self, stream: int, other: TreeCandidate) -> None:
        """See `Candidate`."""
        self._models[stream] = other._models[stream]

    def size(self) -> Size:
        """See `Candidate`: counts nodes and what the leaves' splitters hold."""
        nodes = filled = 0
        for model in self._models:
            if model._root is None:  # noqa: SLF001
                continue
            nodes += model.n_nodes
            for leaf in model._root.iter_leaves():  # noqa: SLF001
                for splitter in (leaf.splitters or {}).values():
                    filled += _splitter_bytes(splitter)
        return Size(nodes=nodes, bytes=nodes * _NODE_BYTES + filled)

    def compile(self, stream: int) -> Compiled:
        """The tree, exactly; pruned bottom-up when it is over the limits."""
        spec = self._spec
        root = self._models[stream]._root  # noqa: SLF001
        if root is None:
            cell = Cell(value=quantise(spec.streams[stream].prior, spec.value_scale))
        else:
            cell = _cell(root, spec.value_scale, spec.streams[stream].prior, ())
        pruned = prune(cell, self._max_nodes)
        program = assemble([cell], len(spec.streams[stream].features), stream)
        return Compiled(program, resolution=0.5 / spec.value_scale, pruned=pruned)


class AdaptiveTreeCandidate(TreeCandidate):
    """One `HoeffdingAdaptiveTreeRegressor` with mean leaves per stream.

    Args:
        spec: the decision.
        seed: of the tree.
        drift_delta: of the ADWIN in every node, which here only sees errors rise
            (with River's own it would also replace subtrees that get better).
        params: see `TreeCandidate`.
    """

    adapts = True

    def __init__(
        self, spec: DecisionSpec, seed: int, *, drift_delta: float = 0.002, **params: Any
    ) -> None:
        self._drift_delta = drift_delta
        super().__init__(spec, seed, **params)

    def _new(self, stream: int) -> Any:
        return tree.HoeffdingAdaptiveTreeRegressor(
            splitter=self._splitter(),
            drift_detector=RisingAdwin(self._drift_delta),
            # Bagging weights are for ensembles; alone they only add noise.
            bootstrap_sampling=False,
            seed=self._seed + stream,
            **self._params,
        )


def _splitter_bytes(splitter: Any) -> int:
    if isinstance(splitter, BinnedSplitter):
        return len(splitter) * _BIN_BYTES
    stack, count = [getattr(splitter, "_root", None)], 0
    while stack:
        node = stack.pop()
        if node is not None:
            count += 1
            stack += (getattr(node, "_left", None), getattr(node, "_right", None))
    return count * _VALUE_BYTES


def _mean(leaf: Any) -> float:
    value: float = leaf.stats.mean.get()
    return value


def _cell(node: Any, scale: int, prior: float, alternates: tuple[float, ...]) -> Cell:
    """Translate a River node.

    An adaptive tree answers with the mean over the leaf and all alternate
    subtrees hanging on the path to it; it only ever keeps single leaves there
    (an alternate that splits takes its place in the tree), in the order of the path.
    """
    if not isinstance(node, DTBranch):
        if node.total_weight <= 0 and not alternates:
            return Cell(value=quantise(prior, scale))
        total = 0.0
        for value in alternates:
            total += value
        total += _mean(node)
        return Cell(
            value=quantise(total / (len(alternates) + 1), scale), weight=float(node.total_weight)
        )
    alternate = getattr(node, "_alternate_tree", None)
    if alternate is not None:
        if isinstance(alternate, DTBranch):
            raise ProgramError(
                "an adaptive tree carries an alternate that is itself a tree",
                code="program.model",
                hint="this version of River is not supported; use 0.26",
            )
        alternates = (*alternates, _mean(alternate))
    threshold, feature = getattr(node, "threshold", None), getattr(node, "feature", -1)
    children = node.children
    if threshold is None or len(children) != 2:
        raise ProgramError(
            f"a {type(node).__name__} is no comparison of a number",
            code="program.model",
            hint="only numeric features can be compiled",
        )
    left, right = children
    return Cell(
        feature=int(feature),
        threshold=_floor(threshold),
        left=_cell(left, scale, prior, alternates),
        right=_cell(right, scale, prior, alternates),
    )


def _floor(threshold: float) -> int:
    # Kept within what a program can hold; features are 32 bits wide anyway.
    return max(-(1 << 31), min((1 << 31) - 1, int(threshold // 1)))


def htr(name: str = "htr", **params: Any) -> CandidateRecipe:
    """Recipe of the Hoeffding tree regressor."""
    return CandidateRecipe(name, TreeCandidate, params)


def hatr(name: str = "hatr", **params: Any) -> CandidateRecipe:
    """Recipe of the Hoeffding adaptive tree regressor."""
    return CandidateRecipe(name, AdaptiveTreeCandidate, params)
