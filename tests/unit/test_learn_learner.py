"""The learner: scores, champions, budgets, failures, proposals."""

from __future__ import annotations

import json
import math

import msgspec
import numpy as np
import pytest

from mlproxy.errors import ConfigError, PluginError
from mlproxy.learn import (
    ArbitrationPolicy,
    CandidateRecipe,
    Compiled,
    DecisionSpec,
    FeatureSpec,
    Learner,
    Policy,
    PredictorDefaults,
    Size,
    StreamSpec,
    bandit,
    htr,
    linear,
)
from mlproxy.proxy import Kind, Program, ProgramNode, RecordType, check_program, eval_program
from mlproxy.testing.learn import label_records

FEATURES = (FeatureSpec("a", 0, 100), FeatureSpec("b", 0, 100))
SPEC = DecisionSpec(
    "placement", (StreamSpec("user", FEATURES, prior=8.0), StreamSpec("gc", FEATURES, prior=8.0))
)
QUICK = ArbitrationPolicy(warmup_labels=64, decide_every=32, dwell_labels=64, budget_labels=64)


class Constant(PredictorDefaults):
    """Always predicts the same; `trouble` is what it does at label 100."""

    def __init__(self, spec, seed, *, value=5.0, trouble="", clock=None, bytes_=100):
        self.value, self.trouble, self.clock, self.bytes = value, trouble, clock, bytes_
        self.seen = 0

    def predict_one(self, stream, x):
        if self.trouble == "nan" and self.seen >= 100:
            return math.nan
        return self.value

    def learn_one(self, stream, x, y, w):
        self.seen += 1
        if self.clock is not None:
            self.clock.now += 0.01
        if self.trouble == "raise" and self.seen >= 100:
            raise ZeroDivisionError("oops")

    def compile(self, stream):
        if self.trouble == "compile":
            raise RuntimeError("no program")
        node = ProgramNode(-1, round(self.value * 1024))
        return Compiled(Program((node,), (0,), 2, (), stream))

    def adopt(self, stream, other):
        self.value = other.value

    def size(self):
        return Size(1, self.bytes)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


def constant(name: str, value: float = 5.0, **params) -> CandidateRecipe:
    return CandidateRecipe(name, Constant, {"value": value, **params})


def labels(seed: int, count: int, *, offset: float = 0.0, streams: int = 2, noise: float = 0.5):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 100, (count, 2))
    y = 4 + 8 * (rows[:, 0] > 50) + rows[:, 1] / 50 + offset + rng.normal(0, noise, count)
    return label_records(rows, np.clip(y, 0, 32), stream=rng.integers(0, streams, count))


def learner(*recipes: CandidateRecipe, policy=QUICK, spec=SPEC, clock=None, seed=1) -> Learner:
    return Learner(spec, recipes, policy, seed=seed, clock=clock or Clock())


def whats(it: Learner) -> list[tuple[str, str]]:
    return [(event.what, event.candidate) for event in it.take_events()]


def test_the_better_predictor_becomes_champion() -> None:
    it = learner(constant("bad", 30.0), constant("good", 9.0))
    assert it.champion is None
    it.observe(labels(1, 400))
    assert it.champion == "good"
    assert ("champion", "good") in whats(it)
    assert it.take_events() == []


def test_a1_nobody_is_champion_before_the_warm_up() -> None:
    it = learner(constant("a"))
    it.observe(labels(1, 60))
    assert it.champion is None
    assert it.programs("a") == {}
    assert it.propose(0, 100) is None


def test_a4_loss_is_the_faded_mean_of_errors_made_before_learning() -> None:
    spec = DecisionSpec("d", (StreamSpec("s", FEATURES),))
    it = learner(
        constant("c", 5.0), spec=spec, policy=ArbitrationPolicy(fading=0.5, decide_every=1)
    )
    it.observe(label_records([[1, 1]] * 3, [6.0, 5.0, 9.0]))
    expected = (0.25 * 1 + 0.5 * 0 + 1 * 4) / 1.75
    assert it.report()["candidates"]["c"]["loss"] == pytest.approx(expected)


