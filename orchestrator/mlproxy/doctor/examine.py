"""All of the doctor's questions, in their order."""

from __future__ import annotations

from collections.abc import Iterator

from mlproxy.config.load import Source
from mlproxy.config.model import DaemonConfig, FeedConfig
from mlproxy.doctor import kernel, ourselves, subsystems
from mlproxy.doctor.finding import Finding
from mlproxy.doctor.host import Host
from mlproxy.errors import ConfigError

__all__ = ("examine",)


def examine(source: Source, host: Host | None = None) -> Iterator[Finding]:
    """Look at everything; read only, but for a connection to the broker.

    Args:
        source: the configuration.
        host: the machine; None: this one.

    Yields:
        A finding after the other, as they come.
    """
    host = host or Host()
    found = ourselves.read_configuration(source)
    invalid = isinstance(found, ConfigError)
    daemon = DaemonConfig() if isinstance(found, ConfigError) else found[0].daemon
    feed = FeedConfig() if isinstance(found, ConfigError) else found[0].feed
    info = kernel.module_of(host)
    yield from kernel.kernel(host)
    yield from kernel.module(host, info, daemon.guard)
    yield from kernel.device(host)
    yield from kernel.rights(host)
    yield from kernel.psi(host)
    yield from kernel.bpf(host, info)
    yield from subsystems.damon(host)
    yield from subsystems.f2fs(host)
    yield from subsystems.nilfs2(host)
    yield from subsystems.readahead(host)
    yield ourselves.configuration(source, found)
    if not invalid:
        yield from ourselves.state_directory(daemon)
    yield ourselves.broker(feed)
    if not isinstance(found, ConfigError):
        yield from ourselves.plugins(found[1])
