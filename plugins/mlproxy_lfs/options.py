"""The table `[subsystem.lfs]` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlproxy import Section

__all__ = ("LfsOptions",)

LEAST_SPARE = 20
"""Segments beyond the logical capacity that logs, reserve and cleaning need to go round."""
LEAST_TWIN_BLOCKS = 4
LEAST_CAPACITIES = 2
"""A store is filled by the first; what can be learned begins with the cleaning after it."""


class LfsOptions(Section):
    """A log-structured store in user space, written to by a recorded or synthetic stream."""

    workload: str = Field(
        default="mix-office",
        min_length=1,
        description="what is written: a recorded stream (mix-office, sqlite-wal, mail, ...) or a "
        "synthetic one (uniform, zipf-0.99, mixed, ...)",
    )
    trace: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[],
        description="recordings of your own (`mlproxy trace record`), instead of `workload`; "
        "several are mixed, each a tenant",
        examples=[["/var/lib/mlproxy/mine.trace"]],
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=1 << 63,
        description="of stream, hashes, models and trials; not set: made from the daemon's",
        examples=[1],
    )
    capacities: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="end after so many times the store's capacity was written; 0: never, the "
        "stream begins again when it is over",
    )
    stream_capacities: float = Field(
        default=8.0,
        ge=LEAST_CAPACITIES,
        le=100,
        allow_inf_nan=False,
        description="length of the stream that is made and, with capacities = 0, repeated",
    )
    segments: int = Field(default=1024, ge=64, le=65_536, description="segments of the store")
    segment_blocks: Literal[32, 64, 128, 256, 512, 1024] = Field(
        default=512, description="blocks of 4 KiB in a segment"
    )
    over_provisioning: float = Field(
        default=0.125, ge=0.07, le=0.20, description="share of the blocks kept free for cleaning"
    )
    twin_share: Literal[1, 2, 4, 8, 16, 32, 64] = Field(
        default=8, description="a twin sees one in so many blocks"
    )
    pace_blocks_per_second: float = Field(
        default=50_000.0,
        ge=0,
        le=1e9,
        allow_inf_nan=False,
        description="how fast is written; 0: as fast as it goes, which keeps one processor busy",
    )
    poison: Literal["random", "inverted", "myopic", "shuffled"] | None = Field(
        default=None,
        description="for demonstrations: make every model wrong in this way",
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
        if self.segment_blocks // self.twin_share < LEAST_TWIN_BLOCKS:
            raise ValueError(
                f"twin_share {self.twin_share} leaves a twin fewer than {LEAST_TWIN_BLOCKS} "
                f"blocks of a segment's {self.segment_blocks}"
            )
        spare = int(self.segments * self.over_provisioning)
        if spare < LEAST_SPARE:
            raise ValueError(
                f"{self.segments} segments at {self.over_provisioning:g} over-provisioning leave "
                f"{spare} spare ones, {LEAST_SPARE} are needed"
            )
        if 0 < self.capacities < LEAST_CAPACITIES:
            raise ValueError(f"capacities must be 0 or at least {LEAST_CAPACITIES}")
        if self.poison is None and self.poison_at:
            raise ValueError("poison_at needs poison")
        return self
