"""The one place that knows how the daemon's feed is made."""

from __future__ import annotations

import platform
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from mlproxy import __version__
from mlproxy.app.feedholder import FeedLike, FeedMaker
from mlproxy.clock import Clock
from mlproxy.config.load import Config
from mlproxy.events.types import InfoMessage
from mlproxy.feed import Feed
from mlproxy.feed.config import FeedConfig
from mlproxy.plugin.registry import Registry

__all__ = ("feed_maker", "info_message")


def info_message(config: Config, registry: Registry, clock: Clock) -> InfoMessage:
    """The birth document of a daemon session; the feed names the session."""
    enabled = [registry.factories[n] for n, s in config.subsystems.items() if s.enabled]
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot_id = ""
    return InfoMessage(
        version=__version__,
        session="",
        started_at=clock.utc_now().isoformat(),
        boot_id=boot_id,
        python=platform.python_version(),
        plugins=tuple(registry.loaded()),
        proxies=tuple(sorted(name for f in enabled for name in f.proxies)),
        guard=config.daemon.guard,
    )


def feed_maker(config: Config, registry: Registry, clock: Clock) -> FeedMaker:
    """How to make the feed of this daemon from a section `[feed]`."""
    info = info_message(config, registry, clock)

    def make(section: FeedConfig) -> AbstractAsyncContextManager[FeedLike]:
        return Feed(
            section,
            node=config.daemon.node,
            clock=clock,
            state_dir=config.daemon.state_dir,
            info=info,
        )

    return make
