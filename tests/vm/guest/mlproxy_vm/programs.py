"""Random programs and features, as nasty as the core allows."""

from __future__ import annotations

import random
from collections.abc import Sequence

from mlproxy import _core
from mlproxy.errors import ProgramError
from mlproxy.proxy import Program, ProgramNode, check_program, encode_program

LEAST, MOST = -(2**31), 2**31 - 1
FEATURES = 16
_ODD = (LEAST, LEAST + 1, -1, 0, 1, MOST - 1, MOST)


def number(rng: random.Random) -> int:
    """32 bits: small, anything, or at an edge."""
    return rng.choice((rng.randint(-9, 9), rng.randint(LEAST, MOST), rng.choice(_ODD)))


def row(rng: random.Random, nr_features: int = FEATURES) -> list[int]:
    """Features of one decision."""
    return [number(rng) for _ in range(nr_features)]


def leaf(rng: random.Random) -> ProgramNode:
    """A leaf with anything in it."""
    return ProgramNode(-1, number(rng), confidence=rng.randint(0, 1000))


def program(rng: random.Random, nodes: int, trees: int, *, cuts: bool, stream: int = 0) -> Program:
    """A valid program with so many nodes; branches may meet again."""
    while True:
        made = [
            ProgramNode(
                rng.randrange(FEATURES),
                number(rng),
                *(rng.randint(i + 1 + i // 4, min(nodes - 1, 2 * i + 4)) for _ in "lr"),
            )
            if i < (nodes - 1) // 2
            else leaf(rng)
            for i in range(nodes)
        ]
        roots = (0, *(rng.randrange(nodes) for _ in range(trees - 1)))
        limits = tuple(sorted({number(rng) for _ in range(rng.randint(1, 8))})) if cuts else ()
        one = Program(tuple(made), roots, FEATURES, limits, stream)
        try:
            check_program(one)
        except ProgramError:  # too deep
            continue
        return one


def chain(rng: random.Random, depth: int, *, stream: int = 0) -> Program:
    """A tree with a way of `depth` comparisons, most of which are taken by most features."""
    laid: list[ProgramNode] = []
    for _ in range(depth):
        at, usual = len(laid), rng.choice((MOST, MOST - 1, 10**9))
        laid += [ProgramNode(rng.randrange(FEATURES), usual, at + 2, at + 1), leaf(rng)]
    return Program((*laid, leaf(rng)), (0,), FEATURES, (), stream)


def full(rng: random.Random, depth: int, actions: int, nr_features: int) -> Program:
    """A whole binary tree over features of 0..999; leaves 0..actions - 1."""
    inner = 2**depth - 1
    made = [
        ProgramNode(rng.randrange(nr_features), rng.randrange(1000), 2 * i + 1, 2 * i + 2)
        for i in range(inner)
    ]
    made += [ProgramNode(-1, rng.randrange(actions), confidence=500) for _ in range(inner + 1)]
    return Program(tuple(made), (0,), nr_features)


def evaluate(one: Program, features: Sequence[int]) -> tuple[int, int]:
    """What the core says: action, confidence."""
    ffi = _core.ffi
    data = encode_program(one)
    aligned = ffi.new("__u64[]", (len(data) + 7) // 8)
    ffi.memmove(aligned, data, len(data))
    values, confidence = ffi.new("__s32[16]", list(features)), ffi.new("__u32 *")
    action: int = _core.lib.mlp_program_eval(aligned, values, confidence)
    return action, confidence[0]


def deep(rng: random.Random, depth: int, actions: int, nr_features: int) -> Program:
    """As `full`, for any depth: a level has 64 nodes at the most, so ways meet again."""
    widths = [min(2**level, 64) for level in range(depth + 1)]
    starts = [sum(widths[:level]) for level in range(depth + 1)]
    made = [
        ProgramNode(
            rng.randrange(nr_features),
            rng.randrange(1000),
            *(starts[level + 1] + (2 * i + side) % widths[level + 1] for side in (0, 1)),
        )
        for level in range(depth)
        for i in range(widths[level])
    ]
    made += [ProgramNode(-1, rng.randrange(actions), confidence=500) for _ in range(widths[depth])]
    return Program(tuple(made), (0,), nr_features)
