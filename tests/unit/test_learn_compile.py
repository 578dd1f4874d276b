"""A compiled model answers what the River model answers, bit for bit."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproxy.errors import ProgramError
from mlproxy.learn import DecisionSpec, FeatureSpec, StreamSpec
from mlproxy.learn.compile import (
    MAX_NODES,
    Cell,
    assemble,
    effort,
    prune,
    quantise,
    step_cell,
    with_cuts,
)
from mlproxy.learn.trees import AdaptiveTreeCandidate, TreeCandidate
from mlproxy.proxy import Program, ProgramNode, check_program, eval_program
from mlproxy.testing.learn import evaluate, program_sum

FEATURES = tuple(FeatureSpec(f"f{n}", 0, 600) for n in range(4))
SPEC = DecisionSpec("d", (StreamSpec("s", FEATURES, prior=11.5),))


def stream(seed: int, count: int, *, drift_at: int = 1 << 60):
    """Integer features and a label that depends on them; another way from `drift_at` on."""
    rng = random.Random(seed)
    for number in range(count):
        x = {n: rng.randrange(0, 600) for n in range(4)}
        low, high = (4.0, 20.0) if number < drift_at else (24.0, 2.0)
        y = (high if x[0] > 300 else low) + x[1] / 100 + rng.gauss(0, 1)
        yield x, min(32.0, max(0.0, y))


def random_rows(seed: int, count: int = 400) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-50, 700, (count, 4), dtype=np.int32)
    rows[: count // 4] = rng.integers(-(1 << 31), (1 << 31) - 1, (count // 4, 4))
    return rows


def assert_same(candidate, rows: np.ndarray) -> Program:
    """River's quantised prediction == the core's answer == the plain evaluator's."""
    compiled = candidate.compile(0)
    assert compiled.pruned == 0
    program = compiled.program
    check_program(program)
    wanted = [
        quantise(candidate.predict_one(0, dict(enumerate(row))), SPEC.value_scale)
        for row in rows.tolist()
    ]
    assert eval_program(program, rows).tolist() == wanted
    assert [program_sum(program, row) for row in rows.tolist()] == wanted
    return program


@pytest.mark.parametrize("bins", [0, 64, 256])
@pytest.mark.parametrize("seed", [1, 2])
def test_hoeffding_tree_is_compiled_exactly(seed: int, bins: int) -> None:
    candidate = TreeCandidate(SPEC, seed, bins=bins)
    sizes = set()
    for number, (x, y) in enumerate(stream(seed, 2400)):
        candidate.learn_one(0, x, y, 1.0)
        if number % 600 == 7:
            sizes.add(len(assert_same(candidate, random_rows(number)).nodes))
    assert max(sizes) > 5


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_adaptive_tree_is_compiled_exactly_through_a_drift(seed: int) -> None:
    candidate = AdaptiveTreeCandidate(SPEC, seed)
    rows = random_rows(seed)
    with_alternate = 0
    for number, (x, y) in enumerate(stream(seed, 4500, drift_at=2500)):
        candidate.learn_one(0, x, y, 1.0)
        if number % 250 == 0 or (number > 2500 and number % 40 == 0):
            assert_same(candidate, rows)
            with_alternate += any(
                getattr(node, "_alternate_tree", None) is not None
                for node in candidate._models[0]._root.iter_dfs()
            )
    # The mean over leaf and alternates was part of what was compared.
    assert with_alternate > 0
    assert candidate._models[0].n_alternate_trees > 0


def test_before_the_first_label_the_prior_is_the_program() -> None:
    for kind in (TreeCandidate, AdaptiveTreeCandidate):
        program = assert_same(kind(SPEC, 1), random_rows(1, 20))
        assert program.nodes == (ProgramNode(-1, round(11.5 * 1024)),)


def test_depth_limit_of_the_tree_is_the_depth_of_the_program() -> None:
    candidate = TreeCandidate(SPEC, 1, max_depth=2, tau=0.5, grace_period=50)
    for x, y in stream(5, 3000):
        candidate.learn_one(0, x, y, 1.0)
    assert effort(assert_same(candidate, random_rows(9))) == 2


