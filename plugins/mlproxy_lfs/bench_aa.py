"""A/A runs: the model is the default. How often is it promoted all the same?

Two small stores clean the same skewed stream under the default policy, each
with its scores dithered by up to 2%, so that they choose different victims and
none is better. What differs is the noise of real cleaning, with its correlation
in time. It is reported to a proxy with the configuration of the placement decision.
"""

from __future__ import annotations

from collections.abc import Iterable

from mlproxy.proxy import InProcessProxy, Mode
from mlproxy_lfs.decisions import COST_UNIT, placement_config
from mlproxy_lfs.engine import Engine, Geometry
from mlproxy_lfs.workloads import load_workload

__all__ = ("aa_limit", "aa_promotion_rate", "aa_run")

STREAMS = ("zipf-0.99", "hot-cold", "mixed", "shifting")
SMALL = Geometry(segments=256, segment_blocks=64)
CAPACITIES = 8
WINDOWS = 50
"""Windows per capacity, as in the steered system."""


def aa_limit() -> float:
    """The configured false-promotion rate."""
    return placement_config(SMALL.capacity, 1).alpha / 1e6


def aa_run(seed: int) -> bool:
    """Whether the model got any real operation in one run."""
    capacity = SMALL.capacity
    stream = STREAMS[seed % len(STREAMS)]
    workload = load_workload(stream, seed=seed, capacity=capacity, total=CAPACITIES * capacity)
    engine = Engine(workload, seed=seed)
    stores = [engine.add_store(SMALL) for _ in range(2)]
    for store in stores:
        engine.set_dither(store, 2 * seed + store + 1)
    proxy = InProcessProxy(placement_config(capacity, seed), capacity=1024)
    proxy.start(0)
    before = [engine.stats(store) for store in stores]
    for window in range(1, CAPACITIES * WINDOWS + 1):
        engine.run(window * capacity // WINDOWS)
        after = [engine.stats(store) for store in stores]
        pairs = [a.since(b) for a, b in zip(after, before, strict=True)]
        before = after
        now = engine.clock
        if all(moved for _, moved in pairs):
            costs = [COST_UNIT + moved * COST_UNIT // user for user, moved in pairs]
            proxy.report_twin(costs[0], costs[1], now)
        proxy.heartbeat(now)
        proxy.tick(now)
        snapshot = proxy.snapshot(now)
        if snapshot.mode > Mode.LEARNING or snapshot.mode_seq > 1:
            return True
    return False


def aa_promotion_rate(seeds: Iterable[int]) -> int:
    """How many of the seeded runs were promoted."""
    return sum(aa_run(seed) for seed in seeds)
