"""One scored stretch of an epoch: what was asked, what was read, what was in force."""

from __future__ import annotations

from dataclasses import dataclass

from mlproxy.proxy import Arm, KnobStatus
from mlproxy_readahead.demand import Demand
from mlproxy_readahead.device import Counters

__all__ = ("Outcome", "Window")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a window came to.

    Attributes:
        arm: who had set what was in force.
        setting_kb: what was in force.
        spent: what the device did.
        demand: what programs asked for.
    """

    arm: Arm
    setting_kb: int
    spent: Counters
    demand: Demand


class Window:
    """From the settled part of an epoch to shortly before its end.

    Args:
        epoch: its number.
        counters: of the device now.
        status: of the knob now.
        setting_kb: what is in force now.
    """

    def __init__(
        self,
        epoch: int,
        counters: Counters,
        status: KnobStatus,
        setting_kb: int,
    ) -> None:
        self.epoch = epoch
        self.demand = Demand()
        self._counters = counters
        self._status = status
        self._setting_kb = setting_kb

    def close(self, counters: Counters, status: KnobStatus) -> Outcome | None:
        """End it; None when the knob was written meanwhile: then it is nobody's."""
        before = self._status
        if (status.writes, status.restores) != (before.writes, before.restores):
            return None
        return Outcome(
            Arm.MODEL if status.applied else Arm.DEFAULT,
            self._setting_kb,
            Counters(
                counters.requests - self._counters.requests,
                counters.read_bytes - self._counters.read_bytes,
            ),
            self.demand,
        )