def test_result_does_not_depend_on_how_labels_are_batched() -> None:
    records = labels(3, 3000)
    whole, pieces = (learner(linear(), htr(grace_period=50)) for _ in range(2))
    whole.observe(records)
    for start in range(0, 3000, 77):
        pieces.observe(records[start : start + 77])
    for one in (whole, pieces):
        for line in one.report()["candidates"].values():
            assert line.pop("seconds") > 0
            line.pop("us_per_label")
    assert whole.programs("htr") == pieces.programs("htr")
    first, second = whole.report(), pieces.report()
    for one in (first, second):
        for line in one["candidates"].values():
            del line["seconds"], line["us_per_label"]
    assert first == second
    assert whole.take_events() == pieces.take_events()


def test_same_seed_same_everything() -> None:
    def run() -> str:
        it = learner(linear(), htr(), seed=5)
        for number in range(5):
            it.observe(labels(number, 400))
            it.propose(number, number + 10)
        return json.dumps(it.report()) + repr(it.take_events()) + repr(it.programs("htr"))

    assert run() == run()


@pytest.mark.parametrize(
    ("trouble", "words"), [("raise", "ZeroDivisionError: oops"), ("nan", "predicted nan")]
)
def test_a9_a_candidate_that_raises_or_diverges_is_dropped_and_nothing_else_happens(
    trouble: str, words: str
) -> None:
    it = learner(constant("bad", 9.0, trouble=trouble), constant("other", 30.0))
    assert it.observe(labels(1, 500)) == 500
    events = it.take_events()
    dropped = [event for event in events if event.what == "dropped"]
    assert [event.candidate for event in dropped] == ["bad"]
    assert words in dropped[0].reason
    assert it.champion == "other"
    assert it.candidates == ("other",)
    assert it.report()["candidates"]["bad"]["state"] == "dropped"
    assert it.programs("bad") == {}


def test_a9_when_the_last_one_fails_the_default_acts() -> None:
    it = learner(constant("bad", trouble="raise"))
    it.observe(labels(1, 500))
    assert it.champion is None
    assert it.propose(0, 10) is None
    assert it.observe(labels(2, 50)) == 50


def test_a9_a_candidate_that_cannot_be_compiled_is_dropped() -> None:
    it = learner(constant("bad", 9.0, trouble="compile"), constant("other", 30.0))
    it.observe(labels(1, 400))
    assert it.champion == "bad"
    assert it.propose(0, 10) is None
    assert it.champion == "other"
    assert it.propose(0, 10) is not None


def test_a8_over_the_time_budget_is_dropped_but_not_the_last_one() -> None:
    clock = Clock()
    slow = constant("slow", 9.0, clock=clock)
    it = learner(slow, constant("quick", 30.0), clock=clock)
    it.observe(labels(1, 300))
    assert it.candidates == ("quick",)
    dropped = [event for event in it.take_events() if event.what == "dropped"]
    assert "us per label" in dropped[0].reason
    alone = learner(slow, clock=clock)
    alone.observe(labels(1, 300))
    assert alone.champion == "slow"


def test_a8_over_the_memory_budget_is_dropped() -> None:
    it = learner(constant("fat", 9.0, bytes_=1 << 30), constant("thin", 30.0))
    it.observe(labels(1, 300))
    assert it.candidates == ("thin",)
    assert "bytes" in it.report()["candidates"]["fat"]["reason"]


def test_a2_measured_cost_outranks_prediction_and_falls_back_to_the_default() -> None:
    it = learner(constant("sharp", 9.0), constant("blunt", 30.0))
    it.observe(labels(1, 400))
    assert it.champion == "sharp"
    for _ in range(2):
        it.observe_costs({"default": 1.5, "sharp": 1.7, "blunt": 1.2})
    assert it.champion == "blunt"
    for _ in range(20):
        it.observe_costs({"default": 1.5, "sharp": 1.7, "blunt": 1.6})
    assert it.champion is None
    assert [e.what for e in it.take_events()][-1] == "no_champion"


