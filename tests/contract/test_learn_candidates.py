"""Every bundled recipe keeps the contract that third parties must keep."""

from __future__ import annotations

import numpy as np
import pytest

from mlproxy.learn import (
    CandidateRecipe,
    DecisionSpec,
    FeatureSpec,
    Policy,
    StreamSpec,
    bandit,
    hatr,
    htr,
    linear,
)
from mlproxy.learn.trees import TreeCandidate
from mlproxy.proxy import Program, ProgramNode
from mlproxy.testing.learn import check_candidate, label_records

SPEC = DecisionSpec(
    "d",
    (
        StreamSpec("user", tuple(FeatureSpec(f"f{n}", 0, 600) for n in range(4)), prior=9.0),
        StreamSpec("gc", tuple(FeatureSpec(f"f{n}", 0, 600) for n in range(6)), prior=9.0),
    ),
)
ARMS = [Policy("p", {n: Program((ProgramNode(-1, 1),), (0,), 1, (), n) for n in (0, 1)})]
RECIPES = [linear(), htr(), htr("tebst", bins=0), hatr(), bandit(ARMS)]


def records(count: int = 1500) -> np.ndarray:
    rng = np.random.default_rng(2)
    rows = rng.integers(0, 600, (count, 6))
    y = np.where(rows[:, 0] > 300, 20, 5) + rows[:, 1] / 100 + rng.normal(0, 1, count)
    return label_records(rows, y.clip(0, 32), stream=rng.integers(0, 2, count))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_bundled_recipe_keeps_the_contract(recipe: CandidateRecipe) -> None:
    check_candidate(recipe, SPEC, records())


class Rude(TreeCandidate):
    def learn_one(self, stream, x, y, w):
        super().learn_one(stream, x, y, w)
        x[0] += 1


class Liar(TreeCandidate):
    def predict_one(self, stream, x):
        return super().predict_one(stream, x) + 1.0


@pytest.mark.parametrize(
    ("kind", "words"), [(Rude, "modified the features"), (Liar, "not what it compiles to")]
)
def test_the_check_finds_a_breach(kind: type, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_candidate(CandidateRecipe("x", kind), SPEC, records(300))
