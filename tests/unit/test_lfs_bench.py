"""The benches: what a summary says of rows made by hand, and tiny runs of the real thing."""

import math

import pytest

from mlproxy_lfs import bench_credit
from mlproxy_lfs.bench_aa import aa_limit, aa_promotion_rate, aa_run
from mlproxy_lfs.bench_gc import (
    EVERYTHING,
    QUICK_WORKLOADS,
    SEEDS,
    full_plan,
    gc_bound,
    quick_plan,
    run_bench,
    summarise,
)
from mlproxy_lfs.bench_runs import DEFAULT_POLICY, POLICIES, Job, Row, Scale, run_job
from mlproxy_lfs.engine import Geometry
from mlproxy_lfs.workloads import workload_names

TINY = Scale(
    capacities=2,
    poison_capacities=2,
    flip_at=1.2,
    geometry=Geometry(segments=128, segment_blocks=32),
)


def row(workload, policy, wa, *, seed=1, kind="recorded", warm=None, **more):
    return Row(workload, kind, seed, policy, 10, wa, wa if warm is None else warm, **more)


def rows_of(workload, seed=1, kind="recorded", **costs):
    return [
        row(workload, policy.replace("_", "-"), wa, seed=seed, kind=kind)
        for policy, wa in costs.items()
    ]


class TestSummary:
    @pytest.fixture
    def rows(self):
        return [
            *rows_of("a", greedy=3.0, cost_benefit=2.0, sepbit=1.8, mlproxy=1.6, clairvoyant=1.2),
            *rows_of(
                "a", 2, greedy=3.0, cost_benefit=2.0, sepbit=1.6, mlproxy=1.6, clairvoyant=1.0
            ),
            *rows_of(
                "b",
                kind="synthetic",
                greedy=1.5,
                cost_benefit=2.0,
                sepbit=3.0,
                mlproxy=3.0,
                clairvoyant=1.5,
            ),
            *rows_of(
                "idle", greedy=1.05, cost_benefit=1.05, sepbit=1.0, mlproxy=2.1, clairvoyant=1.0
            ),
            *rows_of(
                "uniform",
                kind="synthetic",
                greedy=4.0,
                cost_benefit=4.0,
                sepbit=4.0,
                mlproxy=8.0,
                clairvoyant=2.0,
            ),
        ]

    def test_which_workloads_are_bound_by_cleaning(self, rows):
        assert gc_bound(rows) == {"a", "b"}
        assert summarise(rows)["gc_bound"] == ["a", "b"]

    def test_the_bound_is_a_mean_over_the_seeds(self):
        rows = [row("x", DEFAULT_POLICY, wa, seed=s) for s, wa in ((1, 1.05), (2, 1.14))]
        assert gc_bound(rows) == set()
        rows.append(row("x", DEFAULT_POLICY, 1.2, seed=3))
        assert gc_bound(rows) == {"x"}
        assert gc_bound([row("x", "greedy", 9.0)]) == set()

    def test_ratios_are_means_over_seeds_then_workloads(self, rows):
        summary = summarise(rows)
        a, b = 0.8, 2.0
        assert summary["ratio_best_victim"] == pytest.approx(math.sqrt(a * b))
        assert summary["ratio_best_victim_recorded"] == pytest.approx(a)
        a = math.sqrt(1.6 / 1.8)
        assert summary["ratio_sepbit"] == pytest.approx(math.sqrt(a * 1.0))
        assert summary["ratio_sepbit_recorded"] == pytest.approx(a)
        assert summary["per_workload"]["b"] == {"best_victim": 2.0, "sepbit": 1.0}
        assert list(summary["per_workload"]) == ["a", "b", "idle", "uniform"]

    def test_the_worst_ratio_looks_at_everything(self, rows):
        summary = summarise(rows)
        assert summary["worst_ratio_default"] == pytest.approx(2.0)
        assert summary["worst_ratio_default_workload"] in {"idle", "uniform"}

    def test_the_gap_to_clairvoyance(self, rows):
        shares = [0.4 / 0.8, 0.4 / 1.0, -1.0 / 0.5]
        assert summarise(rows)["oracle_gap_closed"] == pytest.approx(sum(shares) / 3)

    def test_warm_figures_use_the_warm_costs(self):
        costs = {"greedy": 4, DEFAULT_POLICY: 3, "sepbit": 2, "mlproxy": 1.5}
        summary = summarise([row("a", policy, 9, warm=warm) for policy, warm in costs.items()])
        assert summary["ratio_best_victim_warm"] == pytest.approx(0.5)
        assert summary["ratio_sepbit_warm"] == pytest.approx(0.75)
        assert summary["ratio_best_victim"] == summary["ratio_sepbit"] == 1.0

    def test_poison(self):
        rows = [
            row("a", DEFAULT_POLICY, 5.0),
            row("a", "default-short", 2.0),
            row("a", "poison-start-random", 2.1),
            row("a", "poison-start-inverted", 2.0),
            row("a", "poison-flip-random", 3.0, trusted_at_flip=True, out_after=0.7),
            row("a", "poison-flip-inverted", 2.2, trusted_at_flip=True),
            row("a", "poison-flip-myopic", 2.0, trusted_at_flip=False),
            row("b", "default-short", 2.0),
            row("b", "poison-start-random", 2.4),
        ]
        summary = summarise(rows)
        assert summary["poison_start"] == pytest.approx(1.2)
        assert summary["poison_start_by_kind"] == pytest.approx({"random": 1.2, "inverted": 1.0})
        assert summary["poison_flip"] == pytest.approx(1.5)
        assert summary["poison_flip_by_kind"]["myopic"] == pytest.approx(1.0)
        assert summary["poison_flip_trusted"] == 2
        assert summary["poison_flip_still_trusted"] == 1
        assert summary["poison_flip_out_after_max"] == 0.7

    def test_nothing_measured_is_nothing_said(self):
        summary = summarise([])
        assert summary["gc_bound"] == []
        assert summary["poison_flip_trusted"] == 0
        for key in ("ratio_best_victim", "ratio_sepbit", "worst_ratio_default", "poison_start"):
            assert summary[key] is None


