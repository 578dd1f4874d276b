"""One epoch: what was in force in it, and what the program used meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from mlproxy.proxy import Arm, KnobStatus
from mlproxy_damon.budget import Stretch, pages
from mlproxy_damon.decision import Context
from mlproxy_damon.tally import Totals

__all__ = ("Window", "stretch")


def stretch(before: Totals, after: Totals, seconds: float) -> Stretch:
    """What happened between two looks."""
    return Stretch(
        seconds=seconds,
        work=after.work - before.work,
        faults=after.faults - before.faults,
        refaults=after.refaults - before.refaults,
        pages=pages(after.whole),
    )


@dataclass(frozen=True, slots=True)
class Window:
    """From the time at which a setting counts to shortly before its epoch ends.

    Attributes:
        epoch: its number.
        context: what was known when it was decided; None: nothing.
        totals: when it began.
        status: of the knobs when it began.
    """

    epoch: int
    context: Context | None
    totals: Totals
    status: KnobStatus

    def whose(self, status: KnobStatus) -> tuple[Arm, int] | None:
        """Arm and choice in force; None when the knobs were written meanwhile."""
        if (status.writes, status.restores) != (self.status.writes, self.status.restores):
            return None
        return (Arm.MODEL, status.setting) if status.applied else (Arm.DEFAULT, 0)
