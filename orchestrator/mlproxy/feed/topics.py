"""The topic tree: building, checking and parsing of topics.

mlproxy/v1/<node>/status                 online | offline, retained
mlproxy/v1/<node>/info                   InfoMessage, retained
mlproxy/v1/<node>/state/<proxy>          StateMessage, retained
mlproxy/v1/<node>/event/<proxy>/<kind>   events, not retained
mlproxy/v1/<node>/metric/<proxy>         MetricMessage, not retained
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlproxy.errors import FeedError

__all__ = ("OFFLINE", "ONLINE", "ROOT", "Topic", "Topics", "check_id", "node_id", "parse_topic")

ROOT = "mlproxy/v1"
ONLINE = b"online"
OFFLINE = b"offline"

_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)
_DEPTHS = {"status": 1, "info": 1, "state": 2, "event": 3, "metric": 2}


def check_id(value: str, what: str = "id") -> str:
    """Return `value` if it can be one level of a topic.

    Raises:
        FeedError: `feed.bad_id` unless it is 1 to 64 of `a-z 0-9 _ . -` and
            starts with a letter or digit (so no `+ # /`, no upper case).

    >>> check_id("lfs.placement")
    'lfs.placement'
    """
    if _ID.fullmatch(value) is None:
        raise FeedError(
            f"{what} {value[:80]!r} cannot be part of a topic",
            code="feed.bad_id",
            hint="use 1 to 64 of a-z 0-9 _ . - and start with a letter or digit",
        )
    return value


def node_id(hostname: str) -> str:
    """Return a valid node id made from a host name.

    >>> node_id("Build Box_7.example.org")
    'build-box_7.example.org'
    >>> node_id("")
    'node'
    """
    text = re.sub(r"[^a-z0-9_.-]+", "-", hostname.lower()).lstrip("_.-")[:64]
    return text or "node"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic taken apart; `proxy` and `kind` are "" where the class has none."""

    node: str
    cls: str
    proxy: str = ""
    kind: str = ""


class Topics:
    """Builds the topics of one node.

    >>> Topics("box").event("lfs.placement", "mode")
    'mlproxy/v1/box/event/lfs.placement/mode'
    """

    def __init__(self, node: str) -> None:
        self.node = check_id(node, "node")
        self._base = f"{ROOT}/{node}"
        self.status = f"{self._base}/status"
        self.info = f"{self._base}/info"

    def state(self, proxy: str) -> str:
        """Topic of a proxy's retained picture."""
        return f"{self._base}/state/{check_id(proxy, 'proxy')}"

    def event(self, proxy: str, kind: str) -> str:
        """Topic of one kind of a proxy's events."""
        return f"{self._base}/event/{check_id(proxy, 'proxy')}/{check_id(kind, 'kind')}"

    def metric(self, proxy: str) -> str:
        """Topic of a proxy's numbers."""
        return f"{self._base}/metric/{check_id(proxy, 'proxy')}"


def parse_topic(topic: str) -> Topic:
    """Take a topic of the tree apart.

    Raises:
        FeedError: `feed.bad_topic`.

    >>> parse_topic("mlproxy/v1/box/state/lfs").proxy
    'lfs'
    """
    prefix, _, rest = topic.partition(f"{ROOT}/")
    levels = rest.split("/")
    node, cls, *ids = levels if len(levels) > 1 else ("", "")
    known = _DEPTHS.get(cls) == len(ids) + 1
    if prefix or not known or any(_ID.fullmatch(i) is None for i in (node, *ids)):
        raise FeedError(
            f"{topic[:200]!r} is not a topic of the feed",
            code="feed.bad_topic",
            hint=f"topics look like {ROOT}/<node>/event/<proxy>/<kind>",
        )
    return Topic(node, cls, *ids)
