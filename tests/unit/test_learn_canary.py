"""An update is compared with its own predecessor on recent labels."""

import numpy as np
import pytest

from mlproxy.learn import Canary
from mlproxy.proxy import RECORD_DTYPE, Program, ProgramNode, RecordType

ROWS = 400


def step(threshold, low=0, high=1, stream=0):
    """`low` up to the threshold, else `high`."""
    return Program(
        nodes=(
            ProgramNode(feature=0, value=threshold, left=1, right=2),
            ProgramNode(feature=-1, value=low, confidence=1000),
            ProgramNode(feature=-1, value=high, confidence=1000),
        ),
        nr_features=1,
        stream=stream,
    )


def labels(relation, stream=0, kind=RecordType.LABEL, count=ROWS):
    """Records whose cost is a function of feature 0."""
    records = np.zeros(count, RECORD_DTYPE)
    records["type"] = kind
    records["stream"] = stream
    values = np.random.default_rng(1).integers(0, 100, count)
    records["features"][:, 0] = values
    records["cost"] = [relation(int(v)) for v in values]
    return records


@pytest.fixture
def canary():
    found = Canary(nr_features=1)
    found.observe(labels(lambda v: 10 * v))
    return found


def test_the_first_offer_passes_and_so_does_a_like_one(canary):
    assert not canary.refuses("tree", {0: step(50)}, accept=False)
    assert not canary.refuses("tree", {0: step(45)}, accept=False)


@pytest.mark.parametrize(
    "bad",
    [step(50, low=1, high=0), step(50, low=0, high=0), step(50, low=5, high=4)],
    ids=["turned round", "constant", "other classes, turned"],
)
def test_an_update_that_orders_far_worse_is_refused(canary, bad):
    canary.refuses("tree", {0: step(50)}, accept=False)

    assert canary.refuses("tree", {0: bad}, accept=False)


def test_what_was_refused_is_no_measure_for_the_next(canary):
    canary.refuses("tree", {0: step(50)}, accept=False)

    for _ in range(3):
        assert canary.refuses("tree", {0: step(50, low=1, high=0)}, accept=False)
    assert not canary.refuses("tree", {0: step(55)}, accept=False)


def test_each_candidate_is_compared_with_itself(canary):
    canary.refuses("tree", {0: step(50)}, accept=False)

    assert not canary.refuses("line", {0: step(50, low=1, high=0)}, accept=False)


def test_nothing_is_refused_while_nothing_acts(canary):
    canary.refuses("tree", {0: step(50)}, accept=True)

    assert not canary.refuses("tree", {0: step(50, low=1, high=0)}, accept=True)
    # ... and that one is what the next is measured by.
    assert not canary.refuses("tree", {0: step(60, low=1, high=0)}, accept=False)


def test_where_nothing_can_be_predicted_only_a_turn_of_decisions_counts():
    noise = np.random.default_rng(7).integers(0, 1000, 100).tolist()
    canary = Canary(nr_features=1, floor=0.9)
    canary.observe(labels(lambda v: noise[v] + v))
    canary.refuses("tree", {0: step(50)}, accept=False)

    assert not canary.refuses("tree", {0: step(75)}, accept=False)
    assert canary.refuses("tree", {0: step(50, low=1, high=0)}, accept=False)


def test_a_turn_that_orders_better_passes(canary):
    canary.refuses("tree", {0: step(50, low=1, high=0)}, accept=False)

    assert not canary.refuses("tree", {0: step(50)}, accept=False)


def test_too_few_labels_judge_nobody():
    canary = Canary(nr_features=1, least=64)
    canary.observe(labels(lambda v: v, count=63))
    canary.refuses("tree", {0: step(50)}, accept=False)

    assert not canary.refuses("tree", {0: step(50, low=1, high=0)}, accept=False)


def test_samples_are_no_labels_and_old_labels_are_forgotten():
    canary = Canary(nr_features=1, window=200)
    canary.observe(labels(lambda v: v, kind=RecordType.SAMPLE))
    canary.refuses("tree", {0: step(50)}, accept=False)
    assert not canary.refuses("tree", {0: step(50, low=1, high=0)}, accept=False)

    canary.observe(labels(lambda v: -v))
    canary.observe(labels(lambda v: v))
    canary.refuses("other", {0: step(50)}, accept=False)
    assert canary.refuses("other", {0: step(50, low=1, high=0)}, accept=False)


def test_ranks_put_actions_into_the_order_of_the_label():
    canary = Canary(nr_features=1, ranks=lambda _stream, actions: -actions)
    canary.observe(labels(lambda v: v))
    canary.refuses("tree", {0: step(50, low=1, high=0)}, accept=False)

    assert canary.refuses("tree", {0: step(50)}, accept=False)
