"""The values that cross the seam between a proxy and user space."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = (
    "Arm",
    "ArmStats",
    "Decision",
    "Evidence",
    "Kind",
    "Mode",
    "Program",
    "ProgramNode",
    "Proxy",
    "ProxyConfig",
    "Reason",
    "Recommendation",
    "RecordType",
    "Reject",
    "Snapshot",
    "Trial",
)


class Mode(enum.IntEnum):
    """How far the model is trusted; the order is the ladder."""

    EMERGENCY = 0
    LEARNING = 1
    COLLABORATION = 2
    TRUSTED = 3


class Arm(enum.IntEnum):
    """Who acts."""

    DEFAULT = 0
    MODEL = 1


class Kind(enum.IntEnum):
    """What a recommendation is."""

    VALUE = 1
    CHOICE = 2
    RANK = 3
    PROGRAM = 4


class Trial(enum.IntEnum):
    """How operations are split between the arms."""

    PARTITION = 0
    SWITCHBACK = 1


class RecordType(enum.IntEnum):
    """What a ring record says."""

    SAMPLE = 1
    OUTCOME = 2
    LABEL = 3
    TWIN = 4
    MODE = 5


class Reason(enum.IntEnum):
    """Why the mode changed (kmod/uapi/mlproxy.h, enum mlp_reason)."""

    NONE = 0
    START = 1
    PROMOTED = 2
    DEMOTED = 3
    NO_GAIN = 4
    HEARTBEAT = 5
    AGENT_GONE = 6
    REJECTS = 7
    COST_SPIKE = 8
    BUDGET = 9
    CRITICAL = 10
    OPERATOR = 11
    OPERATOR_OVERRIDE = 12
    COOLDOWN = 13
    LATCHED = 14
    EXPIRED = 15
    WRITE_FAILED = 16


class Reject(enum.IntEnum):
    """Why a recommendation was refused (kmod/uapi/mlproxy.h, enum mlp_reject)."""

    NONE = 0
    VERSION = 1
    KIND = 2
    RANGE = 3
    EXPIRED = 4
    EXPIRY = 5
    REPLAY = 6
    CANDIDATE = 7
    DUPLICATE = 8
    SIZE = 9
    INDEX = 10
    CYCLE = 11
    DEPTH = 12
    LEAF = 13
    RESERVED = 14
    MODEL = 15
    STATE = 16


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """What is fixed when a proxy is made: struct mlp_config, field by field.

    Times are in the proxy's own unit, shares, rates and effects in parts per
    million, costs in fixed point (lower is better).
    """

    name: str
    kind: Kind
    trial: Trial = Trial.PARTITION
    seed: int = 1
    nr_features: int = 0
    nr_streams: int = 1
    max_nodes: int = 1024
    noise_levels: int = 7
    min: int = 0
    max: int = 1
    share_learning: int = 50_000
    share_collaboration: int = 500_000
    share_trusted: int = 950_000
    sample_every: int = 0
    epoch: int = 0
    epoch_settle: int = 250_000
    twin_gate: int = 0
    alpha: int = 50_000
    alpha_demote: int = 200_000
    min_effect: int = 10_000
    min_count: int = 16
    dwell: int = 0
    heartbeat_limit: int = 0
    max_expiry: int = 1 << 62
    reject_limit: int = 16
    trip_limit: int = 5
    reject_window: int = 0
    spike: int = 250_000
    spike_count: int = 3
    budget: int = 0
    cooldown: int = 0
    cooldown_max: int = 0


@dataclass(frozen=True, slots=True)
class ProgramNode:
    """One node of a program: inner (feature >= 0) or leaf (feature < 0)."""

    feature: int
    value: int
    left: int = 0
    right: int = 0
    confidence: int = 0


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled model: up to 8 trees over quantised features.

    The leaf values of the trees are summed; with `cuts` the action is the
    number of cuts that the sum exceeds, without them it is the sum.
    """

    nodes: tuple[ProgramNode, ...]
    roots: tuple[int, ...] = (0,)
    nr_features: int = 1
    cuts: tuple[int, ...] = ()
    stream: int = 0


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What a model wants the proxy to do, until `expiry` (proxy time)."""

    kind: Kind
    seq: int
    expiry: int
    model_id: int
    model_version: int
    confidence: int = 1000
    value: int = 0
    ids: tuple[int, ...] = ()
    program: Program | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Who acts and what to do."""

    arm: Arm
    action: int
    model_version: int
    confidence: int


@dataclass(frozen=True, slots=True)
class ArmStats:
    """One arm of the ledger; mean and deviation in the cost's fixed point."""

    count: int = 0
    mean: int = 0
    deviation: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """One comparison of the arms; savings in parts per million of the default's cost."""

    default: ArmStats = field(default_factory=ArmStats)
    model: ArmStats = field(default_factory=ArmStats)
    pairs: int = 0
    saving_ppm: int = 0
    lower_ppm: int = 0
    upper_ppm: int = 0
    regret: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a person or a feed wants to know of a proxy (struct mlp_snapshot)."""

    now: int
    mode: Mode
    reason: Reason
    mode_since: int
    mode_seq: int
    latched: bool
    operator_hold: bool
    trips: int
    mode_time: tuple[int, int, int, int]
    decisions: tuple[int, int]
    fallbacks: int
    accepted: int
    rejected: dict[Reject, int]
    last_heartbeat: int
    last_seq: int
    model_id: int
    model_version: int
    trial: Evidence
    twin: Evidence
    ring_head: int
    ring_lost: int
    budget_used: int
    cooldown_until: int
    state: int = 0
    attempts: int = 0


class Proxy(Protocol):
    """The kernel-side object of one decision, wherever it lives.

    Implemented by `InProcessProxy` (the core through cffi), `InProcessKnobProxy`
    (that, and tunables) and `KernelProxy` (/dev/mlproxy). All times are the
    proxy's own; all methods are cheap and never block.
    """

    @property
    def config(self) -> ProxyConfig:
        """What the proxy was made with."""

    @property
    def guard(self) -> str:
        """`in-process` or `kernel`: who falls back when the daemon dies."""

    def start(self, now: int) -> None:
        """Let the agent begin."""

    def stop(self, now: int, reason: Reason = Reason.AGENT_GONE) -> None:
        """Give the default everything, until started again."""

    def close(self) -> None:
        """Stop, and give back what the proxy holds; a second time is harmless."""

    def submit(self, recommendation: Recommendation, now: int) -> Reject:
        """Hand a recommendation in; return why it was refused, or `Reject.NONE`."""

    def heartbeat(self, now: int) -> None:
        """Say that the agent is alive."""

    def tick(self, now: int) -> None:
        """Let time pass: heartbeat limit, cooldown."""

    def critical(self, on: bool, now: int) -> None:
        """Say that the subsystem is in need, or no longer."""

    def set_mode(self, mode: Mode, reason: Reason, now: int) -> None:
        """Set the mode by hand; refused while something holds emergency."""

    def operator_emergency(self, on: bool, now: int) -> None:
        """Force the default logic until taken back; off also clears the latch."""

    def snapshot(self, now: int) -> Snapshot:
        """Return everything a person or a feed wants to know."""

    def peek(self) -> Sequence[npt.NDArray[np.void]]:
        """Unread records: one or two structured views into the ring, not copied.

        A record that the producer has overwritten meanwhile is noticed by
        `consume`, which then counts it as lost.
        """

    def consume(self, count: int) -> int:
        """Mark `count` records as read; return how many were torn or lost."""
