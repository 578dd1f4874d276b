"""Fuzz the decoding of feed messages (what a reader gets from a broker)."""

from __future__ import annotations

from mlproxy.errors import FeedError
from mlproxy.events.codec import decode, decode_event, encode
from mlproxy.events.describe import line
from mlproxy.events.types import (
    EvidenceData,
    InfoMessage,
    LossEvent,
    MetricMessage,
    ModeEvent,
    ModelEvent,
    PluginEvent,
    RejectEvent,
    StateMessage,
)

_STATE = StateMessage(
    proxy="p",
    subsystem="s",
    kind="program",
    mode="learning",
    reason="start",
    guard="kernel",
    at=1,
    mode_since=1,
    mode_seq=1,
    trial=EvidenceData(source="trial"),
    models={"tree": {"loss": 0.5}},
)

SEEDS: list[bytes] = [
    encode(message)
    for message in (
        ModeEvent(
            proxy="p", old="a", new="b", reason="c", at=1, evidence=(EvidenceData(source="t"),)
        ),
        ModelEvent(proxy="p", what="drift", candidate="tree", loss=0.25),
        RejectEvent(proxy="p", reason="range", count=1, total=2),
        PluginEvent(proxy="lfs", what="quarantined", code="plugin.raised", message="boom"),
        LossEvent(proxy="feed", dropped={"model": 3}, total=3),
        MetricMessage(proxy="p", values={"a_ratio": 1.5}),
        InfoMessage(version="1", started_at="2026-02-06T12:00:00Z"),
        _STATE,
    )
]


def fuzz_one(data: bytes) -> None:
    """Decoding ends in a message that can be shown and encoded, or in a FeedError."""
    try:
        event = decode_event(data)
    except FeedError:
        pass
    else:
        assert line(event).isprintable()
        assert decode_event(encode(event)) == event
    for struct in (StateMessage, MetricMessage, InfoMessage):
        try:
            message = decode(data, struct)
        except FeedError:
            continue
        assert decode(encode(message), struct) == message
