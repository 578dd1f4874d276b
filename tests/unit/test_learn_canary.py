"""An update is compared with its own predecessor on recent labels."""

import dataclasses

import numpy as np
import pytest

from mlproxy.learn import Canary, Doubts
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
    """Knows both streams and has accepted a tree that splits each at 50."""
    found = Canary(nr_features=1)
    for stream in (0, 1):
        found.observe(labels(lambda v: 10 * v, stream=stream))
    found.accept("tree", both(step(50)))
    return found


def both(user, gc=None):
    """An update of both streams."""
    return {0: user, 1: dataclasses.replace(gc or user, stream=1)}


TURNED = step(50, low=1, high=0)


def test_the_first_offer_passes_and_so_does_a_like_one(canary):
    assert not canary.refuses("other", both(TURNED))
    assert not canary.refuses("tree", both(step(45)))


@pytest.mark.parametrize("hand_written", [False, True])
@pytest.mark.parametrize(
    "bad",
    [TURNED, step(50, low=0, high=0), step(50, low=5, high=4)],
    ids=["turned round", "constant", "other classes, turned"],
)
def test_an_update_that_orders_far_worse_is_refused(canary, bad, hand_written):
    assert canary.refuses("tree", both(bad), hand_written=hand_written)


@pytest.mark.parametrize("update", [both(TURNED, step(50)), both(step(50), TURNED)])
def test_one_bad_stream_is_enough(canary, update):
    """The other stream is as it was, and much better than nothing in the mean."""
    assert canary.refuses("tree", update)


def test_judging_changes_nothing(canary):
    for _ in range(3):
        assert canary.refuses("tree", both(TURNED))
    assert not canary.refuses("tree", both(step(55)))


def test_what_was_accepted_is_the_measure_for_the_next(canary):
    canary.accept("tree", both(TURNED))

    assert not canary.refuses("tree", both(step(60, low=1, high=0)))


def test_each_candidate_is_compared_with_itself(canary):
    canary.accept("line", both(TURNED))

    assert not canary.refuses("line", both(TURNED))
    assert canary.refuses("tree", both(TURNED))


def noise_alone(**options):
    """A canary that finds nothing to predict, with the tree at 50 accepted."""
    noise = np.random.default_rng(7).integers(0, 1000, 100).tolist()
    found = Canary(nr_features=1, **options)
    found.observe(labels(lambda v: noise[v]))
    found.accept("tree", {0: step(50)})
    return found


def test_where_nothing_can_be_predicted_a_model_may_change_its_mind():
    canary = noise_alone()

    assert not canary.refuses("tree", {0: step(75)})
    assert not canary.refuses("tree", {0: TURNED})


def test_a_hand_written_rule_may_not():
    """It may shift a threshold; where its decisions turn, something else is wrong."""
    canary = noise_alone()

    assert not canary.refuses("tree", {0: step(75)}, hand_written=True)
    assert canary.refuses("tree", {0: TURNED}, hand_written=True)


def test_a_turn_has_to_be_nearly_as_good():
    """Judged on labels that are the feature: step(50) goes with them to 0.87."""
    halves = Program(
        nodes=(
            ProgramNode(feature=0, value=50, left=1, right=2),
            ProgramNode(feature=0, value=25, left=3, right=4),
            ProgramNode(feature=0, value=75, left=5, right=6),
            *(ProgramNode(feature=-1, value=v, confidence=1000) for v in (2, 4, 1, 6)),
        ),
        nr_features=1,
    )
    some = Canary(nr_features=1)
    some.observe(labels(lambda v: v))
    some.accept("tree", {0: step(50)})
    # Other classes throughout, in an order that goes with the labels to 0.51 ...
    assert some.refuses("tree", {0: halves})
    # ... to 0.87 ...
    assert not some.refuses("tree", {0: step(50, low=3, high=4)})
    # ... and some that agree with most decisions: to 0.50, and to 0.38.
    assert not some.refuses("tree", {0: step(90)})
    assert some.refuses("tree", {0: step(95)})


def test_a_turn_that_orders_better_passes(canary):
    canary.accept("tree", both(TURNED))

    assert not canary.refuses("tree", both(step(50)))


def test_too_few_labels_judge_nobody():
    canary = Canary(nr_features=1, least=64)
    canary.observe(labels(lambda v: v, count=63))
    canary.accept("tree", {0: step(50)})

    assert not canary.refuses("tree", {0: TURNED})
    canary.observe(labels(lambda v: v, count=1))
    assert canary.refuses("tree", {0: TURNED})


def test_samples_are_no_labels_and_old_labels_are_forgotten():
    canary = Canary(nr_features=1, window=200)
    canary.accept("tree", {0: step(50)})
    canary.observe(labels(lambda v: v, kind=RecordType.SAMPLE))
    assert not canary.refuses("tree", {0: TURNED})

    canary.observe(labels(lambda v: -v))
    assert not canary.refuses("tree", {0: TURNED})
    canary.observe(labels(lambda v: v))
    assert canary.refuses("tree", {0: TURNED})


def test_ranks_put_actions_into_the_order_of_the_label():
    canary = Canary(nr_features=1, ranks=lambda _stream, actions: -actions)
    canary.observe(labels(lambda v: v))
    canary.accept("tree", {0: TURNED})

    assert canary.refuses("tree", {0: step(50)})


class TestDoubts:
    @staticmethod
    def alarms(verdicts, most=3, of=5):
        doubts = Doubts(most=most, of=of)
        return [i for i, v in enumerate(verdicts) if doubts.add(refused=v == "x")]

    def test_lucky_verdicts_between_do_not_clear_the_count(self):
        assert self.alarms("x.x.x") == [4]
        assert self.alarms("..xx.x") == [5]

    def test_what_is_long_ago_does_not_count(self):
        assert self.alarms("xx....x....xx....") == []

    def test_an_honest_refusal_now_and_then_is_none(self):
        assert self.alarms("...x.....x....xx......") == []

    def test_cleared_they_begin_anew(self):
        doubts = Doubts(most=2, of=3)
        doubts.add(refused=True)
        doubts.clear()
        assert not doubts.add(refused=True)
        assert doubts.add(refused=True)
