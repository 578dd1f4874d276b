"""The messages of the feed: structs, JSON codec and the schemas made from them."""

from __future__ import annotations

from mlproxy.events.codec import AnyEvent, decode_event, encode
from mlproxy.events.types import (
    EvidenceData,
    FeedEvent,
    FeedMessage,
    InfoMessage,
    LossEvent,
    MetricMessage,
    ModeEvent,
    ModelEvent,
    PluginEvent,
    RejectEvent,
    StateMessage,
)

__all__ = (
    "AnyEvent",
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
    "decode_event",
    "encode",
)
