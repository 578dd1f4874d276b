"""`mlproxy bench gc`: write amplification of everything on everything.

The set of streams and seeds is fixed here; nothing is left out by its result.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any

from mlproxy_lfs.bench_aa import aa_limit, aa_promotion_rate
from mlproxy_lfs.bench_runs import DEFAULT_POLICY, POLICIES, Job, Row, Scale, run_job
from mlproxy_lfs.poison import Poison
from mlproxy_lfs.workloads import workload_names

__all__ = ("QUICK_WORKLOADS", "Plan", "full_plan", "quick_plan", "run_bench", "summarise")

SEEDS = (1, 2, 3)
GC_BOUND = 1.10
"""A workload whose default write amplification is above this is bound by cleaning."""

QUICK_WORKLOADS = ("sqlite-wal", "mail", "uniform", "zipf-0.99")
POISONS = (
    *(f"poison-{when}-{how}" for when in ("start", "flip") for how in map(str, Poison)),
    # A flip with the check of updates switched off: what the proxy's own guards do.
    "poison-blind-shuffled",
)
EVERYTHING = (*POLICIES, "mlproxy", "default-short", *POISONS)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a bench runs.

    Attributes:
        jobs: workload and seed, with the policies to run.
        aa_runs: seeded runs of model = default.
    """

    jobs: tuple[Job, ...]
    aa_runs: int


def full_plan(
    *,
    workloads: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    traces: Sequence[str] = (),
    policies: Sequence[str] = EVERYTHING,
    scale: Scale | None = None,
    aa_runs: int = 1000,
) -> Plan:
    """All workloads (or the named ones) and own traces, for every seed."""
    kinds = {name: kind for kind, names in workload_names().items() for name in names}
    names = list(workloads) or ([] if traces else list(kinds))
    base = Job("", "recorded", 1, tuple(policies), scale or Scale())
    jobs = [replace(base, workload=n, kind=kinds.get(n, "?"), seed=s) for n in names for s in seeds]
    jobs += [
        replace(base, workload=f"trace-{i + 1}", trace=t, seed=s)
        for i, t in enumerate(traces)
        for s in seeds
    ]
    return Plan(tuple(jobs), aa_runs)


def quick_plan() -> Plan:
    """One seed, a subset of the workloads, a shorter run, one poison of each sort."""
    policies = (
        *POLICIES,
        "mlproxy",
        "default-short",
        "poison-start-inverted",
        "poison-flip-random",
    )
    scale = Scale(capacities=10, poison_capacities=6, flip_at=4.0)
    return full_plan(
        workloads=QUICK_WORKLOADS, seeds=(1,), policies=policies, scale=scale, aa_runs=100
    )


def run_bench(
    plan: Plan, *, processes: int = 2, progress: Callable[[float, str], None] | None = None
) -> dict[str, Any]:
    """Run a plan and return `rows` and `summary`.

    Args:
        plan: what to run.
        processes: how many at a time.
        progress: called with (jobs done, what was done last).

    Raises:
        TraceError: when a workload cannot be loaded.
    """
    tell = progress or (lambda _done, _note: None)
    rows: list[Row] = []
    with ProcessPoolExecutor(processes) as pool:
        futures = {pool.submit(run_job, job): job for job in plan.jobs}
        for done, future in enumerate(as_completed(futures), 1):
            job = futures[future]
            rows += future.result()
            tell(done, f"{job.workload} seed {job.seed}")
        share = math.ceil(plan.aa_runs / processes) if plan.aa_runs else 0
        parts = [
            pool.submit(aa_promotion_rate, range(first, min(first + share, plan.aa_runs)))
            for first in range(0, plan.aa_runs, share or 1)
        ]
        promoted = sum(part.result() for part in parts)
    order = {(j.workload, j.seed): i for i, j in enumerate(plan.jobs)}
    rows.sort(key=lambda r: order[r.workload, r.seed])
    summary = summarise(rows)
    if plan.aa_runs:
        summary["aa_promotion_rate"] = promoted / plan.aa_runs
        summary["aa_runs"] = plan.aa_runs
        summary["aa_limit"] = aa_limit()
    return {"rows": [row.as_dict() for row in rows], "summary": summary}


Table = Mapping[tuple[str, int], Mapping[str, Row]]


def _by_run(rows: Iterable[Row]) -> dict[tuple[str, int], dict[str, Row]]:
    table: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        table.setdefault((row.workload, row.seed), {})[row.policy] = row
    return table


