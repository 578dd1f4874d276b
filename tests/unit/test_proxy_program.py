"""Programs: codec, check and evaluation, against a plain Python walk."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproxy.errors import ProgramError
from mlproxy.proxy import (
    InProcessProxy,
    Kind,
    Program,
    ProgramNode,
    ProxyConfig,
    Recommendation,
    Reject,
    check_program,
    decode_program,
    encode_program,
    eval_program,
)

S32 = st.integers(-(2**31), 2**31 - 1)
LEAF = ProgramNode(-1, 1, confidence=500)


def walk(program, row):
    total = 0
    for root in program.roots:
        node = program.nodes[root]
        while node.feature >= 0:
            node = program.nodes[node.left if row[node.feature] <= node.value else node.right]
        total += node.value
    if program.cuts:
        return sum(total > cut for cut in program.cuts)
    return max(-(2**31), min(2**31 - 1, total))


@st.composite
def programs(draw):
    features = draw(st.integers(1, 16))
    nodes, roots = [], []
    for _ in range(draw(st.integers(1, 8))):
        roots.append(len(nodes))
        pending = [(None, False, 0)]
        while pending:
            parent, is_right, depth = pending.pop(0)
            index = len(nodes)
            if depth < 5 and draw(st.booleans()):
                nodes.append(ProgramNode(draw(st.integers(0, features - 1)), draw(S32)))
                pending += [(index, False, depth + 1), (index, True, depth + 1)]
            else:
                nodes.append(ProgramNode(-1, draw(S32), confidence=draw(st.integers(0, 1000))))
            if parent is not None:
                side = {"right": index} if is_right else {"left": index}
                nodes[parent] = dataclasses.replace(nodes[parent], **side)
    cuts = tuple(sorted(draw(st.sets(S32, max_size=8))))
    return Program(tuple(nodes), tuple(roots), features, cuts, draw(st.integers(0, 3)))


@settings(max_examples=150, deadline=None)
@given(programs(), st.data())
def test_codec_and_evaluation_agree_with_a_plain_walk(program, data):
    assert decode_program(encode_program(program)) == program
    thresholds = [n.value for n in program.nodes if n.feature >= 0]
    cells = S32 if not thresholds else st.one_of(S32, st.sampled_from(thresholds))
    size = program.nr_features
    rows = data.draw(st.lists(st.lists(cells, min_size=size, max_size=size), max_size=8))
    features = np.array(rows, dtype=np.int32).reshape(-1, size)
    assert eval_program(program, features).tolist() == [walk(program, r) for r in rows]


def broken(**changes):
    good = Program((ProgramNode(0, 0, 1, 2), LEAF, LEAF), nr_features=2)
    return dataclasses.replace(good, **changes)


def chain(depth):
    nodes = []
    for _ in range(depth):
        at = len(nodes)
        nodes += [ProgramNode(0, 0, at + 1, at + 2), LEAF]
    return Program((*nodes, LEAF), nr_features=1)


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (broken(nodes=()), Reject.SIZE),
        (broken(nodes=(LEAF,) * 1025), Reject.SIZE),
        (broken(roots=()), Reject.SIZE),
        (broken(roots=(3,)), Reject.INDEX),
        (broken(nr_features=17), Reject.INDEX),
        (broken(stream=4), Reject.INDEX),
        (broken(nr_features=0), Reject.INDEX),
        (broken(nodes=(ProgramNode(2, 0, 1, 2), LEAF, LEAF)), Reject.INDEX),
        (broken(nodes=(ProgramNode(0, 0, 1, 3), LEAF, LEAF)), Reject.INDEX),
        (broken(nodes=(ProgramNode(0, 0, 0, 2), LEAF, LEAF)), Reject.CYCLE),
        (broken(nodes=(LEAF, ProgramNode(0, 0, 2, 1), LEAF)), Reject.CYCLE),
        (broken(nodes=(LEAF, ProgramNode(0, 0, 0, 2), LEAF)), Reject.CYCLE),
        (broken(nodes=(ProgramNode(-1, 0, confidence=1001),)), Reject.LEAF),
        (broken(nodes=(ProgramNode(-1, 0, 1), LEAF)), Reject.RESERVED),
        (broken(nodes=(ProgramNode(0, 0, 1, 2, confidence=1), LEAF, LEAF)), Reject.RESERVED),
        (broken(cuts=(5, 4)), Reject.RANGE),
        (broken(cuts=(5, 5)), Reject.RANGE),
        (chain(25), Reject.DEPTH),
    ],
)
def test_what_is_wrong_is_named(program, why):
    with pytest.raises(ProgramError) as caught:
        check_program(program)
    assert caught.value.code == "program.invalid"
    assert caught.value.context["reject"] is why


def test_depth_up_to_the_limit_is_fine_and_shared_children_are():
    check_program(chain(24))
    check_program(Program((ProgramNode(0, 0, 1, 1), LEAF)))


def test_wrong_lengths_and_reserved_bytes_are_refused():
    data = encode_program(broken())
    for wrong in (b"", data[:-1], data + b"\0", data[:63]):
        with pytest.raises(ProgramError) as caught:
            check_program(wrong)
        assert caught.value.context["reject"] is Reject.SIZE
    for offset in (12, 18, 34, 76):  # header, unused root, unused cut, node
        spoilt = bytearray(data)
        spoilt[offset] = 1
        with pytest.raises(ProgramError) as caught:
            check_program(bytes(spoilt))
        assert caught.value.context["reject"] is Reject.RESERVED, offset


def submit(program, **changes):
    settings_ = {"name": "p", "kind": Kind.PROGRAM, "nr_features": 2, "max": 1} | changes
    proxy = InProcessProxy(ProxyConfig(**settings_), capacity=0)
    proxy.start(0)
    return proxy.submit(Recommendation(Kind.PROGRAM, 1, 9, 1, 1, program=program), 1)


def test_a_proxy_takes_only_programs_whose_every_result_it_allows():
    two_trees = Program((LEAF, LEAF), roots=(0, 1))
    assert submit(broken()) is Reject.NONE
    assert submit(two_trees) is Reject.LEAF
    assert submit(two_trees, max=2) is Reject.NONE
    assert submit(two_trees, min=-1, max=1) is Reject.LEAF
    assert submit(dataclasses.replace(two_trees, cuts=(7,))) is Reject.NONE
    assert submit(dataclasses.replace(two_trees, cuts=(7, 8))) is Reject.LEAF
    assert submit(broken(nr_features=3)) is Reject.INDEX
    assert submit(broken(stream=1)) is Reject.INDEX
    assert submit(broken(stream=1), nr_streams=2) is Reject.NONE
    assert submit(broken(), max_nodes=2) is Reject.SIZE
    # An unreachable leaf is no result.
    assert submit(Program((LEAF, ProgramNode(-1, 99)))) is Reject.NONE


def test_numbers_that_do_not_fit_and_wrong_features_are_named():
    for program in (broken(roots=(0,) * 9), broken(nr_features=70000), broken(cuts=(2**31,))):
        with pytest.raises(ProgramError) as caught:
            encode_program(program)
        assert caught.value.code == "program.encode"
    for features in (
        np.zeros((3, 1), np.int32),
        np.zeros((3, 2), np.int64),
        np.zeros(2, np.int32),
    ):
        with pytest.raises(ProgramError) as caught:
            eval_program(broken(), features)
        assert caught.value.code == "program.features"


def test_strided_and_wide_rows_are_read_rightly():
    features = np.arange(40, dtype=np.int32).reshape(10, 4)[::2, 1:]
    program = Program((ProgramNode(0, 16, 1, 2), ProgramNode(-1, 3), ProgramNode(-1, 4)))
    assert eval_program(program, features).tolist() == [3, 3, 4, 4, 4]
