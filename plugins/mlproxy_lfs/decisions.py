"""The two decisions of a log-structured store: what is learned, and how it is guarded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlproxy.learn import (
    ArbitrationPolicy,
    CandidateRecipe,
    DecisionSpec,
    FeatureSpec,
    Policy,
    StreamSpec,
    bandit,
    hatr,
    htr,
    linear,
)
from mlproxy.proxy import Kind, ProxyConfig, Trial
from mlproxy_lfs import policies
from mlproxy_lfs.engine import LOGS, Feature, Victim, log16

__all__ = (
    "COST_UNIT",
    "PLACEMENT",
    "VICTIM",
    "VICTIM_CHOICES",
    "arbitration",
    "placement_config",
    "placement_recipes",
    "placement_spec",
    "victim_config",
    "victim_recipes",
    "victim_spec",
)

PLACEMENT = "lfs-placement"
VICTIM = "lfs-victim"
COST_UNIT = 1_000_000
"""A cost of one block written per user block, in the proxies' fixed point."""

VICTIM_CHOICES = (Victim.LAST_INVALID, Victim.F2FS_MIX)
LABEL_SCALE = 256


def _features(stream: int, capacity: int) -> tuple[FeatureSpec, ...]:
    """All features, in ring order; the ones a stream does not have are constant 0."""
    top = log16([4 * capacity])[0]
    slow = 1 / 16
    ranges = {
        Feature.SIZE: (0, log16([capacity])[0], 0.0),
        Feature.RUN: (0, log16([4096])[0], 0.0),
        Feature.NEW: (0, 1, 0.0),
        Feature.ORIGIN: (0, LOGS, 0.0),
        # The prior: what lived long lives long; what is old stays.
        Feature.LIFE: (0, top, slow if stream == policies.USER else 0.0),
        Feature.AGE: (0, top, slow if stream == policies.GC else 0.0),
    }
    return tuple(
        FeatureSpec(
            f.name.lower(), *ranges.get(f, (0, top, 0.0))[:2], ranges.get(f, (0, 0, 0.0))[2]
        )
        for f in Feature
    )


def placement_spec(capacity: int) -> DecisionSpec:
    """Predict log2 of the remaining lifetime, in user block writes; three classes each."""
    return DecisionSpec(
        PLACEMENT,
        tuple(
            StreamSpec(name, _features(stream, capacity), prior=0.0, classes=3)
            for stream, name in ((policies.USER, "user"), (policies.GC, "gc"))
        ),
        label_scale=LABEL_SCALE,
        label_low=0.0,
        label_high=32.0,
    )


def placement_recipes(
    capacity: int, sepbit_life: Callable[[], int]
) -> tuple[list[CandidateRecipe], list[Policy]]:
    """The candidates of the placement decision, and the bandit's policies."""
    hand_written = [
        Policy("sepbit", lambda: policies.sepbit(sepbit_life())),
        Policy("tenant-split", policies.tenant_split(capacity)),
    ]
    recipes = [
        htr(),
        hatr(),
        linear(),
        bandit(hand_written),
    ]
    return recipes, hand_written


def victim_spec() -> DecisionSpec:
    """Choose among hand-written victim policies; nothing is predicted."""
    stream = StreamSpec("epoch", (FeatureSpec("none", 0, 1),), classes=0)
    return DecisionSpec(VICTIM, (stream,))


def victim_recipes(choices: Sequence[Victim] = VICTIM_CHOICES) -> list[CandidateRecipe]:
    """A bandit over `choices`, each a program that always answers its number."""
    arms = [Policy(v.name.lower(), {0: policies.constant(0, int(v))}) for v in choices]
    return [bandit(arms)]


def arbitration() -> ArbitrationPolicy:
    """Measured cost over about 50 windows decides; a switch must be worth 3%."""
    return ArbitrationPolicy(
        cost_fading=0.98,
        min_cost_windows=10,
        # Keeping a model out is the proxy's business; here it would only flap.
        cost_margin=0.1,
        switch_margin=0.03,
        dwell_labels=500,
        decide_every=128,
        max_seconds_per_label=0.02,
    )


def _guards(capacity: int) -> dict[str, int]:
    """What both proxies have in common: twin gate, test and guards, in block writes."""
    return {
        "twin_gate": 1,
        "alpha": 100_000,
        "noise_levels": 2,
        "min_effect": 10_000,
        "min_count": 8,
        "dwell": capacity // 20,
        "heartbeat_limit": capacity // 2,
        "max_expiry": capacity,
        "reject_window": capacity // 10,
        "spike": 150_000,
        "spike_count": 3,
        "budget": 4 * COST_UNIT,
        "cooldown": capacity // 4,
        "cooldown_max": 4 * capacity,
    }


def placement_config(capacity: int, seed: int) -> ProxyConfig:
    """Times are user block writes; see docs/explanation/steering-a-log-structured-store.md."""
    return ProxyConfig(
        name=PLACEMENT,
        kind=Kind.PROGRAM,
        trial=Trial.PARTITION,
        seed=seed,
        nr_features=len(Feature),
        nr_streams=2,
        min=0,
        max=LOGS - 1,
        sample_every=256,
        **_guards(capacity),
    )


def victim_config(capacity: int, seed: int) -> ProxyConfig:
    """One pool has one victim at a time: whole epochs of a capacity alternate."""
    return ProxyConfig(
        name=VICTIM,
        kind=Kind.CHOICE,
        trial=Trial.SWITCHBACK,
        seed=seed,
        min=0,
        max=len(Victim) - 1,
        epoch=capacity,
        **_guards(capacity),
    )
