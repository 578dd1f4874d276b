"""Models that are wrong on purpose, to show what the proxy makes of them."""

from __future__ import annotations

import bisect
import dataclasses
import enum
import random
from collections.abc import Callable

from mlproxy.proxy import Program, ProgramNode
from mlproxy_lfs.engine import Feature, Victim
from mlproxy_lfs.policies import constant

__all__ = ("Poison", "comb", "poisoned", "poisoned_victim")

CLASSES = 3
COMB_TEETH, COMB_STEP = 80, 4
"""Sixteenths of log2 that go to one log."""


class Poison(enum.StrEnum):
    """How a model is wrong.

    Attributes:
        RANDOM: every leaf's class and every victim policy is drawn anew each time.
        INVERTED: relocated blocks are placed as if the longest-lived died first, so
            the coldest join the hottest new ones; the victim policy that measured worst.
            (Turning both streams round would only rename the logs.)
        MYOPIC: what is cheapest now: one log for everything, greedy victims.
        SHUFFLED: neighbouring lifetimes are dealt out to three logs in turn, new and
            relocated blocks alike; the victim policy that measured worst. Of the four
            this one does harm on every stream (docs/explanation/credit-in-a-shared-pool.md).
    """

    RANDOM = "random"
    INVERTED = "inverted"
    MYOPIC = "myopic"
    SHUFFLED = "shuffled"


def comb(stream: int) -> Program:
    """A balanced tree that deals lifetimes (GC: ages) out to the logs 0, 1, 2 in turn."""
    feature = Feature.AGE if stream else Feature.LIFE
    first = CLASSES if stream else 0
    nodes: list[ProgramNode] = []

    def build(low: int, high: int) -> int:
        at = len(nodes)
        if low == high:
            nodes.append(ProgramNode(-1, first + low % CLASSES, confidence=1000))
            return at
        nodes.append(ProgramNode(-1, 0))
        middle = (low + high) // 2
        left, right = build(low, middle), build(middle + 1, high)
        nodes[at] = ProgramNode(feature, middle * COMB_STEP, left, right)
        return at

    build(0, COMB_TEETH)
    return Program(tuple(nodes), nr_features=len(Feature), stream=stream)


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
    if how is Poison.SHUFFLED:
        return comb(program.stream)
    if how is Poison.RANDOM:
        return _actions(program, lambda _class: rng.randrange(CLASSES))
    # GC action a is log 3 + a; 5, 4, 3 are logs 2, 1, 0 of the new blocks.
    return _actions(program, lambda c: 2 * CLASSES - 1 - c % CLASSES) if gc else program


def poisoned_victim(how: Poison, worst: Victim, rng: random.Random) -> Victim:
    """Return the victim policy that the poisoned model recommends."""
    if how is Poison.MYOPIC:
        return Victim.GREEDY
    return worst if how in (Poison.INVERTED, Poison.SHUFFLED) else rng.choice(list(Victim))
