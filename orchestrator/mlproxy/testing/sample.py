"""A small well-behaved subsystem, and ways for it to misbehave.

`DemoSubsystem` counts steps and has one FakeProxy. With the option `fault` it
breaks its contract on purpose; that is how quarantine is tested, here and by
anybody who changes the supervisor.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from mlproxy.config.model import Section
from mlproxy.proxy.types import Kind, Proxy, ProxyConfig
from mlproxy.subsystem import StepResult, SubsystemContext, SubsystemFactory
from mlproxy.testing.proxy import FakeProxy

__all__ = ("RELEASE", "DemoOptions", "DemoSubsystem", "Fault", "demo_factory")

Fault = Literal[
    "",
    "start-raise",
    "start-hang",
    "start-bad",
    "step-raise",
    "step-sleep",
    "step-busy",
    "step-exit",
    "step-bad",
    "stop-raise",
    "stop-hang",
    "stop-forget",
    "now-raise",
]

RELEASE = threading.Event()
"""Ends every hang of this module, so that a test can let go of its threads."""


class DemoOptions(Section):
    """Options of the demo subsystem."""

    steps: int = Field(default=0, ge=0, description="done after so many steps; 0: never")
    period_seconds: float = Field(default=0.01, gt=0, description="pause between two steps")
    fault: Fault = Field(default="", description="how to break the contract; empty: not at all")
    fault_step: int = Field(default=3, ge=1, description="first step that fails")
    fault_lives: int = Field(
        default=1_000, ge=0, description="so many lives fail, later ones do not"
    )


class DemoSubsystem:
    """Counts steps; see the module.

    Args:
        name: the subsystem's name; its proxy is `<name>.demo`.
    """

    lives: int = 0

    def __init__(self, name: str = "demo") -> None:
        self.name = name
        self.period_seconds = 0.01
        self._count = 0
        self._fault: str = ""
        self._options: Any = None
        self._proxy: FakeProxy | None = None

    def _trip(self, phase: str) -> None:
        if not self._fault.startswith(phase):
            return
        match self._fault.removeprefix(phase + "-"):
            case "raise":
                raise RuntimeError(f"{phase} fails on purpose")
            case "sleep" | "hang":
                while not RELEASE.is_set():
                    time.sleep(0.01)
            case "busy":
                while not RELEASE.is_set():
                    pass
            case "exit":
                sys.exit(3)

    def start(self, context: SubsystemContext) -> Sequence[Proxy]:
        """Make and start the proxy."""
        self._options = context.options
        type(self).lives += 1
        if type(self).lives <= context.options.fault_lives:
            self._fault = context.options.fault
        self.period_seconds = context.options.period_seconds
        self._trip("start")
        if self._fault == "start-bad":
            return [self, self]  # type: ignore[list-item]
        config = ProxyConfig(f"{self.name}.demo", Kind.CHOICE, seed=context.seed, max=3)
        self._proxy = FakeProxy(context.proxy_config(config))
        self._proxy.start(0)
        return [self._proxy]

    def step(self) -> StepResult:
        """Count."""
        self._count += 1
        if self._count >= self._options.fault_step:
            self._trip("step")
            if self._fault == "step-bad":
                return {"worked": True}  # type: ignore[return-value]
        if self._proxy is None:
            raise RuntimeError("not started")
        self._proxy.heartbeat(self._count)
        done = 0 < self._options.steps <= self._count
        metrics = {self._proxy.config.name: {"steps_total": float(self._count)}}
        return StepResult(worked=False, done=done, metrics=metrics)

    def now(self, proxy: str) -> int:  # noqa: ARG002 - all proxies share the count
        """Steps so far."""
        if self._count >= self._options.fault_step:
            self._trip("now")
        return self._count

    def stop(self) -> None:
        """Stop the proxy."""
        self._trip("stop")
        if self._proxy is not None and self._fault != "stop-forget":
            self._proxy.stop(self._count)


def demo_factory(name: str = "demo") -> SubsystemFactory:
    """A factory of a demo subsystem of its own class (so lives are counted apart)."""
    subsystem = type("NamedDemo", (DemoSubsystem,), {"lives": 0})

    def create() -> DemoSubsystem:
        made: DemoSubsystem = subsystem(name)
        return made

    return SubsystemFactory(
        name=name,
        options_model=DemoOptions,
        create=create,
        description="Counts steps; for tests.",
        proxies=(f"{name}.demo",),
    )