def test_a3_one_window_of_measured_cost_is_not_enough() -> None:
    it = learner(constant("sharp", 9.0), constant("blunt", 30.0))
    it.observe(labels(1, 400))
    it.observe_costs({"default": 1.0, "sharp": 5.0, "blunt": 0.5})
    assert it.champion == "sharp"


def test_a3_costs_from_different_windows_are_compared_through_the_default() -> None:
    it = learner(constant("a", 9.0), constant("b", 9.5))
    it.observe(labels(1, 400))
    # b was only measured while everything was cheap; relative to the default it is worse.
    for _ in range(3):
        it.observe_costs({"default": 10.0, "a": 8.0})
        it.observe_costs({"default": 1.0, "b": 0.95})
    assert it.champion == "a"
    costs = {name: line["cost"] for name, line in it.report()["candidates"].items()}
    assert costs == {"a": pytest.approx(0.8), "b": pytest.approx(0.95)}


def test_a3_costs_that_are_no_numbers_are_ignored_and_unknown_names_are_not() -> None:
    it = learner(constant("a"))
    it.observe_costs({"default": math.inf, "a": math.nan})
    assert it.report()["candidates"]["a"]["cost"] is None
    with pytest.raises(KeyError):
        it.observe_cost("nobody", 1.0)


def test_a1_a_bandit_needs_no_labels_but_measured_cost() -> None:
    cheap, dear = (
        {n: Program((ProgramNode(-1, action),), (0,), 2, (), n) for n in (0, 1)}
        for action in (1, 2)
    )
    it = learner(constant("model", 9.0), bandit([Policy("dear", dear), Policy("cheap", cheap)]))
    it.observe(labels(1, 400))
    assert it.champion == "model"
    for _ in range(12):
        runs_cheap = it.programs("bandit") == cheap
        it.observe_costs({"default": 1.0, "model": 0.95, "bandit": 0.7 if runs_cheap else 1.4})
    assert it.champion == "bandit"
    crowned = [event for event in it.take_events() if event.what == "champion"][-1]
    assert (crowned.candidate, crowned.cost) == ("bandit", pytest.approx(0.7))
    proposal = it.propose(0, 100)
    assert proposal is not None
    assert dict(proposal.programs) == cheap


def test_a10_proposal_comes_when_changed_or_half_expired() -> None:
    it = learner(htr(grace_period=50))
    it.observe(labels(1, 600))
    first = it.propose(1000, 2000)
    assert first is not None
    assert (first.candidate, first.model_id, first.model_version) == ("htr", 1, 1)
    assert [r.kind for r in first.recommendations] == [Kind.PROGRAM] * 2
    assert [r.seq for r in first.recommendations] == [1, 2]
    assert {r.program.stream for r in first.recommendations if r.program} == {0, 1}
    for program in first.programs.values():
        check_program(program)
        assert len(program.cuts) == 2
    assert it.propose(1499, 2499) is None
    refreshed = it.propose(1500, 2500)
    assert refreshed is not None
    assert refreshed.model_version == 1
    assert [r.seq for r in refreshed.recommendations] == [3, 4]
    it.observe(labels(2, 600, offset=6.0))
    changed = it.propose(1501, 2501)
    assert changed is not None
    assert changed.model_version == 2
    assert whats(it).count(("published", "htr")) == 2


def test_a1_a_stream_without_its_warm_up_is_left_out() -> None:
    it = learner(htr())
    it.observe(labels(1, 200, streams=1))
    proposal = it.propose(0, 10)
    assert proposal is not None
    assert set(proposal.programs) == {0}


