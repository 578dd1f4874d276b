"""ADWIN that only reports errors that rise.

ADWIN (Bifet and Gavalda, "Learning from time-changing data with adaptive
windowing", SDM 2007) finds any change of a mean. A model that gets better is no
reason to distrust it, so the part of the window that ADWIN dropped is compared
with the part that it kept.
"""

from __future__ import annotations

from typing import Any

from river import base, drift

__all__ = ("RisingAdwin",)


class RisingAdwin(base.DriftDetector):
    """River's ADWIN, silent when the mean fell.

    Args:
        delta: confidence of ADWIN: bound on the false alarms per check.
        clock: how many values between two checks.

    Attributes:
        before: mean of the dropped part at the last detection.
        after: mean of the kept part.
    """

    def __init__(self, delta: float = 0.002, clock: int = 32) -> None:
        super().__init__()
        self.delta = delta
        self.clock = clock
        self._reset()

    def _reset(self) -> None:
        super()._reset()
        adwin: Any = drift.ADWIN
        self._adwin: Any = adwin(delta=self.delta, clock=self.clock)
        self._count = 0
        self._total = 0.0
        self.before = 0.0
        self.after = 0.0

    def update(self, x: float) -> None:
        """Add one error; `drift_detected` tells whether it revealed a rise."""
        adwin = self._adwin
        self._count += 1
        self._total += x
        adwin.update(x)
        if not adwin.drift_detected:
            self._drift_detected = False
            return
        dropped = self._count - adwin.width
        self.after = float(adwin.estimation)
        self.before = (self._total - float(adwin.total)) / dropped if dropped > 0 else self.after
        self._drift_detected = self.after > self.before
        # River's ADWIN starts anew with the next value.
        self._count, self._total = 0, 0.0
