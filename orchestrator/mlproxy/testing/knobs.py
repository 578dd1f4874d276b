"""A subsystem that holds tunables and has a model's value in force nearly all the time.

For tests of what becomes of the tunables when it, or its daemon, ends. It learns
nothing: it sets its proxy to trusted by hand.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from mlproxy.config.model import Section
from mlproxy.proxy.knob import Knob, KnobProxy
from mlproxy.proxy.types import Kind, Mode, Proxy, ProxyConfig, Reason, Recommendation, Trial
from mlproxy.subsystem import StepResult, SubsystemContext, SubsystemFactory

__all__ = ("KnobOptions", "KnobSubsystem", "knob_factory")

_MS = 1_000_000


class KnobOptions(Section):
    """Options of the subsystem."""

    knobs: list[str] = Field(description="files of the tunables")
    value: int = Field(default=64, ge=0, description="what the model writes into each")
    epoch_ms: int = Field(default=200, ge=1, description="length of an epoch")
    heartbeat_ms: int = Field(default=1000, ge=0, description="heartbeat limit; 0: none")


class KnobSubsystem:
    """See the module.

    Args:
        name: the subsystem's name; its proxy is `<name>.knobs`.
    """

    period_seconds = 0.05

    def __init__(self, name: str) -> None:
        self.name = name
        self._proxy: KnobProxy | None = None
        self._seq = 0

    def start(self, context: SubsystemContext) -> Sequence[Proxy]:
        """Take the tunables."""
        options: KnobOptions = context.options
        count = len(options.knobs)
        config = ProxyConfig(
            f"{self.name}.knobs",
            Kind.CHOICE,
            Trial.SWITCHBACK,
            seed=context.seed,
            epoch=options.epoch_ms * _MS,
            heartbeat_limit=options.heartbeat_ms * _MS,
            share_trusted=999_999,
        )
        self._proxy = proxy = context.knob_proxy(
            context.proxy_config(config),
            [Knob(path, 0, 1 << 62) for path in options.knobs],
            settings=[[options.value] * count] * 2,
        )
        proxy.start(0)
        proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
        return [proxy]

    def _held(self) -> KnobProxy:
        if self._proxy is None:
            raise RuntimeError("not started")
        return self._proxy

    def step(self) -> StepResult:
        """Stay alive, recommend."""
        proxy = self._held()
        self._seq += 1
        proxy.heartbeat(0)
        now = time.monotonic_ns()
        proxy.submit(
            Recommendation(Kind.CHOICE, self._seq, now + 3600 * 1000 * _MS, 1, 1, value=1), now
        )
        proxy.consume(sum(len(view) for view in proxy.peek()))
        status = proxy.knob_status()
        metrics: dict[str, dict[str, float]] = {
            proxy.config.name: {
                "applied_count": float(status.applied),
                "writes_total": float(status.writes),
                "restores_total": float(status.restores),
            }
        }
        return StepResult(worked=False, metrics=metrics)

    def now(self, proxy: str) -> int:  # noqa: ARG002 - there is one
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def stop(self) -> None:
        """Give the tunables back."""
        if self._proxy is not None:
            self._proxy.close()


def knob_factory(name: str) -> SubsystemFactory:
    """How a test plugin offers it."""

    def create() -> Any:
        return KnobSubsystem(name)

    return SubsystemFactory(
        name=name,
        options_model=KnobOptions,
        create=create,
        description="Holds tunables; for tests.",
        proxies=(f"{name}.knobs",),
        enabled_by_default=False,
    )
