"""Entry point of the plugin: what it offers to mlproxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlproxy import Subsystem, SubsystemFactory, hookimpl
from mlproxy_readahead.options import COST_UNIT, PROXY, ReadaheadOptions

if TYPE_CHECKING:
    import click

__all__ = ("mlproxy_commands", "mlproxy_subsystems")


@hookimpl
def mlproxy_subsystems() -> list[SubsystemFactory]:
    """The one subsystem: how far the kernel reads ahead on one block device."""
    return [
        SubsystemFactory(
            name="readahead",
            options_model=ReadaheadOptions,
            create=_create,
            description="How far the kernel reads ahead on a block device (read_ahead_kb).",
            proxies=(PROXY,),
            enabled_by_default=False,  # it needs to be told a device
            cost_units={PROXY: COST_UNIT},
        )
    ]


def _create() -> Subsystem:
    # Hooks only declare; the models are imported when there is something to learn.
    from mlproxy_readahead.subsystem import ReadaheadSubsystem

    return ReadaheadSubsystem()


@hookimpl
def mlproxy_commands(cli: click.Group) -> None:
    """`mlproxy bench readahead`."""
    from mlproxy.cli.lazy import subgroup
    from mlproxy_readahead.bench_command import command

    subgroup(cli, "bench").add_command(command)
