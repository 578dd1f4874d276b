"""What is written down and told of each window, picture and setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mlproxy_damon.budget import FaultBudget
from mlproxy_damon.decision import SECOND, Setting
from mlproxy_damon.kdamond import Monitoring
from mlproxy_damon.meter import CpuMeter
from mlproxy_damon.records import RecordFile, thinned
from mlproxy_damon.regions import Picture
from mlproxy_damon.tally import Totals

__all__ = ("Diary", "words")


def words(rung: Setting) -> dict[str, float]:
    """A setting in the units of the options; zeros: nothing is reclaimed."""
    never = math.isinf(rung.min_age)
    return {
        "min_age_seconds": 0.0 if never else rung.min_age,
        "quota_mib": 0.0 if never else rung.quota_bytes / (1 << 20),
    }


class Diary:
    """Writes the records that `mlproxy damon report` reads, and names the metrics.

    Args:
        records: the file.
        picture_seconds: between two pictures that are kept.
    """

    def __init__(self, records: RecordFile, picture_seconds: float) -> None:
        self._records = records
        self._picture_seconds = picture_seconds
        self._next_picture = 0.0

    def note(self, kind: str, now: int, **values: Any) -> None:
        """A record of a kind; `now`: nanoseconds."""
        self._records.write(kind, now / SECOND, **values)

    def window(
        self,
        now: int,
        totals: Totals,
        arm: str,
        rung: Setting,
        paid: tuple[float, float],
        budget: FaultBudget,
        meter: CpuMeter,
    ) -> None:
        """The end of a window.

        Args:
            now: nanoseconds.
            totals: of the program.
            arm: who acted: `model`, `default`, `baseline` or `mixed`.
            rung: in force.
            paid: faults that reclaim cost, and those it was allowed.
            budget: the account after it.
            meter: of processor time.
        """
        self.note(
            "window",
            now,
            arm=arm,
            **words(rung),
            resident=totals.resident,
            whole=totals.whole,
            faults=totals.faults,
            refaults=totals.refaults,
            work=round(totals.work, 3),
            excess=round(paid[0], 2),
            allowed=round(paid[1], 3),
            headroom=round(budget.headroom, 2),
            kdamond_cpu=round(meter.kdamond, 4),
            plugin_cpu=round(meter.plugin, 4),
        )

    def pictures(self, now: int, pictures: Sequence[Picture]) -> None:
        """Keep pictures, when it is time for one."""
        if now / SECOND < self._next_picture:
            return
        self._next_picture = now / SECOND + self._picture_seconds
        for picture in pictures:
            self.note("picture", now, target=picture.target, regions=thinned(picture.regions))

    def metrics(
        self,
        budget: FaultBudget,
        meter: CpuMeter,
        monitoring: Monitoring,
        totals: Totals | None,
    ) -> dict[str, float]:
        """Numbers for the feed; `totals` None: nothing is watched yet."""
        found = {
            "headroom_faults": budget.headroom,
            "excess_faults_total": budget.excess,
            "allowed_faults_total": budget.allowed,
            "kdamond_cpu_ratio": meter.kdamond,
            "plugin_cpu_ratio": meter.plugin,
            "sample_seconds": monitoring.sample_us / 1e6,
            "regions_max": float(monitoring.regions[1]),
        }
        if totals is not None:
            found |= {
                "resident_bytes": float(totals.resident),
                "saved_bytes": float(totals.whole - totals.resident),
                "faults_total": float(totals.faults),
                "refaults_total": float(totals.refaults),
                "work_total": totals.work,
            }
        return found
