"""The decision: its settings, its proxy, what is known when one is chosen, what it cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mlproxy.learn import DecisionSpec, FeatureSpec, StreamSpec
from mlproxy.proxy import Kind, ProxyConfig, Trial
from mlproxy_damon.options import PROXY
from mlproxy_damon.reuse import Reuse

__all__ = (
    "MEMORY",
    "MOST_LABEL",
    "SECOND",
    "SPEC",
    "STRAIN",
    "Context",
    "Setting",
    "ladder",
    "proxy_config",
    "reuse_of",
    "row_of",
    "takeable",
)

SECOND: Final = 1_000_000_000
MEMORY: Final = 0
"""Stream: share of the program's memory that is resident after a window, in eighths."""
STRAIN: Final = 1
"""Stream: faults that reclaim cost in a window over those allowed, up to 8."""
MOST_LABEL: Final = 8.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One rung of the ladder.

    Attributes:
        min_age: seconds without an access; infinite: nothing is reclaimed.
        quota_bytes: in a second.
    """

    min_age: float
    quota_bytes: int


@dataclass(frozen=True, slots=True)
class Context:
    """What is known when a setting is chosen.

    Attributes:
        whole: bytes of the program, in memory or out.
        out: share of it that is out, 0..1.
        idle: per age of the grid, ascending: share not used for so long.
        strain: faults of the last windows over those allowed.
        reuse: per age of the grid, ascending: what is known of memory that has rested.
        allowed: faults in a second that reclaim may cost.
    """

    whole: int
    out: float
    idle: tuple[float, ...]
    strain: float
    reuse: tuple[Reuse, ...] = ()
    allowed: float = 0.0


def ladder(ages: Sequence[float], quota_bytes: int, shares: Sequence[float]) -> list[Setting]:
    """The settings from cautious to eager; the first reclaims nothing.

    Example:
        >>> [(s.min_age, s.quota_bytes >> 20) for s in ladder([2, 8], 64 << 20, [0.5, 1])]
        [(inf, 64), (8, 32), (8, 64), (2, 32), (2, 64)]
    """
    rungs = [Setting(math.inf, quota_bytes)]
    for age in sorted(ages, reverse=True):
        rungs += [Setting(age, max(4096, round(quota_bytes * share))) for share in sorted(shares)]
    return rungs


def _log(value: float, most: int) -> int:
    return min(most, round(16 * math.log2(1 + value)))


def takeable(context: Context, setting: Setting, ages: Sequence[float], seconds: float) -> float:
    """Share of the program that a setting can take out in a window."""
    if math.isinf(setting.min_age) or not context.whole:
        return 0.0
    idle = context.idle[sorted(ages).index(setting.min_age)]
    return min(max(0.0, idle - context.out), setting.quota_bytes * seconds / context.whole)


def reuse_of(context: Context, setting: Setting, ages: Sequence[float]) -> Reuse:
    """What is known of memory that has rested for a setting's age."""
    if math.isinf(setting.min_age) or not context.reuse:
        return Reuse()
    return context.reuse[sorted(ages).index(setting.min_age)]


def row_of(
    context: Context, setting: Setting, ages: Sequence[float], seconds: float
) -> dict[int, int]:
    """Features: the program's memory, the setting, and what that can take of this.

    Args:
        context: what is known.
        setting: one of the ladder.
        ages: the grid.
        seconds: length of a window.
    """
    never = math.isinf(setting.min_age)
    idle = 0.0 if never else context.idle[sorted(ages).index(setting.min_age)]
    take = takeable(context, setting, ages, seconds)
    strain = min(context.strain, MOST_LABEL)
    expected = min(MOST_LABEL, reuse_of(context, setting, ages).rate / max(context.allowed, 1e-3))
    return dict(
        enumerate(
            (
                round(1000 * context.out),
                round(1000 * idle),
                round(1000 * take),
                320 if never else _log(setting.min_age, 320),
                _log(setting.quota_bytes / 4096, 400),
                round(16 * strain),
                round(1000 * take * strain),
                round(16 * expected),
            )
        )
    )


_FEATURES = (
    # Prior of the memory: what is out stays out, and what can be taken is.
    FeatureSpec("out", 0, 1000, -8 / 1000),
    FeatureSpec("idle", 0, 1000),
    FeatureSpec("takeable", 0, 1000, -8 / 1000),
    FeatureSpec("min_age", 0, 320),
    FeatureSpec("quota", 0, 400),
    FeatureSpec("strain", 0, 128),
    FeatureSpec("takeable_strain", 0, 8000),
)
_EXPECTED = FeatureSpec("expected", 0, 128)
_PLAIN = (
    *(FeatureSpec(one.name, one.low, one.high) for one in _FEATURES),
    # Prior of the strain: of a block that is used again, every fourth page is.
    FeatureSpec("expected", 0, 128, 1 / 16 / 4),
)

SPEC: Final = DecisionSpec(
    PROXY,
    # classes=0: what is predicted is compared between settings, not cut into classes.
    (
        StreamSpec("memory", (*_FEATURES, _EXPECTED), prior=4.0, classes=0),
        StreamSpec("strain", _PLAIN, prior=0.0, classes=0),
    ),
    label_scale=1024,
    label_low=0.0,
    label_high=MOST_LABEL,
)


def proxy_config(seed: int, settings: int, epoch_seconds: float, settle: float) -> ProxyConfig:
    """The proxy's safety numbers.

    What is taken out in an epoch is bounded by the quota, stays out cheaply where it was
    not wanted, and what it costs is bounded by the budget of faults, which is the model's
    at any share. So the trial begins with a large one.

    Args:
        seed: of the trial.
        settings: how many there are.
        epoch_seconds: how long one stays.
        settle: seconds until a setting counts.
    """
    epoch = round(epoch_seconds * SECOND)
    return ProxyConfig(
        PROXY,
        Kind.CHOICE,
        trial=Trial.SWITCHBACK,
        seed=seed,
        max=settings - 1,
        share_learning=600_000,
        share_collaboration=800_000,
        share_trusted=980_000,
        epoch=epoch,
        epoch_settle=min(900_000, round(1e6 * settle / epoch_seconds)),
        noise_levels=3,
        min_effect=10_000,
        dwell=5 * epoch,
        heartbeat_limit=3 * SECOND,
        max_expiry=60 * SECOND + 8 * epoch,
        spike=250_000,
        spike_count=3,
        cooldown=10 * SECOND,
        cooldown_max=600 * SECOND,
    )
