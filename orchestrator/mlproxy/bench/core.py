"""`mlproxy bench core`: what a decision, a published record and a read one cost.

Everything is timed side by side with things whose cost a reader knows (a clock
read, a copy of 64 bytes), because machines differ and their speed wanders.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from mlproxy import _core
from mlproxy.proxy import (
    InProcessProxy,
    Kind,
    Mode,
    Program,
    ProgramNode,
    ProxyConfig,
    Reason,
    Recommendation,
    Reject,
)

__all__ = ("NATIVE_KEYS", "deep_program", "run_core_bench")

_DEPTH: Final = 12
_COMPLETE: Final = 6
_FEATURES: Final = 8
_ROWS: Final = 4096
_CAPACITY: Final = 65536
_FEATURE_MAX: Final = 1 << 16

NATIVE_KEYS: Final = {
    "decide_program_ns": "decide_program",
    "ring_publish_ns": "ring_publish",
    "clock_read_ns": "clock_read",
    "memcpy64_ns": "memcpy64",
}


def deep_program(*, depth: int = _DEPTH, max_nodes: int = 1023, seed: int = 1) -> Program:
    """Return a random tree of which most walks are `depth` long.

    A complete tree of 12 levels would need 8,191 nodes and a program holds
    1,024. So it is complete for six levels, with splits in the middle; below,
    each subtree is a chain that one sixteenth of the walks leave per level.

    Args:
        depth: inner nodes on the longest path.
        max_nodes: nodes to use at most.
        seed: for features and thresholds.

    Example:
        >>> program = deep_program()
        >>> len(program.nodes) <= 1023
        True
    """
    rng = np.random.default_rng(seed)
    nodes: list[ProgramNode] = []
    # (parent, is_right, level); breadth first, so children lie ahead.
    pending: list[tuple[int, bool, int]] = [(-1, False, 0)]
    while pending:
        parent, is_right, level = pending.pop(0)
        index = len(nodes)
        room = len(nodes) + len(pending) + 3 <= max_nodes
        leaves = level > _COMPLETE and is_right
        if level < depth and room and not leaves:
            low, high = _FEATURE_MAX // 4, 3 * _FEATURE_MAX // 4
            feature, threshold = int(rng.integers(_FEATURES)), int(rng.integers(low, high))
            if level >= _COMPLETE:
                threshold = _FEATURE_MAX - _FEATURE_MAX // 16
            nodes.append(ProgramNode(feature, threshold))
            pending += [(index, False, level + 1), (index, True, level + 1)]
        else:
            nodes.append(ProgramNode(-1, int(rng.integers(2)), confidence=int(rng.integers(1001))))
        if parent >= 0:
            old = nodes[parent]
            left, right = (old.left, index) if is_right else (index, old.right)
            nodes[parent] = ProgramNode(old.feature, old.value, left, right)
    return Program(tuple(nodes), nr_features=_FEATURES)


def _mean_depth(program: Program, features: np.ndarray[Any, Any]) -> float:
    steps = 0
    for row in features:
        node = program.nodes[0]
        while node.feature >= 0:
            node = program.nodes[node.left if row[node.feature] <= node.value else node.right]
            steps += 1
    return steps / len(features)


def _proxy() -> InProcessProxy:
    config = ProxyConfig(
        name="bench", kind=Kind.PROGRAM, nr_features=_FEATURES, max=1, share_trusted=1_000_000
    )
    proxy = InProcessProxy(config, capacity=_CAPACITY)
    proxy.start(0)
    proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
    return proxy


def _native(repeats: int, rounds: int) -> tuple[list[dict[str, float]], float]:
    ffi, lib = _core.ffi, _core.lib
    program = deep_program()
    features = np.random.default_rng(2).integers(
        0, _FEATURE_MAX, size=(_ROWS, _FEATURES), dtype=np.int32
    )
    proxy = _proxy()
    submitted = proxy.submit(Recommendation(Kind.PROGRAM, 1, 1 << 40, 1, 1, program=program), 0)
    if submitted is not Reject.NONE:
        raise AssertionError(submitted)
    out = ffi.new("struct mlpy_bench *")
    pointer = ffi.cast("struct mlp_proxy *", proxy.pointer)
    data = ffi.cast("__s32 *", ffi.from_buffer(features))
    lib.mlpy_bench(pointer, data, _ROWS, _FEATURES, 4, out)  # warms caches and clock
    rows = []
    for _ in range(repeats):
        lib.mlpy_bench(pointer, data, _ROWS, _FEATURES, rounds, out)
        rows.append({key: float(getattr(out, name)) for key, name in NATIVE_KEYS.items()})
    return rows, _mean_depth(program, features)


def _ring_to_numpy(repeats: int, passes: int) -> list[float]:
    """Records per second: peek, read every column's bytes, consume; filling not counted."""
    ffi, lib = _core.ffi, _core.lib
    proxy = _proxy()
    pointer = ffi.cast("struct mlp_proxy *", proxy.pointer)
    zeros = np.zeros((1, _FEATURES), dtype=np.int32)
    data = ffi.cast("__s32 *", ffi.from_buffer(zeros))
    out = ffi.new("struct mlpy_bench *")
    rates = []
    checksum = 0
    for _ in range(repeats):
        spent, count = 0, 0
        for _ in range(passes):
            lib.mlpy_bench(pointer, data, 1, _FEATURES, _CAPACITY // 4096, out)
            before = time.perf_counter_ns()
            views = proxy.peek()
            for view in views:
                checksum ^= int(view["seq"][-1])
                checksum += int(view["cost"].sum()) + int(view["features"].sum())
            seen = sum(len(view) for view in views)
            torn = proxy.consume(seen)
            spent += time.perf_counter_ns() - before
            count += seen - torn
        rates.append(count * 1e9 / spent)
    return rates


def run_core_bench(
    *, quick: bool = False, extra: Sequence[Callable[[], dict[str, float]]] = ()
) -> dict[str, Any]:
    """Measure the core on this machine.

    Args:
        quick: fewer and shorter repeats (about a second instead of ten).
        extra: further measurements (`learn_rate_ratio`, `idle_cpu_percent`,
            `rss_mib`, ...); each returns summary keys.

    Returns:
        `rows` (one per repeat: the natively timed nanoseconds per call and the
        records read per second), `summary` (their medians, and what `extra`
        brought) and `machine`.
    """
    repeats, rounds, passes = (5, 20, 4) if quick else (15, 200, 30)
    native, depth = _native(repeats, rounds)
    rates = _ring_to_numpy(repeats, passes)
    rows = [
        {"repeat": i, **row, "ring_to_numpy_per_s": rate}
        for i, (row, rate) in enumerate(zip(native, rates, strict=True))
    ]
    summary: dict[str, float] = {
        key: round(statistics.median(row[key] for row in rows), 2)
        for key in (*NATIVE_KEYS, "ring_to_numpy_per_s")
    }
    summary["program_mean_depth"] = round(depth, 2)
    summary["program_max_depth"] = _DEPTH
    for measure in extra:
        summary.update(measure())
    machine = {"machine": platform.machine(), "python": platform.python_version()}
    return {"bench": "core", "quick": quick, "machine": machine, "rows": rows, "summary": summary}
