"""The damon bench's arithmetic: savings, ratios, intervals, front, page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from mlproxy_damon.bench_arms import hand_scheme, psi_scheme, settings
from mlproxy_damon.bench_command import merged, save
from mlproxy_damon.bench_runs import Plan, order
from mlproxy_damon.bench_streams import cached_objects, key_value, phases
from mlproxy_damon.bench_summary import summarise

MIB = 1 << 20


def row(arm: str, seed: int, resident: int, faults: int, **more: Any) -> dict[str, Any]:
    return {
        "load": "redis", "seed": seed, "arm": arm, "hand_age": 0.0, "operations": 1000,
        "faults_before": 100, "faults": faults, "resident": [resident * MIB] * 4,
        "compressed": [0] * 4, "available": [0] * 4, "target_cpu": 2.0, "kdamond_cpu": 0.0,
        "kswapd_cpu": 0.0, "daemon_cpu": 0.0,
    } | more  # fmt: skip


ROWS = [
    one
    for seed in (1, 2, 3)
    for one in (
        row("none", seed, 100, 0),
        row("mlproxy", seed, 60 + seed, 1, kdamond_cpu=0.5, daemon_cpu=2.5,
            compressed=[10 * MIB] * 4),
        row("hand", seed, 60 + seed, 50),
        row("psi", seed, 30, 900),
    )
]  # fmt: skip


def test_savings_faults_and_work_are_against_none_of_the_same_seed() -> None:
    summary = summarise(ROWS)
    of = summary["workloads"]["redis"]
    ours = of["mlproxy"]
    assert ours["rss_saved"] == pytest.approx(0.38)
    assert ours["rss_saved_interval"] == pytest.approx([0.37, 0.39])
    assert ours["fault_ratio"] == pytest.approx(1.01)
    assert ours["extra_faults"] == pytest.approx(1.0)
    assert ours["ops_ratio"] == pytest.approx(0.8)
    assert ours["ops_ratio_with_daemon"] == pytest.approx(0.4)
    assert ours["memory_saved"] == pytest.approx(0.28)
    assert (of["none"]["rss_saved"], of["none"]["fault_ratio"]) == (0.0, 1.0)
    # As much at more faults is off the front; more at more is not.
    assert {arm: one["pareto"] for arm, one in of.items()} == {
        "none": True, "mlproxy": True, "hand": False, "psi": True
    }  # fmt: skip
    assert (summary["reached"], summary["on_the_front"]) == (1, 1)


def test_a_run_without_none_beside_it_is_left_out() -> None:
    summary = summarise([*ROWS, row("mlproxy", 9, 1, 0)])
    assert summary["workloads"]["redis"]["mlproxy"]["seeds"] == 3


def document(rows: list[dict[str, Any]], **plan: Any) -> dict[str, Any]:
    kept = {
        "loads": ["redis"], "arms": ["none", "mlproxy"], "seeds": [1], "seconds": 60,
        "hand_ages": {}, "free": 0.3, "options": [],
    } | plan  # fmt: skip
    return {"bench": "damon", "kernel": "6.12", "plan": kept, "rows": rows}


def test_documents_of_one_plan_are_put_together() -> None:
    parts = [document(ROWS[:4]), document(ROWS[4:], seeds=[2, 3])]
    together = merged(parts)
    assert len(together["rows"]) == len(ROWS)
    assert together["plan"]["seeds"] == [1, 2, 3]
    assert len(merged([*parts, parts[0]])["rows"]) == len(ROWS)  # a row counts once
    with pytest.raises(click.UsageError):
        merged([document(ROWS), document(ROWS, seconds=61)])


def test_the_page_has_every_competitor(tmp_path: Path) -> None:
    found = document(ROWS)
    found["summary"] = summarise(ROWS)
    save(found, tmp_path)
    page = (tmp_path / "damon.md").read_text()
    assert all(f"| {arm} " in page for arm in ("none", "mlproxy", "hand", "psi"))
    assert json.loads((tmp_path / "damon.json").read_text())["summary"]["reached"] == 1
    assert "<svg" in (tmp_path / "damon-front.svg").read_text()


def test_every_competitor_is_first_once() -> None:
    plan = Plan(Path(), loads=("redis",), hand_ages={"redis": (15.0, 30.0)})
    keys = order(plan)
    assert len(keys) == len(set(keys)) == 5 * 6
    firsts = [next(k[2] for k in keys if k[1] == seed) for seed in plan.seeds]
    assert sorted(firsts) == sorted(plan.arms)


def test_operations_are_those_of_the_seed() -> None:
    one, same, other = (key_value(seed, 10, keys=50, per_tick=4) for seed in (1, 1, 2))
    assert one.keys.tolist() == same.keys.tolist() != other.keys.tolist()
    assert len(one.tick(9)) == 4
    cache = cached_objects(1, 4000, keys=700, per_tick=5, second=4)
    assert cache.keys.min() >= 600
    busy = [len(cache.tick(n)) for n in range(4000)]
    assert set(busy) == {0, 5}
    assert 0.25 < sum(1 for n in busy if n) / 4000 < 0.55
    seen = phases(3, 1000, second=4)
    assert all(new - before == 1 and older < before for new, before, older in seen if before >= 0)


def test_a_scheme_is_what_it_says() -> None:
    hand = dict(settings(hand_scheme(30), 7))
    assert hand["0/contexts/0/schemes/0/access_pattern/age/min"] == "30"
    assert hand["0/contexts/0/monitoring_attrs/intervals/aggr_us"] == "1000000"
    assert "0/contexts/0/schemes/0/quotas/goals/nr_goals" not in hand
    psi = dict(settings(psi_scheme(), 7))
    assert psi["0/contexts/0/schemes/0/quotas/goals/0/target_metric"] == "some_mem_psi_us"
    assert list(psi.items())[-1] == ("0/state", "on")
