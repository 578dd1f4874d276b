"""What proxies say, as messages for the feed: states, modes, rejects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlproxy.events.types import (
    EvidenceData,
    FeedEvent,
    ModeEvent,
    ModelEvent,
    RejectEvent,
    StateMessage,
)
from mlproxy.proxy.types import (
    Arm,
    Evidence,
    Mode,
    ProxyConfig,
    Reason,
    RecordType,
    Reject,
    Snapshot,
)

__all__ = (
    "champion_of",
    "changes",
    "evidence_data",
    "mode_event",
    "mode_events_from_records",
    "state_message",
    "word",
)

PPM = 1_000_000
MODE_FEATURES = 9


def word(member: Mode | Reason | Reject) -> str:
    """The name of a mode, reason or reject as the feed spells it.

    Example:
        >>> word(Reason.COST_SPIKE)
        'cost-spike'
    """
    return member.name.lower().replace("_", "-")


def evidence_data(source: str, evidence: Evidence, unit: float = 1.0) -> EvidenceData:
    """Turn the core's fixed-point comparison into costs and ratios.

    Args:
        source: `trial` or `twin`.
        evidence: what the core says.
        unit: fixed-point steps in one unit of the proxy's cost.
    """
    return EvidenceData(
        source=source,
        default_mean=evidence.default.mean / unit,
        model_mean=evidence.model.mean / unit,
        default_count=evidence.default.count,
        model_count=evidence.model.count,
        pairs=evidence.pairs,
        saving_ratio=evidence.saving_ppm / PPM,
        lower_ratio=evidence.lower_ppm / PPM,
        upper_ratio=evidence.upper_ppm / PPM,
        regret=evidence.regret / unit,
    )


def _both(snapshot: Snapshot, unit: float) -> tuple[EvidenceData, ...]:
    """The comparisons that hold any data: trial, twin."""
    found = (("trial", snapshot.trial), ("twin", snapshot.twin))
    return tuple(evidence_data(s, e, unit) for s, e in found if e.default.count or e.model.count)


def mode_event(proxy: str, old: str, snapshot: Snapshot, unit: float = 1.0) -> ModeEvent:
    """The mode change from `old` (a word) that a snapshot shows, with the evidence it shows."""
    return ModeEvent(
        proxy=proxy,
        old=old,
        new=word(snapshot.mode),
        reason=word(snapshot.reason),
        at=snapshot.mode_since,
        mode_seq=snapshot.mode_seq,
        model_version=snapshot.model_version,
        latched=snapshot.latched,
        evidence=_both(snapshot, unit),
    )


def mode_events_from_records(
    config: ProxyConfig, records: Iterable[npt.NDArray[np.void]], unit: float = 1.0
) -> list[ModeEvent]:
    """Turn the MODE records of a proxy's ring into events, in their order.

    Args:
        config: of the proxy that the records came from.
        records: arrays as `Proxy.peek` returns them (struct mlp_record); other
            record types are skipped.
        unit: fixed-point steps in one unit of the proxy's cost.

    Returns:
        One event per MODE record, with the evidence that the core had when it
        decided (a snapshot taken later shows a comparison that has begun anew).
        `mode_seq` is 0: records do not carry it.
    """
    return [
        ModeEvent(
            proxy=config.name,
            old=word(Mode(int(row["stream"]))),
            new=word(Mode(int(row["mode"]))),
            reason=word(Reason(int(row["default_action"]))),
            at=int(row["time"]),
            model_version=int(row["model_version"]),
            evidence=_recorded(config, row, unit),
        )
        for part in records
        for row in part[part["type"] == RecordType.MODE]
    ]


def _recorded(config: ProxyConfig, row: np.void, unit: float) -> tuple[EvidenceData, ...]:
    """The evidence in a MODE record, as kmod/uapi/mlproxy.h lays it out."""
    pairs, more = int(row["unit"]), row["features"]
    if not pairs and not int(row["aux"]):
        return ()
    whole = int(row["nr_features"]) >= MODE_FEATURES

    def wide(at: int) -> float:
        if not whole:
            return 0.0
        return (int(more[at + 1]) << 32 | int(more[at]) & 0xFFFF_FFFF) / unit

    return (
        EvidenceData(
            source="twin" if config.twin_gate else "trial",
            default_mean=wide(3),
            model_mean=wide(5),
            default_count=int(more[1]) if whole else 0,
            model_count=int(more[2]) if whole else 0,
            pairs=pairs,
            saving_ratio=int(row["aux"]) / PPM,
            lower_ratio=int(row["cost"]) / PPM,
            upper_ratio=int(more[0]) / PPM if whole else 0.0,
            regret=wide(7),
        ),
    )


def changes(
    proxy: str,
    old: Snapshot | None,
    new: Snapshot,
    *,
    with_mode: bool = True,
    unit: float = 1.0,
) -> list[FeedEvent]:
    """Events between two snapshots of a proxy.

    Args:
        proxy: its name.
        old: the earlier snapshot; None: the proxy has just started.
        new: the later one.
        with_mode: False when the subsystem itself tells of mode changes.
        unit: fixed-point steps in one unit of the proxy's cost.

    Returns:
        At most one ModeEvent (several changes between two looks appear as one, with the
        jump visible in `mode_seq`), and one RejectEvent per reason.
    """
    events: list[FeedEvent] = []
    if with_mode and (old is None or old.mode_seq != new.mode_seq):
        events.append(mode_event(proxy, word(old.mode if old else Mode.EMERGENCY), new, unit))
    for reason, total in new.rejected.items():
        count = total - (old.rejected.get(reason, 0) if old else 0)
        if count > 0:
            events.append(
                RejectEvent(proxy=proxy, reason=word(reason), count=count, total=total, at=new.now)
            )
    return events


def champion_of(report: Mapping[str, Any]) -> str:
    """The champion in a models report, or ""."""
    return str(report.get("champion") or "")


def champion_event(
    proxy: str, old: Mapping[str, Any], new: Mapping[str, Any], snapshot: Snapshot
) -> ModelEvent | None:
    """An event when another candidate has become champion."""
    before, after = champion_of(old), champion_of(new)
    if not after or before == after:
        return None
    return ModelEvent(
        proxy=proxy,
        what="champion",
        candidate=after,
        previous=before,
        model_version=snapshot.model_version,
        at=snapshot.now,
    )


_Scalar = float | int | str | bool | None


def _candidates(report: Mapping[str, Any]) -> dict[str, dict[str, _Scalar]]:
    """The per-candidate part of a report, flat enough for the feed."""
    found = report.get("candidates", {})
    if isinstance(found, Mapping):
        pairs = [(str(k), v) for k, v in found.items()]
    else:
        pairs = [(str(v.get("name", i)), v) for i, v in enumerate(found) if isinstance(v, Mapping)]
    scalar = (bool, int, float, str, type(None))
    return {
        name: {str(k): v for k, v in value.items() if isinstance(v, scalar)}
        for name, value in pairs
        if isinstance(value, Mapping)
    }


def state_message(
    config: ProxyConfig,
    subsystem: str,
    guard: str,
    snapshot: Snapshot,
    models: Mapping[str, Any],
    unit: float = 1.0,
) -> StateMessage:
    """The retained picture of one proxy; costs in units of `unit` fixed-point steps."""
    total = sum(snapshot.mode_time) or 1
    drifts = models.get("drifts", 0)
    return StateMessage(
        proxy=config.name,
        subsystem=subsystem,
        kind=config.kind.name.lower(),
        mode=word(snapshot.mode),
        reason=word(snapshot.reason),
        guard=guard,
        at=snapshot.now,
        mode_since=snapshot.mode_since,
        mode_seq=snapshot.mode_seq,
        latched=snapshot.latched,
        operator_hold=snapshot.operator_hold,
        trips=snapshot.trips,
        mode_share={word(m): snapshot.mode_time[m] / total for m in Mode},
        decisions={arm.name.lower(): snapshot.decisions[arm] for arm in Arm},
        fallbacks=snapshot.fallbacks,
        accepted=snapshot.accepted,
        rejected={word(r): n for r, n in snapshot.rejected.items() if n},
        model_version=snapshot.model_version,
        champion=champion_of(models),
        drifts=drifts if isinstance(drifts, int) else 0,
        trial=evidence_data("trial", snapshot.trial, unit),
        twin=evidence_data("twin", snapshot.twin, unit),
        ring_lost=snapshot.ring_lost,
        models=_candidates(models),
    )
