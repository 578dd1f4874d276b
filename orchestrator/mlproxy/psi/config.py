"""The table `[psi.NAME]`: when pressure is too high."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from mlproxy.config.model import Section

__all__ = ("BUILT_IN", "PsiSource")

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class PsiSource(Section):
    """A source that is critical while programs stall for too much of their time."""

    resource: Literal["memory", "io", "cpu"] = Field(
        default="memory", description="what programs wait for"
    )
    stall: Literal["some", "full"] = Field(
        default="full", description="time in which some program waited, or all that had work did"
    )
    cgroup: str | None = Field(
        default=None,
        description="directory of a control group (cgroup2); not set: the whole machine",
        examples=["/sys/fs/cgroup/system.slice/db.service"],
    )
    on_percent: Percent = Field(
        default=10.0, gt=0, description="critical when the stall takes this share of the window"
    )
    off_percent: Percent = Field(
        default=2.0, description="no longer when it stays below this share ..."
    )
    window_seconds: float = Field(
        default=1.0, ge=0.1, le=60, allow_inf_nan=False, description="length of the window"
    )
    quiet_seconds: float = Field(
        default=5.0, ge=0, le=3600, allow_inf_nan=False, description="... for so long"
    )

    @field_validator("cgroup")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and (not os.path.isabs(value) or "\0" in value):  # noqa: PTH117
            raise ValueError("must be an absolute path")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.off_percent >= self.on_percent:
            raise ValueError("off_percent must lie below on_percent, else it would flutter")
        if self.resource == "cpu" and self.stall == "full" and self.cgroup is None:
            raise ValueError('the kernel knows no "full" of the whole machine\'s cpu: use "some"')
        return self


BUILT_IN: Final[Mapping[str, PsiSource]] = {
    "memory": PsiSource(),
    "io": PsiSource(resource="io", on_percent=60.0, off_percent=30.0),
    "cpu": PsiSource(resource="cpu", stall="some", on_percent=90.0, off_percent=70.0),
}
"""Sources that are there without a table; a table of that name changes single keys."""
