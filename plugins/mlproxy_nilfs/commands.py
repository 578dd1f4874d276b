"""`mlproxy nilfs stand-by`."""

from __future__ import annotations

import signal
from pathlib import Path

import click

__all__ = ("group",)


@click.group(name="nilfs")
def group() -> None:
    """The cleaner of NILFS2, and its stand-by."""


@group.command(name="stand-by")
@click.argument("device", type=click.Path(exists=True, dir_okay=False))
@click.option("--lock-dir", default="/run/mlproxy", show_default=True,
              help="As subsystem.nilfs.lock_dir.")  # fmt: skip
@click.option("--stale-seconds", type=click.FloatRange(min=1), default=30.0, show_default=True,
              help="mlproxy counts as stopped when it has not stepped for so long.")  # fmt: skip
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Configuration of nilfs_cleanerd.  [default: its own]",
)
def stand_by(device: str, lock_dir: str, stale_seconds: float, config: Path | None) -> None:
    """Run stock nilfs_cleanerd on DEVICE whenever mlproxy does not clean it.

    Takes over when mlproxy has ended, however it did; one that is stopped or hangs is killed
    first. Gives way when mlproxy comes back. Meant to be a service of its own: see the how-to.
    """
    from mlproxy_nilfs.standby import StandBy, StandByOptions

    over: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _: over.append(caught))
    options = StandByOptions(device, lock_dir, stale_seconds, str(config or ""))
    StandBy(options).run(lambda: bool(over))
