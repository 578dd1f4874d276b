"""What acts when the model does not: nothing, DAMON_RECLAIM's numbers, or the operator's."""

from __future__ import annotations

import dataclasses
import math
from typing import Final

from mlproxy_damon.kdamond import NEVER, Scheme
from mlproxy_damon.options import DamonOptions

__all__ = ("RECLAIM_BYTES", "aggregations", "default_age", "default_scheme")

RECLAIM_AGE: Final = 120.0
RECLAIM_BYTES: Final = 128 << 20
RECLAIM_MS: Final = 10
"""Defaults of DAMON_RECLAIM (Documentation/admin-guide/mm/damon/reclaim.rst)."""


def default_age(options: DamonOptions) -> float:
    """Seconds without an access; infinite: nothing is reclaimed."""
    if options.default == "off":
        return math.inf
    return RECLAIM_AGE if options.default == "reclaim" else options.default_min_age_seconds


def aggregations(options: DamonOptions, seconds: float) -> int:
    """Seconds in the unit of DAMON's ages."""
    if math.isinf(seconds):
        return NEVER
    return max(1, math.ceil(seconds * 1000 / options.aggregation_ms))


def default_scheme(options: DamonOptions) -> Scheme:
    """The scheme of the default, with the hard rails."""
    free = options.free_permil
    scheme = Scheme(
        aggregations(options, default_age(options)),
        options.quota_mib << 20,
        options.quota_ms,
        (free[0], free[1], free[2]) if free else None,
        options.pages,
    )
    if options.default == "reclaim":
        return dataclasses.replace(scheme, quota_bytes=RECLAIM_BYTES, quota_ms=RECLAIM_MS)
    return scheme
