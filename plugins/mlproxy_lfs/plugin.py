"""Entry point of the plugin: what it offers to mlproxy."""

from __future__ import annotations

from mlproxy import SubsystemFactory, hookimpl
from mlproxy_lfs.options import LfsOptions
from mlproxy_lfs.subsystem import COST_UNITS, PROXIES, LfsSubsystem

__all__ = ("mlproxy_subsystems",)


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
