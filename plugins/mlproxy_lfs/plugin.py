"""Entry point of the plugin: what it offers to mlproxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlproxy import SubsystemFactory, hookimpl
from mlproxy_lfs.options import LfsOptions
from mlproxy_lfs.subsystem import COST_UNITS, PROXIES, LfsSubsystem

if TYPE_CHECKING:
    import click

    from mlproxy.demo import Demo

__all__ = ("mlproxy_commands", "mlproxy_demo", "mlproxy_subsystems")


@hookimpl
def mlproxy_subsystems() -> list[SubsystemFactory]:
    """The one subsystem: a log-structured store in user space."""
    return [
        SubsystemFactory(
            name="lfs",
            options_model=LfsOptions,
            create=LfsSubsystem,
            description="A log-structured store in user space: learns block placement and "
            "cleaning on recorded write streams.",
            proxies=PROXIES,
            cost_units=COST_UNITS,
        )
    ]


@hookimpl
def mlproxy_demo() -> Demo:
    """The demonstration, loaded when it is asked for."""
    from mlproxy_lfs.demo import DEMO

    return DEMO


@hookimpl
def mlproxy_commands(cli: click.Group) -> None:
    """`mlproxy bench gc`."""
    from mlproxy.cli.lazy import subgroup
    from mlproxy_lfs.bench_command import command

    subgroup(cli, "bench").add_command(command)