class TestPlans:
    def test_the_full_plan_is_everything(self):
        plan = full_plan()
        names = workload_names()
        wanted = {(n, s) for kind in names.values() for n in kind for s in SEEDS}
        assert {(j.workload, j.seed) for j in plan.jobs} == wanted
        assert plan.aa_runs == 1000
        assert all(j.policies == EVERYTHING for j in plan.jobs)
        assert {j.kind for j in plan.jobs} == {"recorded", "synthetic"}

    def test_the_quick_plan_is_a_part_of_it(self):
        plan = quick_plan()
        assert tuple(j.workload for j in plan.jobs) == QUICK_WORKLOADS
        assert all(set(j.policies) <= set(EVERYTHING) for j in plan.jobs)

    def test_own_traces(self):
        plan = full_plan(traces=("x.trace", "y.trace"), seeds=(1, 2))
        assert [(j.workload, j.trace, j.seed) for j in plan.jobs] == [
            (f"trace-{i}", f"{n}.trace", s) for i, n in ((1, "x"), (2, "y")) for s in (1, 2)
        ]


@pytest.fixture(scope="module")
def tiny_rows():
    policies = (*POLICIES, "mlproxy", "default-short", "poison-start-myopic")
    job = Job("zipf-0.99", "synthetic", 1, (*policies, "poison-flip-random"), TINY)
    return {r.policy: r for r in run_job(job)}


@pytest.fixture(scope="module")
def results():
    plan = bench_credit.Plan(
        workloads=("hot-cold",),
        seeds=(1,),
        salts=1,
        capacities=5,
        geometry=Geometry(segments=512, segment_blocks=64),
    )
    return {r.model: r for r in bench_credit.run_bench(plan)}


