"""`mlproxy run`: the daemon in the foreground."""

from __future__ import annotations

import asyncio

import click

from mlproxy.cli.exit import ExitCode
from mlproxy.cli.options import config_options, source_of

__all__ = ("command",)


@click.command(name="run")
@config_options
@click.option("--once-done", is_flag=True, help="End when all subsystems are done.")
def command(*, config_path: str | None, options: tuple[str, ...], once_done: bool) -> int:
    """Run the daemon in the foreground until SIGTERM or SIGINT; SIGHUP reloads."""
    from mlproxy import log
    from mlproxy.app.daemon import Daemon, Ended
    from mlproxy.app.feedmaker import feed_maker
    from mlproxy.clock import SystemClock
    from mlproxy.config.load import load

    if once_done:
        options = (*options, "daemon.exit_when_done=true")
    source = source_of(config_path, options)
    log.configure()
    config, registry = load(source)
    log.configure(config.daemon.log_level, config.daemon.log_format)
    clock = SystemClock()

    async def serve() -> Ended:
        feed = feed_maker(config, registry, clock)
        daemon = Daemon(config, registry, source=source, feed=feed, clock=clock)
        return await daemon.run(signals=True)

    ended = asyncio.run(serve())
    return ExitCode.DEGRADED if ended is Ended.DEGRADED else ExitCode.OK
