"""`mlproxy events`: read the feed from the broker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from mlproxy.errors import FeedError

if TYPE_CHECKING:
    from mlproxy.feed.mqtt import Endpoint

__all__ = ("group",)

_RETRY_SECONDS = 1.0


@click.group("events")
def group() -> None:
    """Read the feed."""


@group.command("tail")
@click.option("--host", help="The broker; from the configuration, else 127.0.0.1.")
@click.option("--port", type=click.IntRange(1, 65535), help="Its TCP port.")
@click.option("--username", help="Account at the broker.")
@click.option("--password-file", help="File whose first line is the password.")
@click.option("--tls/--no-tls", default=None, help="Use TLS.")
@click.option("--ca-file", help="PEM file of the CA; else the system's CAs.")
@click.option("--node", default="+", show_default="all", help="Only this node.")
@click.option("--proxy", default="+", show_default="all", help="Only this proxy.")
@click.option("--kind", default="+", show_default="all", help="mode, model, reject, plugin, loss.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document per line, as received.")
@click.option("--count", type=click.IntRange(1), help="Stop after this many events.")
@click.pass_context
def tail(
    ctx: click.Context,
    /,
    *,
    node: str,
    proxy: str,
    kind: str,
    as_json: bool,
    count: int | None,
    **where: Any,
) -> None:
    """Print events as they arrive, until interrupted.

    A broker that goes away is waited for; one that is not there at the start is
    an error.

    Gaps in the sequence numbers (events lost between daemon and here) are
    reported on stderr when all proxies and kinds are watched.
    """
    topic_filter = _filter(node, proxy, kind)
    watch_gaps = (proxy, kind) == ("+", "+")
    follow = _follow(_endpoint(ctx, where), topic_filter, as_json, count, watch_gaps)
    # Exit status 0 on Ctrl-C: that is how a tail ends.
    try:
        asyncio.run(follow)
    except KeyboardInterrupt:
        return


def _filter(node: str, proxy: str, kind: str) -> str:
    from mlproxy.feed.topics import ROOT, check_id

    for value, what in ((node, "node"), (proxy, "proxy"), (kind, "kind")):
        if value != "+":
            check_id(value, what)
    return f"{ROOT}/{node}/event/{proxy}/{kind}"


def _endpoint(ctx: click.Context, where: dict[str, Any]) -> Endpoint:
    """Options first, then the `FeedConfig` in the click context, then defaults."""
    from mlproxy.feed.config import FeedConfig
    from mlproxy.feed.mqtt import Endpoint

    config = ctx.find_object(FeedConfig) or FeedConfig()
    own: dict[str, Any] = {
        "host": config.host or "127.0.0.1",
        "port": config.port if config.host else config.embedded_port or config.port,
        "username": config.username,
        "password_file": config.password_file,
        "tls": config.tls,
        "ca_file": config.ca_file,
    }
    own |= {key: value for key, value in where.items() if value is not None}
    return Endpoint(
        **own, keepalive_seconds=config.keepalive_seconds, timeout_seconds=config.timeout_seconds
    )


async def _follow(
    endpoint: Endpoint, topic_filter: str, as_json: bool, count: int | None, watch_gaps: bool
) -> None:
    from mlproxy.events.gaps import GapWatch
    from mlproxy.feed.mqtt import MqttTransport
    from mlproxy.feed.transport import TransportError

    gaps = GapWatch() if watch_gaps else None
    left = count
    came_up = False
    while True:
        transport = MqttTransport(endpoint, identifier=None, queue=100_000)
        try:
            await transport.connect()
            await transport.subscribe(topic_filter, qos=1)
            came_up = True
            async for message in transport.messages():
                line = _line(message.topic, message.payload, as_json, gaps)
                if line is None:
                    continue
                click.echo(line)
                if left is not None and (left := left - 1) == 0:
                    return
        except TransportError as exc:
            if not came_up:
                raise FeedError(
                    f"no connection to the broker {endpoint}: {exc}",
                    code="feed.unreachable",
                    hint="is the daemon (or the broker) running? see --host and --port",
                ) from exc
            click.echo(f"-- lost the broker ({exc}), trying again --", err=True)
            await asyncio.sleep(_RETRY_SECONDS)
        finally:
            await transport.close(clean=True)


def _line(topic: str, payload: bytes, as_json: bool, gaps: Any) -> str | None:
    """Return what to print; None for a duplicate or for nothing readable."""
    from mlproxy.events.codec import decode_event
    from mlproxy.events.describe import line

    try:
        event = decode_event(payload)
    except FeedError as exc:
        click.echo(f"{topic}: {exc}", err=True)
        return None
    missed = gaps.see(event.node, event.session, event.seq) if gaps else 0
    if missed is None:
        return None
    if missed:
        click.echo(f"-- {missed} events of {event.node} are missing here --", err=True)
    return payload.decode() if as_json else line(event)
