"""What scoring and arbitration cost on top of River itself.

`Learner.observe` reads ring records; beside it the same River models run in a
bare loop over features that are dicts already, predicting and learning, nothing
else but the clipping and scaling that belongs to the linear model. Both take
turns on the same labels in small batches, so that a busy machine slows both alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from river import linear_model, optim, tree

from mlproxy.learn import (
    ArbitrationPolicy,
    DecisionSpec,
    FeatureSpec,
    Learner,
    StreamSpec,
    hatr,
    htr,
    linear,
)
from mlproxy.learn.batch import decode
from mlproxy.learn.drift import RisingAdwin
from mlproxy.learn.splitter import BinnedSplitter
from mlproxy.proxy import RECORD_DTYPE, RecordType

__all__ = ("LearnRates", "learn_rate_ratio", "measure")

_HIGH = 511
_BATCH = 512
_BINS = 256  # as TreeCandidate


def _spec() -> DecisionSpec:
    streams = [
        StreamSpec(name, tuple(FeatureSpec(f"f{n}", 0, _HIGH) for n in range(count)), prior=12.0)
        for name, count in (("user", 4), ("gc", 6))
    ]
    return DecisionSpec("bench", tuple(streams))


def _records(count: int, seed: int) -> npt.NDArray[Any]:
    """Labels like those of a placement decision: log life times, noisy, in two streams."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 6, count)
    centre = np.array([60, 120, 200, 280, 360, 440])[kind]
    features = np.clip(centre[:, None] + rng.normal(0, 40, (count, 6)), 0, _HIGH)
    features[:, 4] = rng.integers(0, _HIGH, count)
    records = np.zeros(count, dtype=RECORD_DTYPE)
    records["seq"] = records["time"] = np.arange(1, count + 1)
    records["type"] = int(RecordType.LABEL)
    records["stream"] = rng.random(count) < 0.4
    records["nr_features"] = 6
    records["features"][:, :6] = features
    records["cost"] = np.clip(centre + rng.normal(0, 48, count), 0, _HIGH)
    return records


@dataclass(frozen=True, slots=True)
class LearnRates:
    """CPU seconds per repeat for the same labels.

    Attributes:
        labels: in each repeat.
        observed: through the learner.
        bare: predict and learn, River alone.
        learned: learn only, River alone.
    """

    labels: int
    observed: tuple[float, ...]
    bare: tuple[float, ...]
    learned: tuple[float, ...]


def _models(spec: DecisionSpec) -> list[list[Any]]:
    """Fresh River models as the candidates have them: [model][stream]."""
    common: dict[str, Any] = {
        "max_depth": 9,
        "grace_period": 150,
        "leaf_prediction": "mean",
        "splitter": BinnedSplitter(_BINS),
    }

    def lines(stream: StreamSpec) -> Any:
        rate = 0.25 / (len(stream.features) + 1)
        return linear_model.LinearRegression(
            optimizer=optim.SGD(rate), intercept_lr=rate, clip_gradient=1.0
        )

    return [
        [lines(stream) for stream in spec.streams],
        [tree.HoeffdingTreeRegressor(**common) for _ in spec.streams],
        [
            tree.HoeffdingAdaptiveTreeRegressor(
                bootstrap_sampling=False, drift_detector=RisingAdwin(), seed=number, **common
            )
            for number in range(len(spec.streams))
        ],
    ]


def _bare(models: list[list[Any]], rows: list[Any], *, predict: bool) -> None:
    """`rows` are (stream, x, y); the first model is the linear one."""
    lines, *trees = models
    half = _HIGH / 2
    for stream, x, y in rows:
        one = lines[stream]
        z = {n: (0 if v < 0 else min(v, _HIGH)) / half - 1 for n, v in x.items()}
        if predict:
            one.predict_one(z)
        one.learn_one(z, y / 16 - 0.75)
    for model in trees:
        for stream, x, y in rows:
            one = model[stream]
            if predict:
                one.predict_one(x)
            one.learn_one(x, y)


def measure(*, quick: bool = False, clock: Callable[[], float] = time.process_time) -> LearnRates:
    """Run the learner and the bare loops side by side.

    Args:
        quick: three repeats of 4,000 labels instead of five of 20,000.
        clock: CPU seconds.
    """
    repeats, count = (3, 4_000) if quick else (5, 20_000)
    spec = _spec()
    observed, bare, learned = [], [], []
    _warm_up(spec)
    for repeat in range(repeats):
        records = _records(count, seed=repeat)
        raw = [(s, x, y) for s, x, y, _ in decode(records, spec).rows]
        policy = ArbitrationPolicy(max_seconds_per_label=0)
        learner = Learner(spec, [linear(), htr(), hatr()], policy, seed=1)
        both, only = _models(spec), _models(spec)
        spent = [0.0, 0.0, 0.0]
        for start in range(0, count, _BATCH):
            part = slice(start, start + _BATCH)
            rows = raw[part]
            sides: list[Callable[[], object]] = [
                partial(learner.observe, records[part]),
                partial(_bare, both, rows, predict=True),
                partial(_bare, only, rows, predict=False),
            ]
            for turn in range(3):
                # Nobody always goes first.
                side = (turn + start // _BATCH) % 3
                before = clock()
                sides[side]()
                spent[side] += clock() - before
        observed.append(spent[0])
        bare.append(spent[1])
        learned.append(spent[2])
    return LearnRates(count, tuple(observed), tuple(bare), tuple(learned))


def _warm_up(spec: DecisionSpec) -> None:
    """River imports parts of itself when they are first used: not our business here."""
    records = _records(2_000, seed=99)
    Learner(spec, [linear(), htr(), hatr()], seed=1).observe(records)
    _bare(_models(spec), [row[:3] for row in decode(records, spec).rows], predict=True)


def learn_rate_ratio(quick: bool = False) -> dict[str, float]:
    """The learner's rate over that of a bare River loop, from medians of CPU time.

    Returns:
        `learn_rate_ratio` (predict and learn on both sides), `learn_only_ratio`
        (against a loop that does not even predict), `learn_per_s` and
        `bare_learn_per_s` (labels through all three models), and each repeat's
        ratio as `learn_rate_ratio_repeat_N`.
    """
    rates = measure(quick=quick)
    observed = statistics.median(rates.observed)
    bare, learned = statistics.median(rates.bare), statistics.median(rates.learned)
    result = {
        "learn_rate_ratio": bare / observed,
        "learn_only_ratio": learned / observed,
        "learn_per_s": rates.labels / observed,
        "bare_learn_per_s": rates.labels / bare,
    }
    for number, (one, other) in enumerate(zip(rates.bare, rates.observed, strict=True)):
        result[f"learn_rate_ratio_repeat_{number}"] = one / other
    return result
