"""What a trial inside one shared pool says of a model, against what is true.

    python -m mlproxy_lfs.bench_credit [--json FILE] [--processes N]

A proxy in partition mode gives a fixed share of a store's blocks to a model,
the rest to the default; both write into one pool and clean it together. Each
relocation is charged to the arm that placed the block. The ratio of the arms'
costs is compared with the truth (a store with the model alone against one with
the default alone) and with twins. See docs/explanation/credit-in-a-shared-pool.md.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mlproxy.proxy import (
    InProcessProxy,
    Kind,
    Mode,
    Program,
    ProxyConfig,
    Reason,
    Recommendation,
    Trial,
)
from mlproxy_lfs import policies
from mlproxy_lfs.engine import LOGS, Engine, Feature, Geometry, Placement
from mlproxy_lfs.poison import Poison, comb, poisoned
from mlproxy_lfs.workloads import load_workload

__all__ = ("MODELS", "Plan", "Result", "measure", "run_bench", "table")

Programs = Mapping[int, Program]

MODELS = ("same", "sepbit", "inverted", "random", "one-log", "shuffle")
"""`same` does what the default does, in logs of its own; `sepbit` is SepBIT, `inverted` has its
classes turned round, `random` has them drawn anew at each publication; `one-log` separates nothing;
`shuffle` spreads blocks of like lifetime over three logs, and relocated ones among new ones."""
WARM = 3
"""Capacities before costs are counted."""
REFRESH = 0.1
"""Capacities between two publications of a model."""
SURE = 0.02
"""Smaller true effects have no sign that could be right or wrong."""
TWIN_SHARE = 8
TWINS = 6


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run; every combination of workload, seed, model, share and salt."""

    workloads: tuple[str, ...] = ("zipf-0.99", "hot-cold", "mixed", "sqlite-wal", "mail")
    models: tuple[str, ...] = MODELS
    shares: tuple[int, ...] = (50_000, 500_000, 950_000)
    seeds: tuple[int, ...] = (1, 2)
    salts: int = 4
    capacities: int = 8
    geometry: Geometry = field(default_factory=lambda: Geometry(segments=1024, segment_blocks=64))


@dataclass(frozen=True, slots=True)
class Result:
    """One workload, seed and model; ratios are model / default, below 1 is better.

    Attributes:
        workload: its name.
        seed: of the stream.
        model: one of `MODELS`.
        default: blocks written per user block when the default has the whole store.
        truth: ratio of whole stores.
        twins: ratio of each pair of twins.
        pool: share in parts per million -> ratio of the arms, per salt of the partition.
        harm: the same -> cost of the whole pool / `default`, per salt.
    """

    workload: str
    seed: int
    model: str
    default: float
    truth: float
    twins: tuple[float, ...]
    pool: Mapping[int, tuple[float, ...]]
    harm: Mapping[int, tuple[float, ...]]


def _programs(model: str, life: int, rng: random.Random) -> Programs:
    honest = policies.sepbit(life)
    match model:
        case "same":
            return {stream: policies.constant(stream, 0) for stream in honest}
        case "sepbit":
            return honest
        case "shuffle":
            return {stream: comb(stream) for stream in honest}
        case "one-log":
            return {s: poisoned(p, Poison.MYOPIC, rng) for s, p in honest.items()}
        case _:
            return {s: poisoned(p, Poison(model), rng) for s, p in honest.items()}


def _steps(plan: Plan) -> list[int]:
    capacity = plan.geometry.capacity
    count = round(plan.capacities / REFRESH)
    return [round(capacity * plan.capacities * k / count) for k in range(1, count + 1)]


