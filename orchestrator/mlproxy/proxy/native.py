"""The proxy's values as C structs and back, for every transport alike."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlproxy import _core
from mlproxy.errors import ProxyError
from mlproxy.proxy.layout import RECORD_DTYPE
from mlproxy.proxy.types import (
    Arm,
    ArmStats,
    Decision,
    Evidence,
    Kind,
    Mode,
    ProxyConfig,
    Reason,
    Reject,
    Snapshot,
    Trial,
)

__all__ = (
    "config_of",
    "decision_of",
    "feature_row",
    "native_config",
    "native_record",
    "refused_config",
    "snapshot_of",
)

ffi = _core.ffi
lib = _core.lib

_SAME_NAME: Final = (
    *("now", "mode_since", "mode_seq", "state", "trips", "attempts", "cooldown_until"),
    *("fallbacks", "accepted", "last_heartbeat", "last_seq", "model_id", "model_version"),
    *("ring_head", "ring_lost", "budget_used"),
)


def native_config(config: ProxyConfig) -> Any:
    """Return a checked `struct mlp_config *`.

    Raises:
        ProxyError: `proxy.config`, naming the field.
    """
    native = ffi.new("struct mlp_config *")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        try:
            setattr(native, field.name, value.encode() if field.name == "name" else value)
        except (OverflowError, TypeError, IndexError, ValueError, AttributeError) as e:
            raise ProxyError(
                f"{field.name} = {value!r} does not fit: {e}",
                code="proxy.config",
                field=field.name,
            ) from e
    bad = ffi.new("const char **")
    if lib.mlp_config_check(native, bad):
        raise refused_config(config, ffi.string(bad[0]).decode())
    return native


def refused_config(config: ProxyConfig, field: str) -> ProxyError:
    """Return the error for a field that the core does not allow."""
    return ProxyError(
        f"{config.name!r}: {field} = {getattr(config, field, None)!r} is not allowed",
        code="proxy.config",
        hint="docs/reference/proxy-core.md gives each field's range",
        field=field,
    )


def config_of(native: Any) -> ProxyConfig:
    """Return what a `struct mlp_config` holds."""
    fields = {f.name: getattr(native, f.name) for f in dataclasses.fields(ProxyConfig)}
    fields["name"] = ffi.string(native.name).decode()
    fields["kind"], fields["trial"] = Kind(native.kind), Trial(native.trial)
    return ProxyConfig(**fields)


def native_record(record: npt.NDArray[np.void] | np.void) -> Any:
    """Return one record (RECORD_DTYPE) as an aligned `struct mlp_record *`.

    Raises:
        ProxyError: `proxy.record` when it is not exactly one.
    """
    data = np.asarray(record, dtype=RECORD_DTYPE).tobytes()
    if len(data) != RECORD_DTYPE.itemsize:
        raise ProxyError("publish takes exactly one record", code="proxy.record")
    native = ffi.new("struct mlp_record *")
    ffi.memmove(native, data, len(data))
    return native


def feature_row(config: ProxyConfig, features: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Return the features of one decision, int32, shape [nr_features].

    Raises:
        ProxyError: `proxy.features` when their number is wrong.
    """
    row = np.ascontiguousarray(features, dtype=np.int32)
    if row.size != config.nr_features:
        raise ProxyError(
            f"{config.name} takes {config.nr_features} features, not {row.size}",
            code="proxy.features",
        )
    return row


def decision_of(native: Any) -> Decision:
    """Return what a `struct mlp_decision` says."""
    return Decision(Arm(native.arm), native.action, native.model_version, native.confidence)


def snapshot_of(s: Any) -> Snapshot:
    """Return what a `struct mlp_snapshot` says."""
    return Snapshot(
        mode=Mode(s.mode),
        reason=Reason(s.reason),
        latched=bool(s.latched),
        operator_hold=bool(s.operator_hold),
        mode_time=tuple(s.mode_time),
        decisions=tuple(s.decisions),
        rejected={r: s.rejected[r] for r in Reject if r is not Reject.NONE},
        trial=_evidence(s.trial),
        twin=_evidence(s.twin),
        **{name: getattr(s, name) for name in _SAME_NAME},
    )


def _evidence(e: Any) -> Evidence:
    arms = [ArmStats(a.count, a.mean, a.deviation) for a in e.arm]
    return Evidence(
        default=arms[0],
        model=arms[1],
        pairs=e.pairs,
        saving_ppm=e.saving_ppm,
        lower_ppm=e.lower_ppm,
        upper_ppm=e.upper_ppm,
        regret=e.regret,
    )
