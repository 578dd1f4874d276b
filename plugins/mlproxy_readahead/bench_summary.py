"""From rows to ratios with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ("summarise",)

Row = Mapping[str, Any]
RESAMPLES: Final = 2000
SEED: Final = 7
LEVEL: Final = (2.5, 97.5)


class _Cells:
    """Rows of one kind by stream: requests, bytes read, bytes asked; shape (rows, 3)."""

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[int, int, int]]] = defaultdict(list)

    def add(self, row: Row) -> None:
        counts = row["read_requests"], row["read_bytes"], row["asked_bytes"]
        self._found[row["stream"]].append(counts)

    def of(self, stream: str, rng: np.random.Generator | None) -> npt.NDArray[np.float64]:
        rows = np.array(self._found[stream], dtype=np.float64)
        if rng is not None:
            rows = rows[rng.integers(len(rows), size=len(rows))]
        total: npt.NDArray[np.float64] = rows.sum(axis=0)
        return total


def summarise(rows: Sequence[Row], request_bytes: int) -> dict[str, Any]:
    """The numbers of the bench.

    A cost is bytes read plus `request_bytes` per read request, per byte asked. The
    best fixed setting of a stream is the one with the lowest cost over all
    repeats; the best single one has the lowest mean of its costs over the best of
    each stream. Intervals: percentile bootstrap over phases, 95%.

    Args:
        rows: as `bench_runs.run` gives them.
        request_bytes: price of a request.
    """
    ours, cold = _Cells(), _Cells()
    fixed: dict[int, _Cells] = defaultdict(_Cells)
    for row in rows:
        if row["way"] == "fixed":
            fixed[row["setting_kb"]].add(row)
        else:
            cold.add(row)
            if row["counts"]:
                ours.add(row)
    streams = list(dict.fromkeys(row["stream"] for row in rows))
    sample = _sample(ours, cold, fixed, streams, request_bytes, None)
    rng = np.random.default_rng(SEED)
    resampled = [
        _sample(ours, cold, fixed, streams, request_bytes, rng)["numbers"] for _ in range(RESAMPLES)
    ]
    summary: dict[str, Any] = dict(sample["numbers"])
    for key in sample["numbers"]:
        low, high = np.percentile([one[key] for one in resampled], LEVEL)
        summary[f"{key}_interval"] = [float(low), float(high)]
    mine = [row for row in rows if row["way"] == "mlproxy"]
    summary |= {
        "best_fixed_kb": sample["best"],
        "best_single_kb": sample["single"],
        "per_stream": sample["streams"],
        "daemon_cpu_ratio": sum(r["daemon_cpu_seconds"] for r in mine)
        / sum(r["seconds"] for r in mine),
        "phases": sum(bool(r["counts"]) for r in mine),
        "phases_begun_trusted": sum(r["counts"] and r["before"] == "trusted" for r in mine),
    }
    return summary


def _cost(totals: npt.NDArray[np.float64], request_bytes: int) -> float:
    requests, read, asked = totals
    return float((read + request_bytes * requests) / asked)


def _sample(
    ours: _Cells,
    cold: _Cells,
    fixed: Mapping[int, _Cells],
    streams: Sequence[str],
    request_bytes: int,
    rng: np.random.Generator | None,
) -> dict[str, Any]:
    totals = {kb: {s: cells.of(s, rng) for s in streams} for kb, cells in sorted(fixed.items())}
    costs = {kb: {s: _cost(t, request_bytes) for s, t in by.items()} for kb, by in totals.items()}
    best = {s: min((by[s], kb) for kb, by in costs.items())[1] for s in streams}
    relative = {
        kb: float(np.mean([by[s] / costs[best[s]][s] for s in streams])) for kb, by in costs.items()
    }
    single = min(relative, key=lambda kb: relative[kb])
    mine = {s: ours.of(s, rng) for s in streams}
    ratios = {s: _cost(mine[s], request_bytes) / costs[best[s]][s] for s in streams}
    cold_ratios = [_cost(cold.of(s, rng), request_bytes) / costs[best[s]][s] for s in streams]
    numbers = {
        "worst_ratio_best_fixed_per_phase": max(ratios.values()),
        "ratio_best_single_fixed": float(np.mean(list(ratios.values()))) / relative[single],
        "worst_ratio_best_fixed_per_phase_cold": max(cold_ratios),
        "best_single_fixed_worst_ratio": max(costs[single][s] / costs[best[s]][s] for s in streams),
        "least_worst_ratio_of_any_fixed": min(
            max(by[s] / costs[best[s]][s] for s in streams) for by in costs.values()
        ),
    } | {f"ratio_{s}": ratio for s, ratio in ratios.items()}
    per_stream = {
        s: {
            "mlproxy": _counts(mine[s], request_bytes),
            **{f"fixed_{kb}": _counts(by[s], request_bytes) for kb, by in totals.items()},
        }
        for s in streams
    }
    return {"numbers": numbers, "best": best, "single": single, "streams": per_stream}


def _counts(totals: npt.NDArray[np.float64], request_bytes: int) -> dict[str, float]:
    requests, read, asked = totals
    return {
        "requests_per_mib_asked": float(requests / asked * (1 << 20)),
        "bytes_per_byte_asked": float(read / asked),
        "cost": _cost(totals, request_bytes),
    }
