"""Each rule of docs/reference/arbitration.md about who is champion."""

from __future__ import annotations

import dataclasses

from mlproxy.learn.policy import ArbitrationPolicy, Standing, choose, eligible

POLICY = ArbitrationPolicy(switch_margin=0.05, tie_margin=0.01, dwell_labels=1000)


def standing(name: str, *, loss: float | None = 1.0, cost: float | None = None, **other):
    values = {"order": 0, "warm": True, "usable": True, "size": 10, **other}
    return Standing(name=name, loss=loss, cost=cost, **values)


def pick(
    *standings: Standing, champion: str | None = None, held: int = 5000, **other
) -> str | None:
    default = other.pop("default", None)
    return choose(standings, champion, held, default, POLICY, **other).champion


def test_a1_cold_dropped_or_unscored_candidates_are_not_eligible() -> None:
    assert eligible(standing("a"), None, POLICY)
    assert not eligible(standing("a", warm=False), None, POLICY)
    assert not eligible(standing("a", usable=False), None, POLICY)
    assert not eligible(standing("a", loss=None), None, POLICY)
    assert pick(standing("a", warm=False), standing("b", usable=False)) is None


def test_a2_measured_worse_than_the_default_is_not_eligible_however_well_it_predicts() -> None:
    assert pick(standing("a", loss=0.001, cost=1.01), default=1.0) is None
    assert pick(standing("a", loss=99.0, cost=0.99), default=1.0) == "a"
    # A low prediction quality is no reason to fall back.
    assert pick(standing("a", loss=1e6), default=1.0) == "a"


def test_a2_margin_and_grace_for_the_holder() -> None:
    generous = dataclasses.replace(POLICY, cost_margin=0.02)
    assert eligible(standing("a", cost=1.02), 1.0, generous)
    assert not eligible(standing("a", cost=1.03), 1.0, generous)
    assert pick(standing("a", cost=1.04), champion="a", default=1.0) == "a"
    assert pick(standing("a", cost=1.06), champion="a", default=1.0) is None


def test_a3_a_measured_cost_outranks_any_prediction_loss() -> None:
    assert pick(standing("a", loss=0.1), standing("b", loss=9.0, cost=0.95), default=1.0) == "b"
    costs = [standing("a", loss=0.1, cost=0.95), standing("b", loss=9.0, cost=0.80)]
    assert pick(*costs, default=1.0) == "b"


def test_a4_without_costs_the_lower_loss_wins() -> None:
    assert pick(standing("a", loss=2.0), standing("b", loss=1.0)) == "b"


def test_a5_a_champion_is_left_alone_for_a_while_and_beaten_only_clearly() -> None:
    pair = (standing("a", loss=1.0), standing("b", loss=0.5))
    assert pick(*pair, champion="a", held=999) == "a"
    assert pick(*pair, champion="a", held=1000) == "b"
    close = (standing("a", loss=1.0), standing("b", loss=0.96))
    assert pick(*close, champion="a") == "a"
    assert pick(standing("a", loss=1.0), standing("b", loss=0.94), champion="a") == "b"


def test_a5_a_champion_that_is_not_eligible_any_more_goes_at_once() -> None:
    assert pick(standing("a", usable=False), standing("b", loss=9.0), champion="a", held=1) == "b"
    assert pick(standing("a", usable=False), champion="a", held=1) is None


def test_a6_ties_go_to_the_cheaper_then_to_the_first() -> None:
    assert pick(standing("a", loss=1.0, size=40), standing("b", loss=1.005, size=9)) == "b"
    assert pick(standing("a", loss=1.0, size=40), standing("b", loss=1.02, size=9)) == "a"
    assert pick(standing("z", order=0), standing("a", order=1)) == "z"


def test_losses_closer_than_the_resolution_are_equal() -> None:
    policy = dataclasses.replace(POLICY, resolution=0.05)
    pair = (standing("a", loss=0.04, size=40), standing("b", loss=0.01, size=40))
    assert choose(pair, "a", 5000, None, POLICY).champion == "b"
    assert choose(pair, "a", 5000, None, policy).champion == "a"
    assert choose(pair, "a", 5000, None, policy, privileged=False).champion == "a"
    worse = (standing("a", loss=0.08), standing("b", loss=0.01))
    assert choose(worse, "a", 5000, None, policy).champion == "b"
    # Measured costs are told apart as before.
    cheap = (standing("a", cost=0.04), standing("b", cost=0.01))
    assert choose(cheap, "a", 5000, 1.0, policy).champion == "b"


def test_a7_after_a_drift_neither_dwell_nor_margin_protect_the_champion() -> None:
    pair = (standing("a", loss=1.0), standing("b", loss=0.98))
    assert pick(*pair, champion="a", held=1) == "a"
    assert pick(*pair, champion="a", held=1, privileged=False) == "b"


def test_a_changes_reason_is_said() -> None:
    pair = (standing("a", loss=1.0), standing("b", loss=0.5))
    assert choose(pair, "a", 5000, None, POLICY).reason == "lower prediction loss"
    cheap = (standing("a", cost=0.9), standing("b", cost=0.5))
    assert choose(cheap, "a", 5000, 1.0, POLICY).reason == "lower measured cost"
    assert choose(pair, "gone", 5000, None, POLICY).reason == "gone is no longer eligible"
