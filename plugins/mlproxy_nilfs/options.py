"""The table `[subsystem.nilfs]` of the configuration."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from mlproxy import Section

__all__ = ("COST_UNIT", "PROXY", "NilfsOptions")

PROXY: Final = "nilfs-victim"
COST_UNIT: Final = 1_000_000.0
"""A segment reclaimed all of whose blocks had to be copied, in the proxy's fixed point."""


class NilfsOptions(Section):
    """Cleans one NILFS2 file system; it must be mounted with `nogc`."""

    device: str = Field(
        min_length=1,
        max_length=255,
        pattern=r"^/",
        description="the block device that holds the file system",
        examples=["/dev/sda3"],
    )
    default: Literal["timestamp", "greedy", "cost-benefit"] = Field(
        default="timestamp",
        description="how segments are chosen when the model does not choose: as nilfs_cleanerd "
        "does, the emptiest, or by cost and benefit",
    )
    learn: bool = Field(
        default=True, description="off: nothing is learned, the default always chooses"
    )
    min_clean_percent: float = Field(
        default=10.0,
        gt=0,
        le=50,
        description="cleaning begins when fewer segments are free, beside the reserved ones",
    )
    max_clean_percent: float = Field(
        default=20.0, gt=0, le=60, description="cleaning ends when more segments are free"
    )
    protection_seconds: int = Field(
        default=3600,
        ge=0,
        le=1 << 31,
        description="checkpoints younger than this stay readable, snapshots always do",
    )
    segments_per_clean: int = Field(
        default=2, ge=1, le=32, description="segments that are cleaned at a time"
    )
    segments_per_clean_low: int = Field(
        default=4, ge=1, le=32, description="... while fewer than min_clean_percent are free"
    )
    interval_seconds: float = Field(
        default=5.0, gt=0, le=3600, allow_inf_nan=False, description="time between two cleanings"
    )
    interval_seconds_low: float = Field(
        default=1.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="... while fewer than min_clean_percent are free",
    )
    min_reclaimable_percent: float = Field(
        default=10.0,
        ge=0,
        le=100,
        description="a segment is left alone when less of it would be won",
    )
    min_reclaimable_percent_low: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="... while fewer than min_clean_percent are free",
    )
    lock_dir: str = Field(
        default="/run/mlproxy",
        min_length=1,
        pattern=r"^/",
        description="where the locks are by which mlproxy and the stand-by keep apart",
    )
    poison: Literal["inverted", "random", "invalid"] | None = Field(
        default=None,
        description="for demonstrations: make every recommendation wrong in this way",
        examples=["inverted"],
    )
    poison_at: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="... from so many capacities written on; before that it learns honestly",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_clean_percent < self.min_clean_percent:
            raise ValueError("max_clean_percent must not be below min_clean_percent")
        if self.poison is None and self.poison_at:
            raise ValueError("poison_at needs poison")
        return self