def measure(plan: Plan, name: str, seed: int) -> list[Result]:
    """Run everything of one workload and seed.

    Raises:
        TraceError: when there is no such workload.
        StoreError: `lfs.full` when a model fills the store.
    """
    capacity = plan.geometry.capacity
    total = plan.capacities * capacity
    workload = load_workload(name, seed=seed, capacity=capacity, total=total)
    # SepBIT's lifespan over time, from a store of its own; all models' thresholds follow it.
    engine = Engine(workload, seed=seed)
    sepbit = engine.add_store(plan.geometry, placement=Placement.SEPBIT)
    lives = [capacity]
    for until in _steps(plan):
        engine.run(until)
        lives.append(min(engine.stats(sepbit).sepbit_life, capacity))
    results = []
    for model in plan.models:
        rng = random.Random(f"{model}:{seed}")
        schedule = [_programs(model, life, rng) for life in lives]
        default, truth, twins = _whole(plan, Engine(workload, seed=seed), schedule)
        pools = {
            share: [
                _pool(plan, Engine(workload, seed=seed), schedule, share, 1000 * seed + salt)
                for salt in range(plan.salts)
            ]
            for share in plan.shares
        }
        results.append(
            Result(
                workload=name,
                seed=seed,
                model=model,
                default=default,
                truth=truth / default,
                twins=twins,
                pool={share: tuple(ratio for ratio, _ in runs) for share, runs in pools.items()},
                harm={share: tuple(c / default for _, c in runs) for share, runs in pools.items()},
            )
        )
    return results


def _whole(
    plan: Plan, engine: Engine, schedule: Sequence[Programs]
) -> tuple[float, float, tuple[float, ...]]:
    """Costs of default and model with a store each, and the ratios of `TWINS` pairs of twins."""
    small = plan.geometry.shrunk(TWIN_SHARE)
    pairs = []
    for slice_ in (-1, *range(TWINS)):
        geometry, share = (plan.geometry, 1) if slice_ < 0 else (small, TWIN_SHARE)
        pairs.append(
            [
                engine.add_store(geometry, share=share, slice_=max(slice_, 0), placement=placement)
                for placement in (Placement.TWO_LOGS, Placement.PROGRAM)
            ]
        )
    stores = [store for pair in pairs for store in pair]
    before = [engine.stats(store) for store in stores]
    for until, programs in zip(_steps(plan), schedule, strict=False):
        for _, store in pairs:
            for program in programs.values():
                engine.set_program(store, program)
        engine.run(until)
        if until <= WARM * plan.geometry.capacity:
            before = [engine.stats(store) for store in stores]
    costs = [
        engine.stats(store).amplification(mark) for store, mark in zip(stores, before, strict=True)
    ]
    ratios = [m / d for d, m in zip(costs[::2], costs[1::2], strict=True)]
    return costs[0], costs[1], tuple(ratios[1:])


def _pool(
    plan: Plan, engine: Engine, schedule: Sequence[Programs], share: int, salt: int
) -> tuple[float, float]:
    """Ratio of the arms' costs in one pool, and the pool's cost."""
    proxy = InProcessProxy(_config(plan, share, salt), capacity=1024)
    store = engine.add_store(plan.geometry, placement=Placement.PROXY)
    engine.connect(proxy)
    proxy.start(0)
    before = engine.stats(store)
    seq = 0
    for until, programs in zip(_steps(plan), schedule, strict=False):
        for program in programs.values():
            seq += 1
            refused = proxy.submit(
                Recommendation(Kind.PROGRAM, seq, 1 << 40, 1, 1, program=program), engine.clock
            )
            assert not refused, refused
        proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR_OVERRIDE, engine.clock)
        engine.run(until)
        if until <= WARM * plan.geometry.capacity:
            before = engine.stats(store)
    after = engine.stats(store)
    default, model = (
        1
        + (after.moved_by_arm[arm] - before.moved_by_arm[arm])
        / (after.user_by_arm[arm] - before.user_by_arm[arm])
        for arm in (0, 1)
    )
    return model / default, after.amplification(before)


def _config(plan: Plan, share: int, salt: int) -> ProxyConfig:
    """A partition with this share for the model; nothing demotes it."""
    return ProxyConfig(
        name="credit",
        kind=Kind.PROGRAM,
        trial=Trial.PARTITION,
        seed=salt + 1,
        nr_features=len(Feature),
        nr_streams=2,
        max=LOGS - 1,
        share_learning=min(share, 50_000),
        share_collaboration=share,
        share_trusted=share,
        max_expiry=1 << 50,
        epoch=plan.geometry.capacity,
    )