class TestRuns:
    def test_every_policy_has_its_row(self, tiny_rows):
        assert set(tiny_rows) >= {*POLICIES, "mlproxy", "default-short"}
        for r in tiny_rows.values():
            assert 1.0 < r.wa < 20
            assert r.as_dict()["workload"] == "zipf-0.99"
        assert tiny_rows["clairvoyant"].wa < tiny_rows[DEFAULT_POLICY].wa < tiny_rows["greedy"].wa

    def test_the_default_of_the_poisoned_runs_is_the_default(self, tiny_rows):
        short, whole = tiny_rows["default-short"], tiny_rows[DEFAULT_POLICY]
        assert (short.wa, short.wa_warm) == (whole.wa, whole.wa_warm)

    def test_a_steered_run_tells_how_it_spent_its_time(self, tiny_rows):
        steered = tiny_rows["mlproxy"]
        assert sum(steered.mode_times.values()) == pytest.approx(1.0)
        assert steered.modes[0] == (0.0, "learning", "start")
        assert steered.trusted_at_flip is None
        assert tiny_rows["poison-flip-random"].trusted_at_flip is False

    def test_a_store_that_is_never_steered_costs_what_the_default_costs(self, tiny_rows):
        poisoned = tiny_rows["poison-start-myopic"]
        assert poisoned.mode_times == {"learning": 1.0}
        # The fill ends within a window, so the two are counted from slightly different writes on.
        assert poisoned.wa == pytest.approx(tiny_rows["default-short"].wa, rel=0.01)

    def test_run_bench_sorts_rows_and_counts_jobs(self):
        told = []
        plan = full_plan(
            workloads=("uniform", "hot-cold"),
            seeds=(2, 1),
            policies=("greedy", DEFAULT_POLICY),
            scale=TINY,
            aa_runs=0,
        )
        result = run_bench(plan, processes=1, progress=lambda done, note: told.append((done, note)))
        order = [(r["workload"], r["seed"], r["policy"]) for r in result["rows"]]
        assert order == [
            (w, s, p)
            for w in ("uniform", "hot-cold")
            for s in (2, 1)
            for p in ("greedy", DEFAULT_POLICY)
        ]
        assert [done for done, _ in told] == [1, 2, 3, 4]
        assert "aa_promotion_rate" not in result["summary"]


class TestAA:
    def test_the_limit_is_the_configured_rate(self):
        assert aa_limit() == 0.1

    def test_a_seed_decides_the_run(self):
        first = [aa_run(seed) for seed in range(2)]
        assert [aa_run(seed) for seed in range(2)] == first
        assert aa_promotion_rate(range(2)) == sum(first)


class TestCredit:
    def test_a_model_that_is_the_default_costs_the_same(self, results):
        same = results["same"]
        assert same.truth == 1.0
        assert set(same.twins) == {1.0}
        assert same.pool[500_000][0] == pytest.approx(1.0, abs=0.05)

    def test_truth_knows_better_from_worse(self, results):
        assert results["sepbit"].truth < 0.97
        assert results["shuffle"].truth > 1.1
        for model in ("sepbit", "shuffle"):
            r = results[model]
            assert all((t < 1) == (r.truth < 1) for t in r.twins)

    def test_harm_grows_with_the_share(self, results):
        harm = [results["shuffle"].harm[share][0] for share in (50_000, 500_000, 950_000)]
        assert harm == sorted(harm)
        assert harm[2] == pytest.approx(results["shuffle"].truth, rel=0.1)

    def test_the_table_has_a_line_per_model_and_per_estimator(self, results):
        text = bench_credit.table(list(results.values()))
        for model in bench_credit.MODELS:
            assert f"|hot-cold|{model}|" in text
        for name in ("twin", "pool 5%", "pool 50%", "pool 95% / its own A/A"):
            assert f"\n|{name}|" in text

    def test_the_shuffling_model_is_a_valid_program(self):
        import random

        from mlproxy.proxy import check_program

        for model in bench_credit.MODELS:
            for program in bench_credit._programs(model, 1000, random.Random(1)).values():
                check_program(program)
