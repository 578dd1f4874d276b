"""Entry point of the plugin: what it offers to mlproxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlproxy import Subsystem, SubsystemFactory, hookimpl
from mlproxy_nilfs.options import COST_UNIT, PROXY, NilfsOptions

if TYPE_CHECKING:
    import click

__all__ = ("mlproxy_commands", "mlproxy_subsystems")


@hookimpl
def mlproxy_subsystems() -> list[SubsystemFactory]:
    """The one subsystem: the cleaner of one NILFS2 file system."""
    return [
        SubsystemFactory(
            name="nilfs",
            options_model=NilfsOptions,
            create=_create,
            description="Cleans a NILFS2 file system: which segments, and that they are cleaned.",
            proxies=(PROXY,),
            enabled_by_default=False,  # it needs to be told a device
            cost_units={PROXY: COST_UNIT},
        )
    ]


def _create() -> Subsystem:
    # Hooks only declare; the models are imported when there is something to learn.
    from mlproxy_nilfs.subsystem import NilfsSubsystem

    return NilfsSubsystem()


@hookimpl
def mlproxy_commands(cli: click.Group) -> None:
    """`mlproxy bench nilfs`, `mlproxy nilfs stand-by`."""
    from mlproxy.cli.lazy import subgroup
    from mlproxy_nilfs.bench_command import command
    from mlproxy_nilfs.commands import group

    cli.add_command(group)
    subgroup(cli, "bench").add_command(command)
