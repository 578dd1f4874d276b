"""From rows to savings, faults and work, with intervals, and who is on the Pareto front."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ("MEASURES", "summarise")

Row = Mapping[str, Any]
RESAMPLES: Final = 4000
SEED: Final = 7
LEVEL: Final = (2.5, 97.5)
MEASURES: Final = (
    *("rss_saved", "fault_ratio", "ops_ratio", "ops_ratio_with_daemon"),
    *("memory_saved", "extra_faults"),
)


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """The numbers of the bench.

    A run is compared with the one of `none` of the same workload and seed, and the mean is
    taken over seeds. Intervals: percentile bootstrap over seeds, 95%.

    * rss_saved: share of the program's RSS that is gone, mean over the seconds of the run.
    * memory_saved: the same, with what the compressed swap takes added to what is left.
    * fault_ratio: major faults per operation over those of `none`, in the program's whole
      life: from its start, over being filled, to the last operation.
    * extra_faults: major faults while operations run, per 1,000 operations, less `none`'s.
    * ops_ratio: operations per second of processor time of the program, kdamond and kswapd,
      over those of `none`; ops_ratio_with_daemon: of the daemon, too.
    * pareto: no other competitor saves more (rss_saved) at a fault_ratio as low, by the means.

    Args:
        rows: as `bench_runs.run` gives them.
    """
    cells: dict[str, dict[int, dict[str, Row]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        cells[row["load"]][row["seed"]][row["arm"]] = row
    rng = np.random.default_rng(SEED)
    workloads = {load: _workload(by, rng) for load, by in cells.items()}
    ours = {load: found["mlproxy"] for load, found in workloads.items() if "mlproxy" in found}
    reached = [o["rss_saved"] >= 0.2 and o["fault_ratio"] <= 1.012 for o in ours.values()]
    return {
        "workloads": workloads,
        "reached": int(sum(reached)),
        "on_the_front": int(sum(one["pareto"] for one in ours.values())),
        "runs": len(rows),
    }


def _workload(by_seed: Mapping[int, Mapping[str, Row]], rng: np.random.Generator) -> dict[str, Any]:
    arms = sorted({arm for by in by_seed.values() for arm in by if "none" in by})
    found: dict[str, Any] = {}
    for arm in arms:
        pairs = [
            (by[arm], by["none"]) for _, by in sorted(by_seed.items()) if {arm, "none"} <= {*by}
        ]
        values = np.array([_measures(one, base) for one, base in pairs])
        drawn = values[rng.integers(len(pairs), size=(RESAMPLES, len(pairs)))].mean(axis=1)
        mean = values.mean(axis=0)
        low, high = np.percentile(drawn, LEVEL, axis=0)
        found[arm] = {"seeds": len(pairs)}
        for number, name in enumerate(MEASURES):
            found[arm][name] = float(mean[number])
            found[arm][f"{name}_interval"] = [float(low[number]), float(high[number])]
    for one in found.values():
        one["pareto"] = not any(_dominates(other, one) for other in found.values())
    return found


def _dominates(other: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    more, fewer = other["rss_saved"] - one["rss_saved"], one["fault_ratio"] - other["fault_ratio"]
    return bool(more >= 0 and fewer >= 0 and (more > 0 or fewer > 0))


def _measures(row: Row, base: Row) -> npt.NDArray[np.float64]:
    resident, usual = (np.array(one["resident"], float).mean() for one in (row, base))
    compressed = np.array(row["compressed"], float).mean() - np.mean(base["compressed"])
    faults, usual_faults = (
        (one["faults"] + one["faults_before"]) / one["operations"] for one in (row, base)
    )
    extra = row["faults"] / row["operations"] - base["faults"] / base["operations"]
    ratios = [
        row["operations"] / _cpu(row, *more) / (base["operations"] / _cpu(base, *more))
        for more in ((), ("daemon",))
    ]
    return np.array(
        [
            1 - resident / usual,
            faults / usual_faults,
            *ratios,
            1 - (resident + compressed) / usual,
            1000 * extra,
        ]
    )


def _cpu(row: Row, *more: str) -> float:
    return float(sum(row[f"{name}_cpu"] for name in ("target", "kdamond", "kswapd", *more)))
