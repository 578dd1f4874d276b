"""What the learner proposes is what a real proxy accepts and does."""

from __future__ import annotations

import numpy as np
import pytest

from mlproxy.learn import (
    CandidateRecipe,
    DecisionSpec,
    FeatureSpec,
    Learner,
    StreamSpec,
    hatr,
    htr,
    linear,
)
from mlproxy.proxy import Arm, InProcessProxy, Kind, Mode, ProxyConfig, Reason, Reject, eval_program
from mlproxy.testing.learn import label_records

FEATURES = tuple(FeatureSpec(f"f{n}", 0, 400) for n in range(5))
SPEC = DecisionSpec("placement", (StreamSpec("user", FEATURES), StreamSpec("gc", FEATURES)))


@pytest.mark.parametrize("recipe", [linear(), htr(), hatr()], ids=lambda recipe: recipe.name)
def test_proposals_are_accepted_and_executed(recipe: CandidateRecipe) -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 400, (4000, 5))
    y = np.where(rows[:, 0] > 200, 20.0, 6.0) + rows[:, 1] / 100
    learner = Learner(SPEC, [recipe], seed=1)
    learner.observe(label_records(rows, y, stream=rng.integers(0, 2, 4000)))
    proxy = InProcessProxy(
        ProxyConfig(
            "placement",
            Kind.PROGRAM,
            nr_features=5,
            nr_streams=2,
            max=2,
        )
    )
    proxy.start(0)
    proposal = learner.propose(1, 1000)
    assert proposal is not None
    assert [proxy.submit(r, 1) for r in proposal.recommendations] == [Reject.NONE] * 2
    proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 2)
    for stream, program in proposal.programs.items():
        wanted = eval_program(program, rows[:100].astype(np.int32)).tolist()
        assert set(wanted) == {0, 1, 2}
        decisions = [
            proxy.decide(row, unit, 7, 3, stream=stream)
            for unit, row in enumerate(rows[:100].tolist())
        ]
        acted = [n for n, decision in enumerate(decisions) if decision.arm is Arm.MODEL]
        assert len(acted) > 80
        assert [decisions[n].action for n in acted] == [wanted[n] for n in acted]
        assert {decisions[n].model_version for n in acted} == {1}
