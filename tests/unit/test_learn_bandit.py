"""The bandit: finds the cheapest policy from measured costs, and forgets."""

from __future__ import annotations

import random

import pytest

from mlproxy.errors import PluginError
from mlproxy.learn import DecisionSpec, FeatureSpec, Policy, StreamSpec
from mlproxy.learn.bandit import BanditCandidate
from mlproxy.proxy import Program, ProgramNode

SPEC = DecisionSpec("d", (StreamSpec("s", (FeatureSpec("f", 0, 9),)),))


def constant(value: int) -> Program:
    return Program((ProgramNode(-1, value),), (0,), 1, (), 0)


def make(method: str, seed: int = 1, count: int = 4) -> BanditCandidate:
    policies = [Policy(f"p{n}", {0: constant(n)}) for n in range(count)]
    return BanditCandidate(SPEC, seed, policies=policies, method=method)


@pytest.mark.parametrize("method", ["ucb", "epsilon", "thompson"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_finds_the_cheapest_policy(method: str, seed: int) -> None:
    rng = random.Random(seed)
    arm = make(method, seed)
    means = {"p0": 1.3, "p1": 1.1, "p2": 0.8, "p3": 1.6}
    pulled = []
    for _ in range(80):
        pulled.append(arm.active)
        # The load changes from window to window; the default feels it as well.
        load = rng.uniform(1.0, 3.0)
        arm.observe_cost(load * (means[arm.active] + rng.gauss(0, 0.05)), load, 1.0, "")
    assert arm.best == "p2"
    assert set(pulled) == set(means)
    measured = arm.measured()
    assert measured is not None
    assert measured.cost == pytest.approx(0.8, abs=0.1)
    assert arm.compile_best(0).program == constant(2)
    if method != "thompson":
        assert pulled[40:].count("p2") > 25


def test_it_follows_when_the_best_policy_changes() -> None:
    arm = make("ucb")
    rng = random.Random(5)
    for window in range(200):
        means = {"p0": 0.8, "p1": 1.2} if window < 60 else {"p0": 1.4, "p1": 0.9}
        arm.observe_cost(means.get(arm.active, 1.3) + rng.gauss(0, 0.02), 1.0, 1.0, "")
        if window == 59:
            assert arm.best == "p0"
    assert arm.best == "p1"


def test_exploring_changes_what_the_twin_runs_not_what_is_published() -> None:
    arm = make("epsilon")
    for name, cost in (("p0", 0.5), ("p1", 2.0), ("p2", 2.0), ("p3", 2.0)):
        arm.observe_cost(cost, 1.0, 1.0, name)
    seen = set()
    for _ in range(200):
        seen.add(arm.active)
        assert arm.best == "p0"
        arm.observe_cost(0.5 if arm.active == "p0" else 2.0, 1.0, 1.0, "")
    assert len(seen) > 1


def test_costs_without_a_default_still_rank() -> None:
    arm = make("ucb")
    for _ in range(30):
        arm.observe_cost({"p3": -2.0}.get(arm.active, 5.0), float("nan"), 1.0, "")
    assert arm.best == "p3"


def test_a_policy_may_move_its_thresholds() -> None:
    now = [3]
    arm = BanditCandidate(SPEC, 1, policies=[Policy("p", lambda: {0: constant(now[0])})])
    assert arm.compile(0).program == constant(3)
    now[0] = 4
    assert arm.compile(0).program == constant(4)


def test_bad_policies_are_refused() -> None:
    with pytest.raises(PluginError, match=r"learn\.policies"):
        BanditCandidate(SPEC, 1, policies=[])
    with pytest.raises(PluginError, match=r"learn\.policies"):
        BanditCandidate(SPEC, 1, policies=[Policy("p", {}), Policy("p", {})])
    with pytest.raises(PluginError, match="no program for stream 0"):
        BanditCandidate(SPEC, 1, policies=[Policy("p", {})]).compile(0)
    with pytest.raises(PluginError, match="no policy 'x'"):
        make("ucb").observe_cost(1.0, 1.0, 1.0, "x")
