"""Models that are wrong on purpose, to show what the proxy makes of them."""

from __future__ import annotations

import dataclasses
import enum
import random

from mlproxy.proxy import Program
from mlproxy_lfs.engine import Victim
from mlproxy_lfs.policies import constant

__all__ = ("Poison", "poisoned", "poisoned_victim")

CLASSES = 3


class Poison(enum.StrEnum):
    """How a model is wrong.

    Attributes:
        RANDOM: the classes of the leaves and the victim policy are drawn anew each time.
        INVERTED: longest lifetime first, and the victim policy that measured worst.
        MYOPIC: what makes the next cleaning cheap: one log, greedy victims.
    """

    RANDOM = "random"
    INVERTED = "inverted"
    MYOPIC = "myopic"


def poisoned(program: Program, how: Poison, rng: random.Random) -> Program:
    """Return what the poisoned model publishes instead of `program`."""
    if how is Poison.MYOPIC:
        return constant(program.stream, 0 if program.stream == 0 else CLASSES)
    order = list(range(CLASSES))
    if how is Poison.INVERTED:
        order.reverse()
    if program.cuts and how is Poison.INVERTED:
        # The sum's sign is turned, and with it the order of the classes.
        nodes = tuple(
            dataclasses.replace(n, value=-n.value) if n.feature < 0 else n for n in program.nodes
        )
        cuts = tuple(sorted(-cut for cut in program.cuts))
        return dataclasses.replace(program, nodes=nodes, cuts=cuts)
    nodes = tuple(
        dataclasses.replace(
            n, value=rng.randrange(CLASSES) if how is Poison.RANDOM else order[n.value % CLASSES]
        )
        if n.feature < 0
        else n
        for n in program.nodes
    )
    if len(program.roots) > 1:
        # A sum of several trees has no classes in its leaves: keep the first tree.
        return dataclasses.replace(program, nodes=nodes, roots=program.roots[:1], cuts=())
    return dataclasses.replace(program, nodes=nodes, cuts=())


def poisoned_victim(how: Poison, worst: Victim, rng: random.Random) -> Victim:
    """Return the victim policy that the poisoned model recommends."""
    if how is Poison.MYOPIC:
        return Victim.GREEDY
    return worst if how is Poison.INVERTED else rng.choice(list(Victim))