def test_tree_over_the_node_limit_is_pruned_the_same_way_every_time() -> None:
    candidate = TreeCandidate(SPEC, 1, max_nodes=15, tau=0.5, grace_period=50)
    for x, y in stream(5, 3000):
        candidate.learn_one(0, x, y, 1.0)
    compiled, again = candidate.compile(0), candidate.compile(0)
    assert candidate._models[0].n_nodes > 15
    assert compiled.pruned > 0
    assert len(compiled.program.nodes) <= 15
    assert compiled == again
    check_program(compiled.program)
    # What is left is the best of it: still far better than one constant.
    rows = np.array([[x[n] for n in range(4)] for x, _ in stream(6, 500)], dtype=np.int32)
    labels = np.array([y for _, y in stream(6, 500)])
    answer = eval_program(compiled.program, rows) / SPEC.value_scale
    assert np.mean((answer - labels) ** 2) < 0.2 * np.var(labels)


@pytest.mark.parametrize("bins", [0, 256])
def test_the_estimate_of_the_memory_is_about_right(bins: int) -> None:
    labels = list(stream(3, 1500))
    for x, y in labels[:20]:
        TreeCandidate(SPEC, 1, bins=bins).learn_one(0, x, y, 1.0)
    candidate = TreeCandidate(SPEC, 1, bins=bins)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for x, y in labels:
            candidate.learn_one(0, x, y, 1.0)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert candidate.size().bytes == pytest.approx(used, rel=0.5)
    assert candidate.size().nodes == candidate._models[0].n_nodes


def leaf(value: int, weight: float) -> Cell:
    return Cell(value=value, weight=weight)


def fork(left: Cell, right: Cell, feature: int = 0, threshold: int = 0) -> Cell:
    return Cell(feature=feature, threshold=threshold, left=left, right=right)


def test_pruning_removes_the_weakest_split_first() -> None:
    root = fork(fork(leaf(0, 10), leaf(4, 30)), fork(leaf(10, 1), leaf(100, 1)), threshold=5)
    assert prune(root, 5) == 1
    program = assemble([root], 1, 0)
    # The pair 0/4 costs 10 * 30 / 40 * 16 = 120, the pair 10/100 costs 4050.
    assert [n.value for n in program.nodes if n.feature < 0] == [3, 10, 100]


def test_equal_leaves_are_merged_without_counting_as_pruned() -> None:
    root = fork(fork(leaf(7, 1), leaf(7, 3)), fork(leaf(7, 1), leaf(7, 0)))
    assert prune(root, MAX_NODES) == 0
    assert root.left is None
    assert root.value == 7


def test_too_deep_a_tree_is_closed_at_the_limit() -> None:
    root = leaf(0, 1)
    for number in range(1, 40):
        root = fork(leaf(number, 1), root, threshold=number)
    assert prune(root, MAX_NODES) > 0
    program = assemble([root], 1, 0)
    check_program(program)
    assert effort(program) == 24


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
def test_no_program_holds_what_is_not_a_number(value: float) -> None:
    with pytest.raises(ProgramError, match=r"program\.value"):
        quantise(value, 1024)


def test_too_many_trees_or_nodes_are_refused() -> None:
    with pytest.raises(ProgramError, match=r"program\.size"):
        assemble([leaf(0, 1)] * 9, 1, 0)
    big = step_cell(0, list(range(599)), list(range(600)))
    with pytest.raises(ProgramError, match=r"program\.size"):
        assemble([big], 1, 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-1000, 1000), min_size=1, max_size=40, unique=True),
    st.lists(st.integers(-1100, 1100), min_size=1, max_size=30),
)
def test_step_function_has_each_value_up_to_its_threshold(
    thresholds: list[int], xs: list[int]
) -> None:
    thresholds.sort()
    program = assemble([step_cell(0, thresholds, list(range(len(thresholds) + 1)))], 1, 0)
    check_program(program)
    rows = np.array(xs, dtype=np.int32)[:, None]
    wanted = [sum(x > threshold for threshold in thresholds) for x in xs]
    assert eval_program(program, rows).tolist() == wanted
    assert effort(program) <= len(thresholds).bit_length()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 8), st.integers(0, 8))
def test_core_and_plain_evaluator_agree_on_random_programs(
    seed: int, trees: int, cuts: int
) -> None:
    rng = random.Random(seed)

    def grow(depth: int) -> Cell:
        if depth == 0 or rng.random() < 0.2:
            return leaf(rng.randrange(-100, 100), rng.random() * 100)
        return fork(grow(depth - 1), grow(depth - 1), rng.randrange(4), rng.randrange(-90, 90))

    program = with_cuts(
        assemble([grow(4) for _ in range(trees)], 4, 0),
        tuple(sorted(rng.sample(range(-300, 300), cuts))),
    )
    check_program(program)
    rows = np.random.default_rng(seed).integers(-100, 100, (64, 4), dtype=np.int32)
    assert eval_program(program, rows).tolist() == [evaluate(program, r) for r in rows.tolist()]