def test_actions_divide_what_was_seen() -> None:
    it = learner(htr(grace_period=50))
    records = labels(1, 3000, streams=1, noise=0.1)
    it.observe(records)
    program = it.programs("htr")[0]
    actions = eval_program(program, np.ascontiguousarray(records["features"]))
    assert set(actions.tolist()) == {0, 1, 2}
    means = [records["cost"][actions == action].mean() for action in range(3)]
    assert means == sorted(means)


def test_samples_inform_the_cuts_only() -> None:
    it = learner(htr(grace_period=50))
    it.observe(labels(1, 2000, streams=1))
    before = it.programs("htr")[0]
    rows = np.full((3000, 2), 10)
    rows[:, 1] = np.arange(3000) % 40
    assert it.observe(label_records(rows, np.zeros(3000), kind=RecordType.SAMPLE)) == 0
    it.observe(labels(2, 1, streams=1))
    after = it.programs("htr")[0]
    assert after.cuts != before.cuts
    assert it.report()["candidates"]["htr"]["labels"] == 2001


def test_a_preview_is_what_would_come_and_does_not_move_the_cuts() -> None:
    it = learner(htr(grace_period=50))
    it.observe(labels(1, 2000, streams=1))
    in_force = it.programs("htr")[0].cuts
    it.observe(labels(2, 2000, streams=1, offset=6.0))
    preview = it.preview("htr")
    assert preview[0].cuts != in_force
    assert it._tracks["htr"].cuts == {0: in_force}
    assert it.programs("htr") == preview
    assert it._tracks["htr"].cuts == {0: preview[0].cuts}


def test_records_of_other_kinds_and_streams_are_skipped() -> None:
    it = learner(constant("a"))
    records = labels(1, 10)
    records["type"][0] = int(RecordType.OUTCOME)
    records["stream"][1] = 9
    records["nr_features"][2] = 1
    assert it.observe(records) == 7
    assert it.report()["skipped"] == 2
    assert it.observe(records[:0]) == 0


def test_labels_are_clipped_and_zero_weight_counts_as_one() -> None:
    spec = DecisionSpec("d", (StreamSpec("s", FEATURES),), label_high=10.0)
    it = learner(constant("c", 0.0), spec=spec, policy=ArbitrationPolicy(fading=1.0))
    it.observe(label_records([[1, 1]] * 2, [1e6, -1e6], weight=[0, 3]))
    assert it.report()["candidates"]["c"]["loss"] == pytest.approx(10.0 / 4)


def test_a7_after_a_drift_a_fresh_model_takes_over_when_it_predicts_better() -> None:
    it = learner(htr(grace_period=100, max_depth=3))
    rng = np.random.default_rng(4)
    rows = rng.integers(0, 100, (6000, 2))
    high = np.where(np.arange(6000) < 3000, rows[:, 0] > 50, rows[:, 0] <= 50)
    it.observe(label_records(rows, 4 + 12 * high + rng.normal(0, 0.3, 6000).clip(-1, 1)))
    seen = whats(it)
    assert ("drift", "htr") in seen
    assert ("rebuilt", "htr") in seen
    report = it.report()["candidates"]["htr"]
    assert report["rebuilt"] >= 1
    assert report["loss"] < 1.0


def test_a7_the_champion_loses_its_privilege_when_it_drifts() -> None:
    policy = ArbitrationPolicy(warmup_labels=64, decide_every=32, dwell_labels=5000, fading=0.98)
    it = learner(constant("low", 4.0), constant("high", 20.0), policy=policy)
    it.observe(label_records(np.zeros((800, 2), int), np.full(800, 4.0)))
    assert it.champion == "low"
    it.observe(label_records(np.zeros((800, 2), int), np.full(800, 20.0)))
    # 5000 labels of dwell are not over: without the drift it would still hold the title.
    assert it.champion == "high"
    reasons = [event.reason for event in it.take_events() if event.what == "champion"]
    assert reasons[-1] == "better since the champion drifted"


