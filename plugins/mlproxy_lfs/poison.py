"""Models that are wrong on purpose, to show what the proxy makes of them."""

from __future__ import annotations

import bisect
import dataclasses
import enum
import random
from collections.abc import Callable

from mlproxy.proxy import Program
from mlproxy_lfs.engine import Victim
from mlproxy_lfs.policies import constant

__all__ = ("Poison", "poisoned", "poisoned_victim")

CLASSES = 3


class Poison(enum.StrEnum):
    """How a model is wrong.

    Attributes:
        RANDOM: every leaf's class and every victim policy is drawn anew each time.
        INVERTED: relocated blocks are placed as if the longest-lived died first, so
            the coldest join the hottest new ones; the victim policy that measured worst.
            (Turning both streams round would only rename the logs.)
        MYOPIC: what is cheapest now: one log for everything, greedy victims.
    """

    RANDOM = "random"
    INVERTED = "inverted"
    MYOPIC = "myopic"


def _actions(program: Program, action: Callable[[int], int]) -> Program:
    """The program with each class mapped to an action."""
    if program.cuts:
        # Classes come of cuts: the leaves get them, which one tree can hold.
        nodes = tuple(
            dataclasses.replace(n, value=action(bisect.bisect_left(program.cuts, n.value)))
            if n.feature < 0
            else n
            for n in program.nodes
        )
        return dataclasses.replace(program, nodes=nodes, roots=program.roots[:1], cuts=())
    nodes = tuple(
        dataclasses.replace(n, value=action(n.value)) if n.feature < 0 else n for n in program.nodes
    )
    return dataclasses.replace(program, nodes=nodes)


def poisoned(program: Program, how: Poison, rng: random.Random) -> Program:
    """Return what the poisoned model publishes instead of `program`."""
    gc = program.stream != 0
    if how is Poison.MYOPIC:
        return constant(program.stream, CLASSES if gc else 0)
    if how is Poison.RANDOM:
        return _actions(program, lambda _class: rng.randrange(CLASSES))
    # GC action a is log 3 + a; 5, 4, 3 are logs 2, 1, 0 of the new blocks.
    return _actions(program, lambda c: 2 * CLASSES - 1 - c % CLASSES) if gc else program


def poisoned_victim(how: Poison, worst: Victim, rng: random.Random) -> Victim:
    """Return the victim policy that the poisoned model recommends."""
    if how is Poison.MYOPIC:
        return Victim.GREEDY
    return worst if how is Poison.INVERTED else rng.choice(list(Victim))
