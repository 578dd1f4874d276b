"""From rows to ratios with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ("summarise",)

Row = Mapping[str, Any]
RESAMPLES: Final = 4000
SEED: Final = 7
LEVEL: Final = (2.5, 97.5)
OURS: Final = "mlproxy"
COMPARED: Final = (OURS, "timestamp", "greedy", "cost-benefit")
MEASURES: Final = {"": "copied_per_segment", "_wa": "write_amplification"}


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """The numbers of the bench.

    Runs of one load and repeat (same aged disk, same seed) are compared with each other. A
    load's ratio is the geometric mean over its repeats, since what the arms of one repeat have in
    common cancels. The better of greedy and cost-benefit is found per load, over all repeats.
    Intervals: percentile bootstrap over repeats, 95%.

    Args:
        rows: as `bench_runs.run` gives them; repeats that lack an arm are left out.
    """
    cells: dict[str, dict[int, dict[str, Row]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        cells[row["load"]][row["repeat"]][row["arm"]] = row
    summary: dict[str, Any] = {}
    loads: dict[str, dict[str, Any]] = {}
    for suffix, measure in MEASURES.items():
        logs = {load: _logs(by, measure) for load, by in cells.items()}
        logs = {load: found for load, found in logs.items() if len(found[OURS])}
        names = {load: sorted(found) for load, found in logs.items()}
        rng = np.random.default_rng(SEED)
        if not logs:
            break
        point = _numbers(logs)
        draws = []
        for _ in range(RESAMPLES):
            drawn = {}
            for load, found in logs.items():
                picked = rng.integers(len(found[OURS]), size=len(found[OURS]))
                drawn[load] = {arm: values[picked] for arm, values in found.items()}
            draws.append(_numbers(drawn))
        for key, value in point.items():
            if key.startswith("_"):
                continue
            low, high = np.percentile([draw[key] for draw in draws], LEVEL)
            summary[key + suffix] = float(value)
            summary[f"{key}{suffix}_interval"] = [float(low), float(high)]
        for load in logs:
            of = loads.setdefault(load, {"repeats": len(logs[load][OURS])})
            of[measure] = {arm: float(np.exp(np.mean(logs[load][arm]))) for arm in names[load]}
    summary["loads"] = loads
    summary["best_human"] = {
        load: min(("greedy", "cost-benefit"), key=lambda arm: of["copied_per_segment"][arm])
        for load, of in loads.items()
    }
    ours = [row for row in rows if row["arm"] == OURS]
    summary["runs"] = len(rows)
    summary["trusted_at_the_end"] = sum(row.get("mode") == "trusted" for row in ours)
    summary["acting_at_the_end"] = {
        load: sorted(row.get("acting", "") for row in ours if row["load"] == load) for load in loads
    }
    return summary


def _logs(
    by_repeat: Mapping[int, Mapping[str, Row]], measure: str
) -> dict[str, npt.NDArray[np.float64]]:
    """Arm -> log of a measure by repeat, of complete repeats only."""
    complete = [by for _, by in sorted(by_repeat.items()) if set(by) >= set(COMPARED)]
    # The others stand beside, and are only told of where every repeat has them.
    arms = set.intersection(*(set(by) for by in complete)) if complete else set(COMPARED)
    return {arm: np.log([max(float(by[arm][measure]), 1e-9) for by in complete]) for arm in arms}


def _numbers(
    logs: Mapping[str, Mapping[str, npt.NDArray[np.float64]]],
) -> dict[str, float]:
    means = {
        load: {arm: float(np.mean(values)) for arm, values in by.items()}
        for load, by in logs.items()
    }
    over_timestamp = [m[OURS] - m["timestamp"] for m in means.values()]
    over_human = [m[OURS] - min(m["greedy"], m["cost-benefit"]) for m in means.values()]
    found = {
        "ratio_timestamp": float(np.exp(np.mean(over_timestamp))),
        "worst_ratio_best_human": float(np.exp(max(over_human))),
        "ratio_best_human": float(np.exp(np.mean(over_human))),
        "greedy_ratio_timestamp": float(
            np.exp(np.mean([m["greedy"] - m["timestamp"] for m in means.values()]))
        ),
        "cost_benefit_ratio_timestamp": float(
            np.exp(np.mean([m["cost-benefit"] - m["timestamp"] for m in means.values()]))
        ),
    }
    if all("nilfs_cleanerd" in m for m in means.values()):
        found["nilfs_cleanerd_ratio_timestamp"] = float(
            np.exp(np.mean([m["nilfs_cleanerd"] - m["timestamp"] for m in means.values()]))
        )
    poisoned = [m["poisoned"] - m["timestamp"] for m in means.values() if "poisoned" in m]
    if poisoned:
        found["poisoned_ratio_timestamp"] = float(np.exp(max(poisoned)))
    return found
