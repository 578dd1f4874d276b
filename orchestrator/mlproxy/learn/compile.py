"""From a model to an integer program.

Features are integers, so `x <= t` for a real threshold t is exactly `x <= floor(t)`;
a leaf holds round(mean * value_scale). Nothing else is rounded: a compiled tree
predicts what the River tree predicts, quantised, for every integer input.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace

from mlproxy.errors import ProgramError
from mlproxy.proxy.types import Program, ProgramNode

__all__ = (
    "MAX_DEPTH",
    "MAX_NODES",
    "MAX_TREES",
    "Cell",
    "assemble",
    "effort",
    "prune",
    "quantise",
    "step_cell",
    "with_cuts",
)

# kmod/uapi/mlproxy.h
MAX_NODES = 1024
MAX_TREES = 8
MAX_DEPTH = 24
_INT32 = (1 << 31) - 1


def quantise(value: float, scale: int) -> int:
    """The fixed-point number that a program holds for `value`.

    Raises:
        ProgramError: `program.value` when it is not finite or does not fit 32 bits.

    >>> quantise(2.5, 16)
    40
    """
    scaled = value * scale
    if not math.isfinite(scaled) or abs(scaled) > _INT32:
        raise ProgramError(
            f"a model predicts {value!r}, which no program can hold",
            code="program.value",
            hint="the candidate diverged; reset it",
        )
    return round(scaled)


@dataclass(slots=True, eq=False)
class Cell:
    """A node on the way from a model to a program.

    An inner cell has both children; a leaf has neither. `value` is the
    quantised prediction, `weight` how many labels stand behind it.
    """

    value: int = 0
    weight: float = 0.0
    feature: int = -1
    threshold: int = 0
    left: Cell | None = None
    right: Cell | None = None

    def size(self) -> int:
        """Number of nodes from here down."""
        stack, count = [self], 0
        while stack:
            cell = stack.pop()
            count += 1
            if cell.left is not None and cell.right is not None:
                stack += (cell.left, cell.right)
        return count


def _order(root: Cell) -> list[tuple[Cell, int]]:
    """All cells with their depth, parents before children, left before right."""
    out, stack = [], [(root, 0)]
    while stack:
        cell, depth = stack.pop()
        out.append((cell, depth))
        if cell.left is not None and cell.right is not None:
            stack.append((cell.right, depth + 1))
            stack.append((cell.left, depth + 1))
    return out


def _close(cell: Cell) -> None:
    """Turn an inner cell whose children are leaves into a leaf: their weighted mean."""
    left, right = cell.left, cell.right
    if left is None or right is None:
        return
    weight = left.weight + right.weight
    if weight > 0:
        mean = (left.value * left.weight + right.value * right.weight) / weight
    else:
        mean = (left.value + right.value) / 2
    cell.value, cell.weight = round(mean), weight
    cell.feature, cell.threshold, cell.left, cell.right = -1, 0, None, None


def prune(root: Cell, max_nodes: int, max_depth: int = MAX_DEPTH) -> int:
    """Cut `root` down in place until it has at most `max_nodes` and `max_depth`.

    Splits whose two leaves are equal go first (they cost nothing and change no
    prediction); then, bottom up, always the split of two leaves whose removal
    adds least squared error, w1 * w2 / (w1 + w2) * (v1 - v2)^2, ties in
    left-to-right order. That is weakest-link pruning (Breiman et al., 1984)
    by node count.

    Returns:
        How many splits were removed that did change predictions.
    """
    order = _order(root)
    for cell, _ in reversed(order):
        left, right = cell.left, cell.right
        if (
            left is not None
            and right is not None
            and left.left is None
            and right.left is None
            and left.value == right.value
        ):
            _close(cell)
    removed = 0
    order = _order(root)
    for cell, depth in reversed(order):
        if depth >= max_depth and cell.left is not None:
            _close(cell)
            removed += 1
    order = _order(root)
    size = len(order)
    if size <= max_nodes:
        return removed
    parent: dict[int, tuple[int, Cell]] = {}
    rank = {id(cell): number for number, (cell, _) in enumerate(order)}
    heap: list[tuple[float, int, Cell]] = []
    for cell, _ in order:
        if cell.left is not None and cell.right is not None:
            parent[id(cell.left)] = parent[id(cell.right)] = (rank[id(cell)], cell)
            if cell.left.left is None and cell.right.left is None:
                heap.append((_loss(cell), rank[id(cell)], cell))
    heapq.heapify(heap)
    while size > max(max_nodes, 1) and heap:
        _, _, cell = heapq.heappop(heap)
        _close(cell)
        size -= 2
        removed += 1
        above = parent.get(id(cell))
        if above is not None:
            number, up = above
            if (
                up.left is not None
                and up.right is not None
                and not (up.left.left is not None or up.right.left is not None)
            ):
                heapq.heappush(heap, (_loss(up), number, up))
    return removed


def _loss(cell: Cell) -> float:
    left, right = cell.left, cell.right
    if left is None or right is None:
        return 0.0
    weight = left.weight + right.weight
    share = left.weight * right.weight / weight if weight > 0 else 0.0
    return share * float(left.value - right.value) ** 2


def step_cell(feature: int, thresholds: list[int], values: list[int], weight: float = 1.0) -> Cell:
    """A balanced tree over one feature: `values[i]` up to and including `thresholds[i]`.

    Args:
        feature: index of the feature.
        thresholds: ascending, one fewer than `values`.
        values: quantised values.
        weight: labels behind the whole function.
    """
    if len(values) == 1:
        return Cell(value=values[0], weight=weight)
    middle = len(values) // 2
    return Cell(
        feature=feature,
        threshold=thresholds[middle - 1],
        weight=weight,
        left=step_cell(feature, thresholds[: middle - 1], values[:middle], weight / 2),
        right=step_cell(feature, thresholds[middle:], values[middle:], weight / 2),
    )


def _confidence(weight: float) -> int:
    """0..1000, half way at 50 labels."""
    return round(1000 * weight / (weight + 50)) if weight > 0 else 0


def assemble(cells: list[Cell], nr_features: int, stream: int) -> Program:
    """Lay the trees out as a program without cuts: parents before children.

    Raises:
        ProgramError: `program.size` when there are too many trees or nodes.
    """
    nodes: list[ProgramNode] = []
    roots: list[int] = []
    if not 1 <= len(cells) <= MAX_TREES:
        raise ProgramError(
            f"a program has 1..{MAX_TREES} trees, not {len(cells)}",
            code="program.size",
            hint="leave out the least important features",
        )
    for root in cells:
        order = [cell for cell, _ in _order(root)]
        base = len(nodes)
        index = {id(cell): base + number for number, cell in enumerate(order)}
        roots.append(base)
        for cell in order:
            if cell.left is None or cell.right is None:
                nodes.append(ProgramNode(-1, cell.value, confidence=_confidence(cell.weight)))
            else:
                nodes.append(
                    ProgramNode(
                        cell.feature, cell.threshold, index[id(cell.left)], index[id(cell.right)]
                    )
                )
    if len(nodes) > MAX_NODES:
        raise ProgramError(
            f"a program has at most {MAX_NODES} nodes, not {len(nodes)}",
            code="program.size",
            hint="prune the model before it is assembled",
        )
    return Program(tuple(nodes), tuple(roots), nr_features, (), stream)


def with_cuts(program: Program, cuts: tuple[int, ...]) -> Program:
    """The same program with `cuts` (fixed point, ascending)."""
    return replace(program, cuts=cuts)


def effort(program: Program) -> int:
    """Comparisons that one evaluation takes at most: the depths of all trees together."""
    depth = [0] * len(program.nodes)
    for root in program.roots:
        depth[root] = 0
    deepest = dict.fromkeys(program.roots, 0)
    owner = list(range(len(program.nodes)))
    for number, node in enumerate(program.nodes):
        if node.feature >= 0:
            for child in (node.left, node.right):
                depth[child] = depth[number] + 1
                owner[child] = owner[number]
        elif owner[number] in deepest:
            deepest[owner[number]] = max(deepest[owner[number]], depth[number])
    return sum(deepest.values())