def run_bench(plan: Plan, processes: int = 1) -> list[Result]:
    """Measure all workloads and seeds, in their order."""
    jobs = [(plan, name, seed) for name in plan.workloads for seed in plan.seeds]
    with ProcessPoolExecutor(processes) as pool:
        return [r for results in pool.map(measure, *zip(*jobs, strict=True)) for r in results]


def _geomean(values: Iterable[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def _spread(values: Sequence[float]) -> str:
    return f"{_geomean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def table(results: Sequence[Result]) -> str:
    """Markdown: per workload and model, then the estimators' records."""
    shares = sorted(results[0].pool)
    heads = [f"pool {share / 1e4:g}%" for share in shares]
    costs = [f"cost at {share / 1e4:g}%" for share in shares]
    lines = ["|".join(["", "stream", "model", "truth", "twins", *heads, *costs, ""])]
    lines.append("|---" * (4 + 2 * len(shares)) + "|")
    groups: dict[tuple[str, str], list[Result]] = {}
    for r in results:
        groups.setdefault((r.workload, r.model), []).append(r)
    for (workload, model), rows in groups.items():
        cells = [workload, model, f"{_geomean(r.truth for r in rows):.2f}"]
        cells.append(_spread([t for r in rows for t in r.twins]))
        cells += [_spread([v for r in rows for v in r.pool[share]]) for share in shares]
        cells += [f"{_geomean(v for r in rows for v in r.harm[share]):.2f}" for share in shares]
        lines.append("|" + "|".join(cells) + "|")
    lines += ["", *_summary(results, shares)]
    return "\n".join(lines)


def _summary(results: Sequence[Result], shares: Sequence[int]) -> list[str]:
    """How often each estimator was right, and how far off."""
    same = {(r.workload, r.seed): r for r in results if r.model == "same"}
    estimates: dict[str, list[tuple[Result, float]]] = {
        "twin": [(r, value) for r in results for value in r.twins]
    }
    for share in shares:
        name = f"pool {share / 1e4:g}%"
        estimates[name] = [(r, value) for r in results for value in r.pool[share]]
        estimates[f"{name} / its own A/A"] = [
            (r, value / usual)
            for r in results
            if (aa := same.get((r.workload, r.seed))) and r is not aa
            for value, usual in zip(r.pool[share], aa.pool[share], strict=True)
        ]
    lines = ["|estimator|sign right|mean error|effect seen|A/A beyond 2%|beyond 10%|"]
    lines.append("|---" * 6 + "|")
    for name, pairs in estimates.items():
        sure = [(v, r.truth) for r, v in pairs if r.model != "same" and abs(r.truth - 1) >= SURE]
        if not sure:
            continue
        right = sum((v < 1) == (t < 1) for v, t in sure)
        error = statistics.fmean(abs(math.log(v / t)) for v, t in sure)
        # Least squares through the origin: 100% when effects have their true size.
        size = sum(math.log(v) * math.log(t) for v, t in sure) / sum(
            math.log(t) ** 2 for _, t in sure
        )
        aa_errors = [abs(v - 1) for r, v in pairs if r.model == "same"]
        beyond = [
            f"{sum(e > limit for e in aa_errors)} of {len(aa_errors)}" if aa_errors else "-"
            for limit in (0.02, 0.1)
        ]
        cells = [
            name,
            f"{right} of {len(sure)}",
            f"{math.expm1(error):.0%}",
            f"{size:.0%}",
            *beyond,
        ]
        lines.append("|" + "|".join(cells) + "|")
    return lines


def main() -> None:
    """Run the standard plan and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write every single number here")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    results = run_bench(Plan(), options.processes)
    if options.json:
        rows = [asdict(r) for r in results]
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
