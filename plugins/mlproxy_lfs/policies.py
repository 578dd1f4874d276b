"""Hand-written placement policies as programs.

Actions of the user stream are logs 0.. (shortest life first); an action a of
the GC stream is log (3 + a) mod 6, so that SepBIT's log for what its first log
leaves behind (log 2) is action 5.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlproxy.proxy import Program, ProgramNode
from mlproxy_lfs.engine import GC_LOG, LOGS, Feature, log16

__all__ = ("GC", "USER", "age_split", "constant", "log_order", "sepbit", "tenant_split")

USER, GC = 0, 1
NR_FEATURES = len(Feature)
LEAF = -1


def log_order(stream: int, actions: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Actions in the order of expected lifetime: for both streams the order of the logs.

    >>> log_order(GC, np.array([5, 0, 2], np.int32)).tolist()
    [2, 3, 5]
    """
    return (actions + stream * GC_LOG) % LOGS


def _leaf(action: int) -> ProgramNode:
    return ProgramNode(feature=LEAF, value=action, confidence=1000)


def _program(stream: int, *nodes: ProgramNode) -> Program:
    return Program(nodes=nodes, nr_features=NR_FEATURES, stream=stream)


def constant(stream: int, action: int) -> Program:
    """Always the same action."""
    return _program(stream, _leaf(action))


def _steps(stream: int, feature: Feature, first: int, second: int) -> Program:
    """Action 0 up to `first`, 1 up to `second`, else 2."""
    return _program(
        stream,
        ProgramNode(feature=feature, value=first, left=1, right=2),
        _leaf(0),
        ProgramNode(feature=feature, value=second, left=3, right=4),
        _leaf(1),
        _leaf(2),
    )


def sepbit(life: int) -> dict[int, Program]:
    """SepBIT (Wang et al., FAST 2022) for a mean segment lifespan of `life` writes.

    >>> from mlproxy.proxy import eval_program
    >>> import numpy as np
    >>> rows = np.zeros((2, NR_FEATURES), np.int32)
    >>> rows[1, Feature.LIFE] = 500
    >>> eval_program(sepbit(1 << 16)[USER], rows).tolist()
    [0, 1]
    """
    short, four, sixteen = log16([life, 4 * life, 16 * life])
    user = _program(
        USER,
        ProgramNode(feature=Feature.NEW, value=0, left=1, right=4),
        ProgramNode(feature=Feature.LIFE, value=short - 1, left=2, right=3),
        _leaf(0),
        _leaf(1),
        _leaf(1),
    )
    gc = _program(
        GC,
        ProgramNode(feature=Feature.ORIGIN, value=0, left=1, right=2),
        _leaf(5),
        ProgramNode(feature=Feature.AGE, value=four - 1, left=3, right=4),
        _leaf(0),
        ProgramNode(feature=Feature.AGE, value=sixteen - 1, left=5, right=6),
        _leaf(1),
        _leaf(2),
    )
    return {USER: user, GC: gc}


def age_split(capacity: int) -> dict[int, Program]:
    """One user log; relocated blocks by age in quarters of the capacity written."""
    young, old = log16([capacity // 4, capacity])
    return {USER: constant(USER, 0), GC: _steps(GC, Feature.AGE, young, old)}


def tenant_split(capacity: int) -> dict[int, Program]:
    """Everything by the tenant's average lifetime."""
    short, long = log16([capacity // 8, capacity // 2])
    return {stream: _steps(stream, Feature.TENANT_AVG, short, long) for stream in (USER, GC)}
