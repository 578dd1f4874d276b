"""What candidates offer, and which updates may not act."""

import random

import numpy as np
import pytest

from mlproxy.learn import Policy
from mlproxy.proxy import RECORD_DTYPE, RecordType
from mlproxy_lfs import policies
from mlproxy_lfs.engine import Feature
from mlproxy_lfs.offers import PROBATION, Offers
from mlproxy_lfs.poison import Poison, poisoned

LIFE = 1 << 16


class FakeLearner:
    """Has one model, whose programs a test sets."""

    def __init__(self):
        self.candidates = ("tree", "bandit")
        self.made = {}

    def programs(self, name):
        assert name == "tree"
        return self.made

    preview = programs


class World:
    def __init__(self):
        self.learner = FakeLearner()
        self.poison = None
        self.life = LIFE
        rule = Policy("sepbit", lambda: policies.sepbit(self.life))
        self.offers = Offers(
            self.learner,
            [rule],
            sepbit_life=lambda: self.life,
            poison=lambda: self.poison,
            rng=random.Random(1),
        )

    def observe(self, kind=RecordType.LABEL, turned=False, count=600):
        """Blocks that live as long as they did, or the other way round."""
        records = np.zeros(2 * count, RECORD_DTYPE)
        records["type"] = kind
        records["stream"][count:] = policies.GC
        values = np.random.default_rng(3).integers(0, 400, 2 * count)
        for feature in (Feature.LIFE, Feature.AGE, Feature.TENANT_AVG):
            records["features"][:, feature] = values
        records["features"][:, Feature.ORIGIN] = np.arange(2 * count) % 3
        records["cost"] = -values if turned else values
        self.offers.observe(records)


@pytest.fixture
def world():
    made = World()
    made.observe()
    made.observe(RecordType.SAMPLE)
    return made


def split(first, second, stream):
    return policies._steps(stream, Feature.AGE if stream else Feature.LIFE, first, second)


def good(at=100):
    return {s: split(at, 2 * at, s) for s in (policies.USER, policies.GC)}


def test_a_model_without_programs_offers_sepbits_and_one_stream_at_a_time(world):
    assert world.offers.refresh(None)["tree"] == policies.sepbit(LIFE)
    world.learner.made = {policies.USER: good()[policies.USER]}
    offered = world.offers.refresh(None)["tree"]
    assert offered[policies.USER] == good()[policies.USER]
    assert offered[policies.GC] == policies.sepbit(LIFE)[policies.GC]
    assert world.offers.programs("tree") == offered


def test_a_lopsided_program_gives_way_to_sepbits(world):
    world.learner.made = {policies.USER: policies.constant(policies.USER, 1)}
    assert world.offers.refresh(None)["tree"] == policies.sepbit(LIFE)


@pytest.mark.parametrize("how", [how for how in Poison if how is not Poison.RANDOM])
@pytest.mark.parametrize("name", ["tree", "sepbit"])
def test_a_poisoned_update_is_refused_and_its_predecessor_stays_the_measure(world, how, name):
    world.learner.made = good()
    world.offers.refresh(None)
    world.poison = how
    before = world.offers.programs(name)
    assert world.offers.would_be_refused(name)
    made = world.offers.refresh(name)
    assert world.offers.refused(name)
    assert name not in made
    assert world.offers.programs(name) == before
    world.poison = None
    assert not world.offers.would_be_refused(name)
    assert world.offers.refresh(name)[name] == before
    assert not world.offers.refused(name)


def test_only_what_acts_is_held_back(world):
    """What is wrong on its twin alone is measured there."""
    world.learner.made = good()
    world.offers.refresh("sepbit")
    world.poison = Poison.INVERTED
    made = world.offers.refresh("sepbit")
    assert world.offers.refused("sepbit")
    assert not world.offers.refused("tree")
    assert made["tree"] != good()
    assert "sepbit" not in made


def test_a_new_champion_is_judged_by_what_it_was_before(world):
    """All turn bad at once, and the title passes on: the new one is no way out."""
    world.learner.made = good()
    world.offers.refresh("sepbit")
    world.poison = Poison.INVERTED
    for _ in range(PROBATION - 1):
        world.offers.refresh("sepbit")
        assert world.offers.would_be_refused("tree")
    world.offers.refresh("tree")
    assert world.offers.refused("tree")


def test_what_stays_as_it_is_on_its_twin_is_accepted_in_the_end(world):
    world.learner.made = good()
    world.offers.refresh("sepbit")
    world.learner.made = {s: poisoned(p, Poison.INVERTED, None) for s, p in good().items()}
    for _ in range(PROBATION):
        assert world.offers.would_be_refused("tree")
        assert world.offers.refresh("sepbit")["tree"] == world.learner.made
    assert not world.offers.would_be_refused("tree")
    world.offers.refresh("tree")
    assert not world.offers.refused("tree")


@pytest.mark.parametrize("name", ["tree", "sepbit"])
def test_most_of_what_is_drawn_at_random_is_refused(world, name):
    world.learner.made = good()
    world.offers.refresh(None)
    world.poison = Poison.RANDOM
    # Now and then a draw is right: this is why refusals are counted over a while.
    refused = [world.offers.would_be_refused(name) for _ in range(200)]
    assert 0.8 * 200 < sum(refused) < 200


def test_judging_makes_no_offer(world):
    world.learner.made = good()
    world.offers.refresh(None)
    world.learner.made = good(120)
    assert not world.offers.would_be_refused("tree")
    assert world.offers.programs("tree") == good()


def test_while_nothing_acts_nothing_is_refused_and_the_last_one_is_the_measure(world):
    world.learner.made = good()
    world.offers.refresh(None)
    world.poison = Poison.INVERTED
    world.offers.refresh(None)
    assert not world.offers.refused("tree")
    assert not world.offers.would_be_refused("tree")


def test_where_sepbit_takes_over_from_a_model_nothing_is_checked(world):
    """Its actions differ from the model's; but it is no update of the model."""
    world.learner.made = good()
    world.offers.refresh(None)
    world.learner.made = {}
    assert not world.offers.would_be_refused("tree")
    world.poison = Poison.INVERTED
    assert world.offers.would_be_refused("tree")


def test_an_inverted_rule_is_refused_even_where_the_labels_speak_against_the_rule(world):
    world.offers.refresh(None)
    world.observe(turned=True)
    assert not world.offers.would_be_refused("sepbit")
    world.life = LIFE // 2
    assert not world.offers.would_be_refused("sepbit")
    world.poison = Poison.INVERTED
    assert world.offers.would_be_refused("sepbit")


def test_a_candidate_that_was_dropped_is_not_judged(world):
    world.learner.made = good()
    world.offers.refresh(None)
    world.learner.candidates = ("bandit",)
    assert not world.offers.would_be_refused("tree")