def test_report_is_ready_for_json() -> None:
    it = learner(linear(), htr(), bandit([Policy("p", {})]))
    it.observe(labels(1, 300))
    assert msgspec.json.encode(it.report())  # takes no numpy number
    text = json.dumps(it.report(), allow_nan=False)
    assert json.loads(text)["champion"] == it.champion


@pytest.mark.parametrize("names", [[], ["a", "a"], ["default"], [""]])
def test_recipes_need_good_names(names: list[str]) -> None:
    with pytest.raises(PluginError, match=r"learn\.recipes"):
        learner(*(constant(name) for name in names))


def test_a_recipe_that_cannot_be_made_is_named() -> None:
    with pytest.raises(PluginError, match=r"learn\.candidate.*x cannot be made"):
        learner(htr("x", nonsense=1))


def test_a_senseless_spec_is_refused_with_all_problems() -> None:
    bad = StreamSpec("s", (FeatureSpec("f", 5, 5),), classes=10, cuts=(1.0,))
    with pytest.raises(ConfigError, match="low must be below high") as caught:
        DecisionSpec("d", (bad,), label_scale=0, label_low=9.0, label_high=1.0)
    for words in ("label_scale", "label_low", "classes"):
        assert words in str(caught.value)


def test_fixed_cuts_come_from_the_spec_and_stay() -> None:
    fixed = StreamSpec("s", FEATURES, classes=3, cuts=(6.0, 10.0))
    policy = ArbitrationPolicy(warmup_labels=10, cuts="fixed")
    it = learner(htr(), spec=DecisionSpec("d", (fixed,)), policy=policy)
    it.observe(labels(1, 600, streams=1))
    assert it.programs("htr")[0].cuts == (6144, 10240)


def test_events_carry_the_proxy_time_of_the_last_label() -> None:
    it = learner(constant("a"))
    records = labels(1, 100, streams=1)
    records["time"] = np.arange(100) + 7000
    it.observe(records)
    assert [(event.what, event.at) for event in it.take_events()] == [("champion", 7063)]


def test_a_program_is_compiled_once_until_more_is_learned() -> None:
    compiled = []

    class Counting(Constant):
        def compile(self, stream):
            compiled.append(stream)
            return super().compile(stream)

    it = learner(CandidateRecipe("c", Counting))
    it.observe(labels(1, 400))
    it.programs("c")
    it.observe_costs({"default": 1.0, "c": 0.9})
    it.programs("c")
    assert it.propose(0, 10) is not None
    assert compiled == [0, 1]
    it.observe(labels(2, 1))
    it.programs("c")
    assert compiled == [0, 1, 0, 1]


def test_predictions_are_the_champions_within_the_labels_range() -> None:
    it = learner(constant("far", 99.0), constant("near", 12.0))
    rows = [{0: 1, 1: 2}, {0: 3, 1: 4}]
    assert it.predict(rows) is None  # nobody yet
    it.observe(labels(1, 128))
    assert it.champion == "near"
    assert it.predict(rows) == [12.0, 12.0]

    alone = learner(constant("far", 99.0))
    alone.observe(labels(1, 128))
    assert alone.predict(rows, stream=1) == [SPEC.label_high, SPEC.label_high]


def test_a9_a_champion_that_predicts_nonsense_is_dropped() -> None:
    class Liar(Constant):
        def predict_one(self, stream, x):
            return math.nan if x[0] == 1 else super().predict_one(stream, {**x, 0: 0})

    it = learner(CandidateRecipe("liar", Liar, {"value": 8.0}), constant("dull", 30.0))
    records = labels(1, 128)
    records["features"][:, 0] = 5
    it.observe(records)
    assert it.champion == "liar"
    assert it.predict([{0: 1, 1: 1}]) is None
    assert it.champion == "dull"
    assert it.predict([{0: 1, 1: 1}]) == [30.0]
