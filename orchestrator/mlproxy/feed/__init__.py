"""The MQTT feed: `Feed` publishes, whatever the broker does.

`FeedConfig` is in `mlproxy.feed.config`, apart, because it loads pydantic.
"""

from __future__ import annotations

from mlproxy.feed.feed import Feed, FeedStatus
from mlproxy.feed.stamp import FeedClock
from mlproxy.feed.topics import Topics, check_id, node_id, parse_topic

__all__ = (
    "Feed",
    "FeedClock",
    "FeedStatus",
    "Topics",
    "check_id",
    "node_id",
    "parse_topic",
)
