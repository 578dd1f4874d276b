"""Candidates that other plugins bring for block placement."""

import dataclasses

import pytest

from mlproxy import SubsystemContext
from mlproxy.events.types import ModelEvent
from mlproxy.learn import CandidateRecipe, Policy, PredictorDefaults, bandit, htr, linear
from mlproxy_lfs import policies
from mlproxy_lfs.candidates import usable
from mlproxy_lfs.decisions import PLACEMENT, placement_spec
from mlproxy_lfs.engine import Geometry
from mlproxy_lfs.options import LfsOptions
from mlproxy_lfs.subsystem import LfsSubsystem
from mlproxy_lfs.system import LfsSystem, SystemOptions
from mlproxy_lfs.workloads import load_workload

SPEC = placement_spec(57_344)
SMALL = Geometry(segments=128, segment_blocks=32)


def named(name, recipe=None):
    return dataclasses.replace(recipe or htr(grace_period=50), name=name)


def broken(spec, seed):
    raise ValueError("no such spec")


def system(*candidates, capacities=5):
    capacity = SMALL.capacity
    workload = load_workload("hot-cold", seed=1, capacity=capacity, total=capacities * capacity)
    options = SystemOptions(geometry=SMALL, labels=600)
    return LfsSystem(workload, options, candidates=candidates)


def test_what_can_compete_does_and_the_order_is_kept():
    recipes, left_out = usable([named("one"), named("two-b")], SPEC, {"htr"}, 2)
    assert [r.name for r in recipes] == ["one", "two-b"]
    assert left_out == []


@pytest.mark.parametrize(
    ("offer", "why"),
    [
        ("tree", "not a mlproxy.learn.CandidateRecipe"),
        (named("htr"), "already"),
        (named("fine"), "already"),
        (named("No Name"), "is not [a-z]"),
        (named("x" * 32), "is not [a-z]"),
        (CandidateRecipe("bad", broken), "cannot be made: ValueError: no such spec"),
        (named("chooser", bandit([Policy("p", policies.sepbit(9))])), "predicts no labels"),
        (named("late"), "room for 1 more"),
    ],
)
def test_what_cannot_is_left_out_with_its_reason_and_nobody_else(offer, why):
    recipes, left_out = usable([named("fine"), offer], SPEC, {"htr"}, 1)
    assert [r.name for r in recipes] == ["fine"]
    (event,) = left_out
    assert (event.proxy, event.what) == (PLACEMENT, "dropped")
    assert why in event.reason
    assert event.candidate == getattr(offer, "name", "str")


def test_a_candidate_from_outside_has_a_twin_and_can_win():
    """The very tree of ours, under a name of its own, costs what ours does."""
    steered = system(named("tree-too", htr()))
    while not steered.done:
        window = steered.step()
    assert "tree-too" in window.twins
    lines = steered.learner.report()["candidates"]
    assert lines["tree-too"]["labels"] == lines["htr"]["labels"] > 0
    assert lines["tree-too"]["cost"] == pytest.approx(lines["htr"]["cost"], rel=0.1)
    assert lines["tree-too"]["cost"] < 1

    for name in ("htr", "hatr", "linear", "bandit"):
        steered.learner._drop(steered.learner._tracks[name], "for this test")
    assert steered.learner.champion == "tree-too"
    proposal = steered.learner.propose(steered.now, steered.now + 1)
    assert proposal.candidate == "tree-too"
    assert proposal.programs


def test_there_is_room_for_six_and_no_more():
    steered = system(*(named(f"more-{i}", linear()) for i in range(8)), capacities=1)
    steered.step()
    assert len(steered.learner.candidates) == 4 + 6
    assert [event.candidate for event in steered.left_out] == ["more-6", "more-7"]


def test_one_that_fails_later_takes_nobody_with_it():
    class Liar(PredictorDefaults):
        def __init__(self, spec, seed):
            del spec, seed

        def predict_one(self, stream, x):
            raise RuntimeError("no")

    steered = system(CandidateRecipe("liar", Liar), named("honest"), capacities=2)
    while not steered.done:
        steered.step()
    assert "liar" not in steered.learner.candidates
    assert "honest" in steered.learner.candidates


def test_the_subsystem_takes_what_plugins_offer_for_its_decision(tmp_path):
    options = LfsOptions(
        workload="mixed", segments=192, segment_blocks=32, pace_blocks_per_second=0.0
    )
    models = {PLACEMENT: [named("mine"), "nonsense"], "elsewhere": [named("other")]}
    subsystem = LfsSubsystem()
    subsystem.start(SubsystemContext("lfs", options, 1, str(tmp_path), models=models))
    result = subsystem.step()
    assert {"htr", "mine"} <= set(result.models[PLACEMENT]["candidates"])
    assert "other" not in result.models[PLACEMENT]["candidates"]
    assert "twin_mine_ratio" in result.metrics[PLACEMENT]
    assert dropped(result) == ["str"]
    assert dropped(subsystem.step()) == []
    subsystem.stop()


def dropped(result):
    found = [e for e in result.events if isinstance(e, ModelEvent)]
    return [e.candidate for e in found if e.what == "dropped"]
