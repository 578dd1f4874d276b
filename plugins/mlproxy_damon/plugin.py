"""Entry point of the plugin: what it offers to mlproxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlproxy import Subsystem, SubsystemFactory, hookimpl
from mlproxy_damon.options import COST_UNIT, PROXY, DamonOptions

if TYPE_CHECKING:
    import click

__all__ = ("mlproxy_commands", "mlproxy_subsystems")


@hookimpl
def mlproxy_subsystems() -> list[SubsystemFactory]:
    """The one subsystem: how eagerly memory that is not used is taken from a program."""
    return [
        SubsystemFactory(
            name="damon",
            options_model=DamonOptions,
            create=_create,
            description="How eagerly DAMON reclaims memory that a program does not use.",
            proxies=(PROXY,),
            enabled_by_default=False,  # it needs to be told a program
            cost_units={PROXY: COST_UNIT},
        )
    ]


def _create() -> Subsystem:
    # Hooks only declare; the models are imported when there is something to learn.
    from mlproxy_damon.subsystem import DamonSubsystem

    return DamonSubsystem()


@hookimpl
def mlproxy_commands(cli: click.Group) -> None:
    """`mlproxy damon report`, `mlproxy bench damon`."""
    from mlproxy.cli.lazy import subgroup
    from mlproxy_damon.bench_command import command
    from mlproxy_damon.report_command import group

    cli.add_command(group)
    subgroup(cli, "bench").add_command(command)