def _geomean(values: Sequence[float]) -> float | None:
    return math.exp(statistics.fmean(map(math.log, values))) if values else None


def gc_bound(rows: Iterable[Row]) -> set[str]:
    """Workloads but uniform whose default is above `GC_BOUND`, in the mean over the seeds."""
    costs: dict[str, list[float]] = {}
    for row in rows:
        if row.policy == DEFAULT_POLICY:
            costs.setdefault(row.workload, []).append(row.wa)
    return {n for n, c in costs.items() if n != "uniform" and statistics.fmean(c) > GC_BOUND}


def _ratios(
    table: Table, of: str, over: Sequence[str], warm: bool = False
) -> dict[tuple[str, int], float]:
    def value(row: Row) -> float:
        return row.wa_warm if warm else row.wa

    return {
        key: value(runs[of]) / min(value(runs[name]) for name in over)
        for key, runs in table.items()
        if of in runs and all(name in runs for name in over)
    }


def _per_workload(ratios: Mapping[tuple[str, int], float]) -> dict[str, float]:
    """Geometric mean over the seeds, per workload."""
    groups: dict[str, list[float]] = {}
    for (workload, _), ratio in ratios.items():
        groups.setdefault(workload, []).append(ratio)
    return {name: _geomean(values) or 1.0 for name, values in groups.items()}


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of docs/results/gc.md from the rows."""
    table = _by_run(rows)
    bound = gc_bound(rows)
    recorded = {row.workload for row in rows if row.kind == "recorded"}
    best = ("greedy", DEFAULT_POLICY)

    def mean(ratios: Mapping[tuple[str, int], float], names: set[str]) -> float | None:
        return _geomean([r for w, r in _per_workload(ratios).items() if w in names])

    victim = _ratios(table, "mlproxy", best)
    sepbit = _ratios(table, "mlproxy", ("sepbit",))
    default = _ratios(table, "mlproxy", (DEFAULT_POLICY,))
    summary: dict[str, Any] = {
        "gc_bound": sorted(bound),
        "ratio_best_victim": mean(victim, bound),
        "ratio_best_victim_recorded": mean(victim, bound & recorded),
        "ratio_best_victim_warm": mean(_ratios(table, "mlproxy", best, warm=True), bound),
        "ratio_sepbit": mean(sepbit, bound),
        "ratio_sepbit_recorded": mean(sepbit, bound & recorded),
        "ratio_sepbit_warm": mean(_ratios(table, "mlproxy", ("sepbit",), warm=True), bound),
        "worst_ratio_default": max(default.values(), default=None),
        "worst_ratio_default_workload": max(default, key=lambda k: default[k], default=("", 0))[0],
        "oracle_gap_closed": _gap_closed(table, bound),
        "per_workload": {
            name: {"best_victim": ratio, "sepbit": _per_workload(sepbit).get(name)}
            for name, ratio in sorted(_per_workload(victim).items())
        },
    }
    summary.update(_poison(table))
    return summary


def _gap_closed(table: Table, bound: set[str]) -> float | None:
    """Mean share of the way from the default to clairvoyant placement."""
    shares = [
        (runs[DEFAULT_POLICY].wa - runs["mlproxy"].wa)
        / (runs[DEFAULT_POLICY].wa - runs["clairvoyant"].wa)
        for (workload, _), runs in table.items()
        if workload in bound and {"mlproxy", "clairvoyant", DEFAULT_POLICY} <= runs.keys()
    ]
    return statistics.fmean(shares) if shares else None


def _poison(table: Table) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for when in ("start", "flip", "blind"):
        worst = {
            name.rsplit("-", 1)[1]: max(ratios.values())
            for name in POISONS
            if f"-{when}-" in name and (ratios := _ratios(table, name, ("default-short",)))
        }
        found[f"poison_{when}"] = max(worst.values(), default=None)
        found[f"poison_{when}_by_kind"] = worst
    flips = [
        row
        for runs in table.values()
        for row in runs.values()
        if row.trusted_at_flip and "-blind-" not in row.policy
    ]
    after = [r.out_after for r in flips if r.out_after is not None]
    found["poison_flip_out_after_by_kind"] = {
        kind: max(
            (r.out_after for r in flips if r.out_after is not None and r.policy.endswith(kind)),
            default=None,
        )
        for kind in map(str, Poison)
    }
    found["poison_flip_trusted"] = len(flips)
    found["poison_flip_still_trusted"] = sum(r.out_after is None for r in flips)
    found["poison_flip_out_after_max"] = max(after, default=None)
    return found
