"""Rules S1 to S5: proxies that share a resource."""

from __future__ import annotations

import pytest

from mlproxy.errors import ConfigError
from mlproxy.learn import Claim, ResourceArbiter
from mlproxy.proxy import Mode

E, L, C, T = Mode.EMERGENCY, Mode.LEARNING, Mode.COLLABORATION, Mode.TRUSTED


def arbiter() -> ResourceArbiter:
    return ResourceArbiter(
        [
            Claim("low", ("disk",), 1),
            Claim("high", ("disk", "memory"), 5),
            Claim("alone", ("cpu",)),
            Claim("free"),
        ],
        turn=100.0,
    )


def test_s1_global_emergency_stops_everybody() -> None:
    modes = {"low": T, "high": L, "alone": C, "free": T}
    assert set(arbiter().ceilings(modes, 0.0, emergency=True).values()) == {E}


def test_s2_no_trials_on_a_resource_in_distress_but_trust_stays() -> None:
    judge = arbiter()
    assert judge.ceilings({"low": C, "high": E, "alone": C}, 0.0) == {
        "low": L,
        "high": L,
        "alone": T,
    }
    assert judge.ceilings({"low": T, "high": E}, 1.0) == {"low": T, "high": L}


def test_s3_only_the_first_by_priority_climbs() -> None:
    judge = arbiter()
    assert judge.ceilings({"low": L, "high": L, "free": L}, 0.0) == {
        "low": L,
        "high": T,
        "free": T,
    }
    # Once it is trusted the next may climb.
    assert judge.ceilings({"low": L, "high": T}, 1.0) == {"low": T, "high": T}


def test_s4_a_turn_that_brings_no_trust_passes_on() -> None:
    judge = arbiter()
    modes = {"low": L, "high": L}
    assert judge.ceilings(modes, 0.0)["high"] == T
    assert judge.ceilings(modes, 99.0)["high"] == T
    assert judge.ceilings(modes, 100.0) == {"low": T, "high": L}
    assert judge.ceilings(modes, 199.0) == {"low": T, "high": L}
    assert judge.ceilings(modes, 200.0) == {"low": L, "high": T}


def test_s5_who_shares_nothing_is_never_held() -> None:
    judge = arbiter()
    assert judge.ceilings({"alone": L, "free": C, "high": L}, 0.0) == {
        "alone": T,
        "free": T,
        "high": T,
    }


@pytest.mark.parametrize(("claims", "turn"), [([Claim("a"), Claim("a")], 1.0), ([], 0.0)])
def test_bad_claims_are_refused(claims: list[Claim], turn: float) -> None:
    with pytest.raises(ConfigError, match=r"learn\.claims"):
        ResourceArbiter(claims, turn=turn)
