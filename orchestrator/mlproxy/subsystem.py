"""The seam between the orchestrator and a plugin's subsystem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlproxy.proxy.types import Proxy

__all__ = ("StepResult", "Subsystem", "SubsystemContext")


@dataclass(frozen=True, slots=True)
class SubsystemContext:
    """What the orchestrator gives a subsystem at start.

    `options` is the validated configuration table `[subsystem.<name>]`, as the
    pydantic model the plugin registered for it.
    """

    name: str
    options: Any
    seed: int
    state_dir: str


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step did; `metrics` are flat numbers for the feed.

    Attributes:
        worked: False when there was nothing to do (the loop then waits a period).
        done: True when the subsystem has no more input and wants to be stopped.
        metrics: proxy name -> {metric name with unit suffix: number}.
        models: proxy name -> report on the models, ready for JSON (champion,
            per candidate loss, cost, state, drift count).
    """

    worked: bool = True
    done: bool = False
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Subsystem(Protocol):
    """A part of the kernel (or its model in user space) with decisions to learn.

    Every method runs in the subsystem's own worker thread, one at a time, and
    has a deadline: raising or overrunning it quarantines the plugin and puts
    its proxies into emergency. A step should take well under 100 ms.
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
