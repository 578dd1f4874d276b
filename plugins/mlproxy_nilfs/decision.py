"""The decision: its proxy, what is predicted, and the candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mlproxy.learn import (
    ArbitrationPolicy,
    CandidateRecipe,
    DecisionSpec,
    FeatureSpec,
    Policy,
    StreamSpec,
    bandit,
    htr,
    linear,
)
from mlproxy.proxy import Kind, Program, ProgramNode, ProxyConfig, Trial
from mlproxy_nilfs.options import COST_UNIT, PROXY
from mlproxy_nilfs.pool import FEATURES

__all__ = ("ARBITRATION", "HAND_WRITTEN", "LEARNED", "SPEC", "WINDOWS", "proxy_config", "recipes")

HAND_WRITTEN: Final = ("cost-benefit", "greedy")
"""What the bandit chooses among, in order of preference among equals."""
LEARNED: Final = ("htr", "linear")
WINDOWS: Final = 50
"""Windows per capacity written."""
_TOP: Final = 16 * 32
_PERCENT: Final = ("live_percent", "lost_percent", "copied_percent", "metadata_percent")

SPEC: Final = DecisionSpec(
    PROXY,
    (
        StreamSpec(
            "segment",
            tuple(
                FeatureSpec(
                    name,
                    0,
                    100 if name in _PERCENT else _TOP,
                    # The prior, which makes it cost-benefit: an old segment's data lives on.
                    1 / 16 if name == "segment_age" else 0.0,
                )
                for name in FEATURES
            ),
            prior=0.0,
            classes=0,
        ),
    ),
    label_scale=256,
    label_low=0.0,
    label_high=32.0,
)
"""Predicted is how long a segment's living blocks live on: log2 of blocks written until all but
1/e of them are dead."""

ARBITRATION: Final = ArbitrationPolicy(
    warmup_labels=128,
    # Over about a capacity: segments that one way saves up are another's harvest.
    cost_fading=0.98,
    min_cost_windows=6,
    # Keeping a model out is the proxy's business; here it would only flap.
    cost_margin=0.1,
    switch_margin=0.01,
    dwell_labels=64,
    decide_every=16,
    max_seconds_per_label=0.05,
)


def _constant(action: int) -> Program:
    return Program((ProgramNode(-1, action, confidence=1000),), nr_features=len(FEATURES))


def recipes() -> Sequence[CandidateRecipe]:
    """The candidates, in order of preference among equals."""
    arms = [Policy(name, {0: _constant(n)}) for n, name in enumerate(HAND_WRITTEN)]
    return (
        bandit(arms, fading=ARBITRATION.cost_fading),
        htr(grace_period=60),
        linear(),
    )


def proxy_config(seed: int, capacity: int, segments: int) -> ProxyConfig:
    """The proxy's safety numbers.

    Args:
        seed: of the trial.
        capacity: blocks of the file system; times are blocks written.
        segments: of the file system.
    """
    return ProxyConfig(
        PROXY,
        Kind.RANK,
        # One pool has one history: the twins compare, the share only limits the harm.
        trial=Trial.PARTITION,
        seed=seed,
        max=segments - 1,
        twin_gate=1,
        alpha=100_000,
        noise_levels=2,
        min_effect=10_000,
        min_count=8,
        dwell=capacity // 50,
        # Blocks, not seconds: who does not learn any more must not choose any more.
        heartbeat_limit=capacity // 2,
        max_expiry=capacity,
        reject_window=capacity // 10,
        spike=150_000,
        spike_count=3,
        budget=round(16 * COST_UNIT),
        cooldown=capacity // 4,
        cooldown_max=4 * capacity,
    )
