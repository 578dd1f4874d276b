"""What the feed says: one struct per kind of message, the source of the JSON Schemas.

Every message carries `v` (schema version), `node`, `session` (one life of the
daemon), `seq`, `ts` (RFC 3339, UTC) and `mono_ns` (for ordering). They are
stamped by the feed, so code that emits a message leaves them at their defaults.

`seq` counts separately per session and per class of message (event, state,
metric, info), from 1. Events are never merged or skipped, so a reader of all
events (`event/#`) that sees a gap has lost some; (`session`, `seq`) is what it
removes duplicates by. States are merged (only the latest per proxy is sent) and
old metrics are thrown away while the broker is away: gaps there are by design.
"""

from __future__ import annotations

import msgspec

__all__ = (
    "EvidenceData",
    "FeedEvent",
    "FeedMessage",
    "InfoMessage",
    "LossEvent",
    "MetricMessage",
    "ModeEvent",
    "ModelEvent",
    "PluginEvent",
    "RejectEvent",
    "StateMessage",
)


class EvidenceData(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of both arms that stood behind a mode change.

    Costs are in the proxy's cost unit; savings are fractions of the default's
    cost, with their always-valid confidence bounds.
    """

    source: str
    default_mean: float = 0.0
    model_mean: float = 0.0
    default_count: int = 0
    model_count: int = 0
    pairs: int = 0
    saving_ratio: float = 0.0
    lower_ratio: float = 0.0
    upper_ratio: float = 0.0
    regret: float = 0.0


class FeedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What every message has."""

    v: int = 1
    seq: int = 0
    ts: str = ""
    mono_ns: int = 0
    node: str = ""
    session: str = ""


class FeedEvent(FeedMessage, frozen=True, kw_only=True):
    """Something that happened to a proxy (or to a plugin, then `proxy` is its name)."""

    proxy: str


class ModeEvent(FeedEvent, frozen=True, kw_only=True, tag="mode", tag_field="kind"):
    """A proxy changed its mode. QoS 1."""

    old: str
    new: str
    reason: str
    at: int
    mode_seq: int = 0
    model_version: int = 0
    latched: bool = False
    evidence: tuple[EvidenceData, ...] = ()


class ModelEvent(FeedEvent, frozen=True, kw_only=True, tag="model", tag_field="kind"):
    """Something about the models: what is champion, drift, dropped, published."""

    what: str
    candidate: str
    previous: str = ""
    model_version: int = 0
    reason: str = ""
    loss: float = 0.0
    cost: float = 0.0
    at: int = 0


class RejectEvent(FeedEvent, frozen=True, kw_only=True, tag="reject", tag_field="kind"):
    """The proxy refused recommendations since the last such event."""

    reason: str
    count: int
    total: int
    at: int = 0


class PluginEvent(FeedEvent, frozen=True, kw_only=True, tag="plugin", tag_field="kind"):
    """A plugin was loaded, quarantined, restarted, finished or stopped.

    `put_back`: at the daemon's start, what an earlier one had left in a tunable of
    `proxy`; the message says what became of it.
    """

    what: str
    phase: str = ""
    code: str = ""
    message: str = ""


class LossEvent(FeedEvent, frozen=True, kw_only=True, tag="loss", tag_field="kind"):
    """The feed itself had to throw messages away (`proxy` is "feed").

    `dropped` counts them by kind since the last such event; `total` counts all
    of this session.
    """

    dropped: dict[str, int]
    total: int


class StateMessage(FeedMessage, frozen=True, kw_only=True):
    """Retained picture of one proxy, on change and at least every max-age."""

    proxy: str
    subsystem: str
    kind: str
    mode: str
    reason: str
    guard: str
    at: int
    mode_since: int
    mode_seq: int
    latched: bool = False
    operator_hold: bool = False
    trips: int = 0
    mode_share: dict[str, float] = {}
    decisions: dict[str, int] = {}
    fallbacks: int = 0
    accepted: int = 0
    rejected: dict[str, int] = {}
    model_version: int = 0
    champion: str = ""
    drifts: int = 0
    trial: EvidenceData | None = None
    twin: EvidenceData | None = None
    ring_lost: int = 0
    models: dict[str, dict[str, float | int | str | bool | None]] = {}


class MetricMessage(FeedMessage, frozen=True, kw_only=True):
    """Flat numbers of one proxy; the unit is in each name."""

    proxy: str
    values: dict[str, float] = {}


class InfoMessage(FeedMessage, frozen=True, kw_only=True):
    """Retained birth document of a daemon session.

    `guard` is the one that is wanted (`daemon.guard`); each proxy's state says which it has.
    """

    version: str
    started_at: str
    offline_means: str = "agent gone, default logic active"
    boot_id: str = ""
    python: str = ""
    plugins: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    guard: str = "in-process"
