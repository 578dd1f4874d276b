"""The seam between the orchestrator and a plugin's subsystem."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mlproxy.events.types import FeedEvent
from mlproxy.proxy.types import Proxy, ProxyConfig

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ("StepResult", "Subsystem", "SubsystemContext", "SubsystemFactory")


@dataclass(frozen=True, slots=True)
class SubsystemContext:
    """What the orchestrator gives a subsystem at start.

    Attributes:
        name: the subsystem's name, as in `[subsystem.<name>]`.
        options: the validated table `[subsystem.<name>]`, as the pydantic model
            that the factory registered for it.
        seed: for everything random; the same seed gives the same run.
        state_dir: an existing directory (mode 0700) of the subsystem's own.
        overrides: proxy name -> {field of ProxyConfig: value}, from `[proxy.<name>]`.
    """

    name: str
    options: Any
    seed: int
    state_dir: str
    overrides: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def proxy_config(self, base: ProxyConfig) -> ProxyConfig:
        """Return `base` with what the operator set in `[proxy.<base.name>]`.

        Example:
            >>> from mlproxy.proxy.types import Kind
            >>> context = SubsystemContext("lfs", None, 1, "/tmp", {"lfs.gc": {"alpha": 10_000}})
            >>> context.proxy_config(ProxyConfig("lfs.gc", Kind.CHOICE)).alpha
            10000
        """
        changes: dict[str, Any] = dict(self.overrides.get(base.name, {}))
        return dataclasses.replace(base, **changes)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step did; `metrics` are flat numbers for the feed.

    Attributes:
        worked: False when there was nothing to do (the loop then waits a period).
        done: True when the subsystem has no more input and wants to be stopped.
        metrics: proxy name -> {metric name with unit suffix: number}.
        models: proxy name -> report on the models, ready for JSON (champion,
            per candidate loss, cost, state, drift count).
        events: what happened to the proxies, for the feed. A subsystem that reads
            MODE records from the ring turns them into events with
            `mlproxy.app.report.mode_events_from_records`; for a proxy that it
            never sends a ModeEvent for, the supervisor makes them of snapshots.
    """

    worked: bool = True
    done: bool = False
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    events: Sequence[FeedEvent] = ()


class Subsystem(Protocol):
    """A part of the kernel (or its model in user space) with decisions to learn.

    Every method but `now` runs in the subsystem's own worker thread, one at a
    time, and has a deadline: raising or overrunning it quarantines the
    subsystem and puts its proxies into emergency. A step should take well
    under 100 ms.
    """

    name: str
    period_seconds: float

    def start(self, context: SubsystemContext) -> Sequence[Proxy]:
        """Acquire what is needed and return the proxies, started."""

    def step(self) -> StepResult:
        """Move data, learn, submit recommendations, tick the proxies; once."""

    def now(self, proxy: str) -> int:
        """The proxy's current time in its own unit (callable from any thread)."""

    def stop(self) -> None:
        """Give everything back. Called once, also after a failed start."""


@dataclass(frozen=True, slots=True)
class SubsystemFactory:
    """How a plugin offers a subsystem: what `mlproxy_subsystems` returns.

    Attributes:
        name: `[a-z][a-z0-9_]*`, unique among the loaded plugins.
        options_model: pydantic model of `[subsystem.<name>]`, without `enabled`;
            every field has a description, which `config sample` prints.
        create: makes the subsystem; called in its worker thread, once per start.
        description: one line for `plugins list`.
        requires_api: range of `mlproxy.hookspecs.API_VERSION` it was made for.
        proxies: names of its proxies, so that `[proxy.<name>]` can be checked.
        enabled_by_default: whether it runs when the configuration is silent.
        cost_units: proxy name -> fixed-point steps in one unit of its cost; what people
            and the feed see is divided by it. 1 for a proxy that is not named.
    """

    name: str
    options_model: type[BaseModel]
    create: Callable[[], Subsystem]
    description: str = ""
    requires_api: str = ">=1,<2"
    proxies: tuple[str, ...] = ()
    enabled_by_default: bool = True
    cost_units: Mapping[str, float] = field(default_factory=dict)
