"""The linear candidate: starts at the prior, cannot run away, compiles within its bound."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mlproxy.learn import DecisionSpec, FeatureSpec, StreamSpec
from mlproxy.learn.linear import LinearCandidate
from mlproxy.proxy import check_program, eval_program


def spec(count: int, **prior: float) -> DecisionSpec:
    features = tuple(
        FeatureSpec(f"f{n}", 0, 500, prior_weight=prior.get(f"f{n}", 0.0)) for n in range(count)
    )
    return DecisionSpec("d", (StreamSpec("s", features, prior=10.0),), label_high=20.0)


def test_it_starts_at_the_prior() -> None:
    model = LinearCandidate(spec(2, f0=0.01), 1)
    assert model.predict_one(0, {0: 250, 1: 3}) == pytest.approx(10.0)
    assert model.predict_one(0, {0: 500, 1: 3}) == pytest.approx(12.5)
    assert model.predict_one(0, {0: 0, 1: 300}) == pytest.approx(7.5)
    answer = eval_program(model.compile(0).program, np.array([[500, 3]], dtype=np.int32))
    assert answer[0] / 1024 == pytest.approx(12.5, abs=model.compile(0).resolution)


@pytest.mark.parametrize("count", [1, 6, 16])
def test_wild_features_labels_and_weights_do_not_make_it_diverge(count: int) -> None:
    model = LinearCandidate(spec(count), 1)
    rng = random.Random(3)
    worst = 0.0
    for _ in range(3000):
        x = {n: rng.choice([-(1 << 31), 0, 7, 250, 500, (1 << 31) - 1]) for n in range(count)}
        worst = max(worst, abs(model.predict_one(0, x)))
        model.learn_one(0, x, rng.choice([0.0, 20.0]), rng.choice([1.0, 1000.0]))
    # Ten label ranges would be running away; the study's unclipped model reached 1e14.
    assert worst < 100.0


@pytest.mark.parametrize("count", [1, 3, 8, 11])
def test_program_stays_within_the_stated_resolution(count: int) -> None:
    model = LinearCandidate(spec(count), 1)
    rng = random.Random(count)
    for _ in range(2000):
        x = {n: rng.randrange(0, 501) for n in range(count)}
        model.learn_one(0, x, min(20.0, 2 + x[0] / 50 + x[count - 1] / 100), 1.0)
    compiled = model.compile(0)
    check_program(compiled.program)
    assert len(compiled.program.roots) == min(count, 8)
    rows = np.array(
        [[rng.randrange(-100, 700) for _ in range(count)] for _ in range(500)], dtype=np.int32
    )
    answers = eval_program(compiled.program, rows) / 1024
    for row, answer in zip(rows.tolist(), answers, strict=True):
        guess = model.predict_one(0, dict(enumerate(row)))
        assert abs(guess - answer) <= compiled.resolution + 1e-9
    if count <= 8:
        assert compiled.resolution < 1.0


def test_integers_that_fit_get_a_step_each_and_are_exact() -> None:
    small = DecisionSpec("d", (StreamSpec("s", (FeatureSpec("f", 0, 7),)),), label_high=8.0)
    model = LinearCandidate(small, 1, resolution=0.001)
    for number in range(4000):
        model.learn_one(0, {0: number % 8}, float(number % 8), 1.0)
    compiled = model.compile(0)
    assert compiled.resolution == pytest.approx(0.5 / 1024)
    rows = np.arange(8, dtype=np.int32)[:, None]
    answers = eval_program(compiled.program, rows) / 1024
    assert answers == pytest.approx(np.arange(8.0), abs=0.05)
