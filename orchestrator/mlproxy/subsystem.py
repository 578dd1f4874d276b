"""The seam between the orchestrator and a plugin's subsystem."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mlproxy.events.types import FeedEvent
from mlproxy.proxy.types import Proxy, ProxyConfig

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mlproxy.proxy import InProcessProxy, KernelProxy, Knob, KnobProxy
    from mlproxy.proxy.choose import Guard

P = TypeVar("P", bound=Proxy)

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
        guard: `[daemon] guard`: where proxies are to be made.
        journal_dir: where a proxy in this process notes what to put back in its knobs
            after a crash; empty: below `state_dir`.
        made: the proxies made with this context; the supervisor closes them at the end.
        models: decision name -> candidates that other plugins offer for it
            (`mlproxy_models`), as they came; whoever uses them checks them.
    """

    name: str
    options: Any
    seed: int
    state_dir: str
    overrides: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    guard: Guard = "auto"
    journal_dir: str = ""
    made: list[Proxy] = field(default_factory=list, init=False, compare=False, repr=False)
    models: Mapping[str, Sequence[Any]] = field(default_factory=dict)

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

    def proxy(self, config: ProxyConfig, *, capacity: int = 65536) -> InProcessProxy | KernelProxy:
        """Make a proxy for operations of the plugin's own, on the plugin's clock.

        It lives in the kernel when the module is there and the operator allows it,
        else in this process; its attribute `guard` says which. Native code that calls
        the core directly needs an `InProcessProxy` instead.

        Args:
            config: as `proxy_config` returns it.
            capacity: records in the ring, a power of two.

        Raises:
            ProxyError: `proxy.config`; `kernel.*` when the operator wants the kernel.
        """
        from mlproxy.proxy.choose import make_proxy

        return self._keep(make_proxy(config, guard=self.guard, capacity=capacity))

    def knob_proxy(
        self,
        config: ProxyConfig,
        knobs: Sequence[Knob],
        *,
        settings: Sequence[Sequence[int]] = (),
        default_action: int = 0,
        capacity: int = 65536,
    ) -> KnobProxy:
        """Make a proxy that holds tunables: the kernel's, or one in this process.

        Both write the model's setting in the model's epochs and put the default back
        in all other times. Time is CLOCK_MONOTONIC in nanoseconds.

        Args:
            config: as `proxy_config` returns it: kind VALUE or CHOICE, trial SWITCHBACK.
            knobs: the tunables.
            settings: CHOICE: per choice one value per knob that is no trigger, shape
                [config.max + 1, knobs].
            default_action: what samples give as the default's action.
            capacity: records in the ring, a power of two.

        Raises:
            ProxyError: `proxy.config`, `knob.*`; `kernel.*` when the operator wants the
                kernel.
        """
        from mlproxy.proxy.choose import make_knob_proxy

        made = make_knob_proxy(
            config,
            knobs,
            guard=self.guard,
            settings=settings,
            default_action=default_action,
            capacity=capacity,
            journal_dir=self.journal_dir or Path(self.state_dir) / "knob-journal",
        )
        return self._keep(made)

    def attach(self, proxy: str, *, watchdog_ns: int = 0, bpf: bool = False) -> KernelProxy:
        """Become the agent of a proxy that a part of the kernel has registered.

        Args:
            proxy: its name, as in /sys/class/mlproxy.
            watchdog_ns: real time without a heartbeat until emergency; 0: none.
            bpf: its submitted programs are evaluated by the BPF walker (kind PROGRAM).

        Raises:
            ProxyError: `proxy.unknown`, `proxy.busy`, `proxy.guard`, `kernel.*`; with
                `bpf` also `bpf.*`.
        """
        from mlproxy.proxy.choose import attach_proxy

        made = attach_proxy(proxy, guard=self.guard, watchdog_ns=watchdog_ns, bpf=bpf)
        return self._keep(made)

    def _keep(self, proxy: P) -> P:
        self.made.append(proxy)
        return proxy


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
