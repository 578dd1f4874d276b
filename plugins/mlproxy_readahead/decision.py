"""The decision: its proxy, what a window cost, and what is known when a setting is chosen."""

from __future__ import annotations

import math
from typing import Final

from mlproxy.learn import DecisionSpec, FeatureSpec, StreamSpec
from mlproxy.proxy import Kind, ProxyConfig, Trial
from mlproxy_readahead.demand import Demand
from mlproxy_readahead.device import Counters
from mlproxy_readahead.options import PROXY

__all__ = (
    "SECOND",
    "SPEC",
    "Context",
    "context_of",
    "cost_of",
    "proxy_config",
    "row_of",
)

SECOND: Final = 1_000_000_000
KIB: Final = 1024
MOST_COST: Final = 32.0

Context = tuple[int, int, int]
"""Depth in a run, length of a call (both log2 KiB in sixteenths), mapped share (percent)."""


def cost_of(spent: Counters, demand: Demand, request_bytes: int) -> float:
    """What was read over what had to be read.

    Requests are counted as `request_bytes` each. The least that any setting
    could do is every byte asked for, read once, with one request per run. So 1 is
    perfect, whatever programs do: windows of busy and idle, sequential and random
    times can be compared, which a cost per byte could not.

    Args:
        spent: what the device did in the window.
        demand: what programs asked for in it; some.
        request_bytes: price of a request.
    """
    least = demand.asked_bytes + request_bytes * demand.runs
    return min((spent.read_bytes + request_bytes * spent.requests) / least, MOST_COST)


def context_of(demand: Demand) -> Context:
    """The shape of a demand, quantised; none of it depends on the setting in force."""
    accesses = max(1.0, demand.accesses)
    return (
        round(16 * demand.depth / max(1.0, demand.pages)),
        _log(demand.asked_bytes / accesses),
        round(100 * demand.mapped / accesses),
    )


def _log(size: float) -> int:
    return round(16 * math.log2(1 + size / KIB))


def row_of(context: Context, setting_kb: int) -> dict[int, int]:
    """Features of a label: what programs do, the setting, and their products.

    The products let a linear model prefer another setting in another context.
    """
    depth, call, mapped = context
    setting = _log(setting_kb * KIB)
    return dict(
        enumerate(
            (
                depth,
                call,
                mapped,
                setting,
                setting * setting // 16,
                depth * setting // 16,
                mapped * setting // 16,
                call * setting // 16,
                max(0, setting - depth),  # what is read beyond a run is waste
            )
        )
    )


_FEATURES = (
    FeatureSpec("depth", 0, 160),
    FeatureSpec("call", 0, 192),
    FeatureSpec("mapped", 0, 100),
    FeatureSpec("setting", 0, 208),
    FeatureSpec("setting_squared", 0, 2704),
    FeatureSpec("depth_setting", 0, 2080),
    FeatureSpec("mapped_setting", 0, 1300),
    FeatureSpec("call_setting", 0, 2496),
    FeatureSpec("beyond", 0, 208),
)

SPEC: Final = DecisionSpec(
    PROXY,
    # classes=0: what is predicted is compared between settings, not cut into classes.
    (StreamSpec("window", _FEATURES, prior=1.0, classes=0),),
    label_scale=1024,
    label_low=0.0,
    label_high=MOST_COST,
)


def proxy_config(seed: int, settings: int, epoch_seconds: float) -> ProxyConfig:
    """The proxy's safety numbers.

    A wrong setting lasts an epoch and leaves nothing behind, so the trial may be
    larger and quicker than where a mistake stays: two in five epochs from the start,
    for pairs need both arms, and few that the model must not have at the end.
    """
    return ProxyConfig(
        PROXY,
        Kind.CHOICE,
        trial=Trial.SWITCHBACK,
        seed=seed,
        max=settings - 1,
        share_learning=400_000,
        share_trusted=990_000,
        epoch=round(epoch_seconds * SECOND),
        epoch_settle=200_000,
        # Epochs forget: noise does not hang together over many of them.
        noise_levels=3,
        min_effect=20_000,
        dwell=5 * SECOND,
        heartbeat_limit=2 * SECOND,
        max_expiry=60 * SECOND,
        # The default itself varies by half between kinds of work; harm is more.
        spike=1_000_000,
        spike_count=4,
        cooldown=5 * SECOND,
        cooldown_max=300 * SECOND,
    )
