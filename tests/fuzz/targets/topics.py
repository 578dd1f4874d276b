"""Fuzz the parsing of topics."""

from __future__ import annotations

from mlproxy.errors import FeedError
from mlproxy.feed.topics import ROOT, check_id, node_id, parse_topic

SEEDS: list[bytes] = [
    b"mlproxy/v1/box/status",
    b"mlproxy/v1/box/info",
    b"mlproxy/v1/box/state/lfs.placement",
    b"mlproxy/v1/box/event/lfs.placement/mode",
    b"mlproxy/v1/box/metric/p",
    b"mlproxy/v1/+/event/#",
]


def fuzz_one(data: bytes) -> None:
    """A topic that parses is the one its parts make."""
    text = data.decode("utf-8", "replace")
    check_id(node_id(text))
    try:
        topic = parse_topic(text)
    except FeedError:
        return
    parts = (ROOT, topic.node, topic.cls, topic.proxy, topic.kind)
    assert "/".join(p for p in parts if p) == text
    assert not set(text) & set("+#")
