"""The one place that knows how the daemon's feed is made."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractAsyncContextManager
from typing import Any

from mlproxy.app.feedholder import FeedLike, FeedMaker
from mlproxy.clock import Clock

__all__ = ("feed_maker",)


def feed_maker(clock: Clock) -> FeedMaker | None:
    """How to make the feed of this daemon, or None when there is none."""
    if importlib.util.find_spec("mlproxy.feed.feed") is None:
        return None
    from mlproxy import feed

    def make(section: Any) -> AbstractAsyncContextManager[FeedLike]:
        made: AbstractAsyncContextManager[FeedLike] = feed.Feed(section, clock)  # type: ignore[attr-defined,unused-ignore]
        return made

    return make
