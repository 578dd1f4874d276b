"""The table `[subsystem.readahead]` of the configuration."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from mlproxy import Section

__all__ = ("COST_UNIT", "LARGEST_KB", "PROXY", "ReadaheadOptions")

PROXY: Final = "readahead"
COST_UNIT: Final = 1000.0
"""Fixed-point steps in one unit of cost."""
LARGEST_KB: Final = 65_536


class ReadaheadOptions(Section):
    """How far the kernel reads ahead on one block device."""

    device: str = Field(
        min_length=1,
        max_length=64,
        pattern=r"^[^/.\s][^/\s]*$",
        description="the block device as in /sys/block, of which the file systems are mounted",
        examples=["sda"],
    )
    settings_kb: list[Annotated[int, Field(ge=4, le=LARGEST_KB)]] = Field(
        default=[4, 16, 64, 256, 1024, 4096],
        min_length=1,
        max_length=15,
        description="values of read_ahead_kb to choose from, ascending; the one that is found "
        "at the start is the default and is added",
    )
    request_kb: int = Field(
        default=64,
        ge=0,
        le=65_536,
        description="what a read request costs besides its bytes, as so many KiB read: about "
        "throughput times latency, 64 for a SATA SSD, 1024 for a disk that turns",
    )
    epoch_seconds: float = Field(
        default=0.5,
        ge=0.1,
        le=60,
        allow_inf_nan=False,
        description="how long one setting stays, at the least",
    )
    trace_kb: int = Field(
        default=256,
        ge=16,
        le=65_536,
        description="trace buffer per processor; what has no room is counted and scaled up",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(a >= b for a, b in pairwise(self.settings_kb)):
            raise ValueError("settings_kb must be ascending, each value once")
        return self
