"""Programs: whatever the bytes, check says no or evaluation stays in bounds."""

import numpy as np

from mlproxy.errors import ProgramError
from mlproxy.proxy import Program, ProgramNode, decode_program, encode_program, eval_program

LEAF = ProgramNode(-1, 1, confidence=10)
SPLIT = ProgramNode(0, 5, 1, 2)
SEEDS = [
    encode_program(Program((LEAF,))),
    encode_program(Program((SPLIT, LEAF, ProgramNode(-1, 3)), nr_features=3, cuts=(0, 2))),
    encode_program(
        Program(
            (SPLIT, LEAF, ProgramNode(2, -7, 3, 4), LEAF, LEAF, LEAF),
            roots=(0, 5),
            nr_features=16,
            stream=1,
        )
    ),
]
ROWS = np.random.default_rng(1).integers(-(2**31), 2**31, (16, 16), dtype=np.int32)


def fuzz_one(data: bytes) -> None:
    """Decode; what decodes encodes to the same bytes and evaluates."""
    try:
        program = decode_program(data)
    except ProgramError:
        return
    assert encode_program(program) == data
    actions = eval_program(data, ROWS)
    if program.cuts:
        assert actions.min() >= 0
        assert actions.max() <= len(program.cuts)
