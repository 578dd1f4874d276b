"""What is known of each plugin, loaded or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlproxy.hooks import Hooks
from mlproxy.subsystem import SubsystemFactory

__all__ = ("PluginRecord", "Registry")

PluginState = Literal["loaded", "denied", "quarantined"]


@dataclass(frozen=True, slots=True)
class PluginRecord:
    """One entry point of the group `mlproxy.plugins`.

    Attributes:
        name: the entry point's name.
        value: what it points to (`package.module`).
        state: loaded, denied (by configuration or MLPROXY_PLUGINS, never imported) or
            quarantined (see code, phase and reason).
        distribution: the Python distribution that brought it, with its version.
        subsystems: names of the subsystems it offers.
        decisions: decisions that it offers candidate models for.
    """

    name: str
    value: str
    state: PluginState
    distribution: str = ""
    version: str = ""
    code: str = ""
    phase: str = ""
    reason: str = ""
    hint: str = ""
    subsystems: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the record, ready for JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "state": self.state,
            "distribution": self.distribution,
            "version": self.version,
            "subsystems": list(self.subsystems),
            "decisions": list(self.decisions),
            "code": self.code,
            "phase": self.phase,
            "reason": self.reason,
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class Registry:
    """What discovery found: records of all, hooks and factories of the loaded."""

    hooks: Hooks
    records: Sequence[PluginRecord] = ()
    factories: dict[str, SubsystemFactory] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    models: dict[str, list[Any]] = field(default_factory=dict)

    def loaded(self) -> list[str]:
        """Names of the loaded plugins, sorted."""
        return [r.name for r in self.records if r.state == "loaded"]

    def proxies(self) -> set[str]:
        """Names of all proxies that the factories declare."""
        return {name for factory in self.factories.values() for name in factory.proxies}
