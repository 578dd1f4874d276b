"""The table `[subsystem.damon]` of the configuration."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from mlproxy import Section

__all__ = ("COST_UNIT", "PROXY", "DamonOptions")

PROXY: Final = "damon"
COST_UNIT: Final = 1000.0
"""Fixed-point steps in one unit of cost."""
STRICT_SAMPLES: Final = 9
"""With so many samples in an aggregation or fewer, one access makes a region young again."""

Seconds = Annotated[float, Field(ge=0.5, le=86_400, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class DamonOptions(Section):
    """How eagerly DAMON reclaims memory that a program does not use."""

    operations: Literal["vaddr", "paddr"] = Field(
        default="vaddr",
        description="monitor the memory of programs (name one below), or the whole machine's",
    )
    pid: int | None = Field(
        default=None, ge=1, description="the program: a process by its number", examples=[4711]
    )
    pid_file: str | None = Field(
        default=None,
        description="... or by a file that holds its number; read again when it has ended",
        examples=["/run/db.pid"],
    )
    process: str | None = Field(
        default=None,
        min_length=1,
        max_length=15,
        description="... or all processes of this name (as in /proc/PID/comm)",
        examples=["redis-server"],
    )
    cgroup: str | None = Field(
        default=None,
        description="... or all processes of a control group (cgroup2) and those below it",
        examples=["/sys/fs/cgroup/system.slice/db.service"],
    )
    least_mib: int = Field(
        default=8, ge=0, le=65_536, description="smaller processes of a group are left alone"
    )
    more_faults: float = Field(
        default=0.012,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description="bound: so many more major faults than without, per unit of work, as a "
        "share of those without ...",
    )
    faults_per_work: float = Field(
        default=0.0,
        ge=0,
        le=1e9,
        allow_inf_nan=False,
        description="... or so many more per unit of work ...",
    )
    refaults_percent_per_minute: float = Field(
        default=0.2,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="... or this percentage of the program's pages brought back in a minute: "
        "the largest of the three holds",
    )
    work_file: str | None = Field(
        default=None,
        description="a file with one number, the units of work done so far, that the program "
        "writes; not set: a unit of work is a second of its processor time",
        examples=["/run/db.operations"],
    )
    baseline_seconds: float = Field(
        default=10.0,
        ge=1,
        le=3600,
        allow_inf_nan=False,
        description="how long the faults without a model are counted before it may act",
    )
    min_age_seconds: list[Seconds] = Field(
        default=[2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0],
        min_length=1,
        max_length=12,
        description="for how long memory must not have been used: what is chosen from, ascending",
    )
    quota_mib: int = Field(
        default=64,
        ge=1,
        le=1 << 20,
        description="hard limit: so much is reclaimed in a second at the most",
    )
    quota_shares: list[Share] = Field(
        default=[1 / 8, 1.0],
        min_length=1,
        max_length=6,
        description="parts of quota_mib to choose from, ascending; DAMON charges address space "
        "that holds no memory as well",
    )
    quota_ms: int = Field(
        default=200,
        ge=0,
        le=1000,
        description="hard limit: processor time in a second that reclaim may take; 0: none",
    )
    free_permil: Annotated[list[int], Field(min_length=3, max_length=3)] | None = Field(
        default=None,
        description="reclaim only while so much of the machine's memory is free, in thousandths: "
        "DAMON's watermarks high, mid, low; not set: always",
        examples=[[500, 400, 200]],
    )
    pages: Literal["all", "anon", "file"] = Field(
        default="all", description="which pages may be reclaimed (paddr only; vaddr: all)"
    )
    default: Literal["off", "reclaim", "scheme"] = Field(
        default="off",
        description="what the default does: nothing, what DAMON_RECLAIM does by default, or "
        "what default_min_age_seconds says",
    )
    default_min_age_seconds: Seconds = Field(
        default=120.0, description='for default = "scheme": after how long memory is reclaimed'
    )
    epoch_seconds: float = Field(
        default=3.0,
        ge=2,
        le=600,
        allow_inf_nan=False,
        description="how long one setting stays, at the least",
    )
    aggregation_ms: int = Field(
        default=500, ge=100, le=10_000, description="DAMON's aggregation interval"
    )
    sample_ms: Annotated[list[int], Field(min_length=2, max_length=2)] = Field(
        default=[60, 250],
        description="bounds of DAMON's sampling interval: it begins with the first and is made "
        "longer while monitoring takes more than cpu_percent",
    )
    regions: Annotated[list[int], Field(min_length=2, max_length=2)] = Field(
        default=[200, 1000],
        description="DAMON's bounds of the number of regions; with more, memory that is "
        "rarely used is told from memory that is not",
    )
    cpu_percent: float = Field(
        default=3.0,
        gt=0,
        le=100,
        allow_inf_nan=False,
        description="share of one processor that monitoring should not exceed",
    )
    records: str | None = Field(
        default=None,
        description="file for what was seen and done, for `mlproxy damon report`; "
        "not set: records.jsonl in the subsystem's state directory",
        examples=["/var/lib/mlproxy/damon.jsonl"],
    )
    record_seconds: float = Field(
        default=2.0, ge=1, le=3600, allow_inf_nan=False, description="time between two pictures"
    )
    records_mib: int = Field(
        default=64,
        ge=1,
        le=65_536,
        description="when the file has become so large it is begun anew, the old one kept as .1",
    )

    @field_validator("pid_file", "cgroup", "work_file", "records")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and (not value.startswith("/") or "\0" in value):
            raise ValueError("must be an absolute path")
        return value

    @field_validator("min_age_seconds", "quota_shares", "sample_ms", "regions")
    @classmethod
    def _ascending(cls, value: list[float]) -> list[float]:
        if any(a > b for a, b in pairwise(value)) or value[0] <= 0:
            raise ValueError("must be ascending and positive")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = [self.pid, self.pid_file, self.process, self.cgroup]
        count = sum(1 for one in named if one is not None)
        if self.operations == "vaddr" and count != 1:
            raise ValueError("name the program by one of pid, pid_file, process, cgroup")
        if self.operations == "paddr" and count:
            raise ValueError("paddr is the whole machine: no pid, pid_file, process or cgroup")
        if len(set(self.min_age_seconds)) < len(self.min_age_seconds):
            raise ValueError("min_age_seconds: each value once")
        if self.aggregation_ms < 2 * self.sample_ms[1]:
            raise ValueError("aggregation_ms must hold at least two of the longest samples")
        if self.aggregation_ms > STRICT_SAMPLES * self.sample_ms[0]:
            raise ValueError(
                f"aggregation_ms: at most {STRICT_SAMPLES} samples, or single accesses "
                "would not make memory young again"
            )
        if self.epoch_seconds * 1000 < 4 * self.aggregation_ms:
            raise ValueError("epoch_seconds must hold at least four aggregations")
        if self.regions[0] < 10 or self.regions[1] < 2 * self.regions[0]:
            raise ValueError("regions: at least 10, and the second twice the first")
        if self.free_permil is not None and not (
            1000 >= self.free_permil[0] >= self.free_permil[1] >= self.free_permil[2] >= 0
        ):
            raise ValueError("free_permil must be descending, within 0 and 1000")
        if self.pages != "all" and self.operations == "vaddr":
            raise ValueError("DAMON tells anonymous pages from files with paddr only")
        return self
