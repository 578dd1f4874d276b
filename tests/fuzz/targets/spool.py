"""Fuzz the reading of spool segments (what a crash or a bad disk leaves)."""

from __future__ import annotations

from mlproxy.feed.record import Record
from mlproxy.feed.spool import MAGIC, frame, parse_segment

_RECORDS = [
    Record(i, kind, f"mlproxy/v1/box/event/p/{kind}", b'{"v":1}' * i)
    for i, kind in enumerate(("mode", "model", "loss"), start=1)
]

SEEDS: list[bytes] = [
    MAGIC,
    MAGIC + b"".join(map(frame, _RECORDS)),
    MAGIC + frame(_RECORDS[1]) + frame(_RECORDS[0]),
    MAGIC + frame(Record(1, "mode", "mlproxy/v1/box/event/+/mode", b"")),
]


def fuzz_one(data: bytes) -> None:
    """The sound part is a prefix that parses to itself and holds what it says."""
    records, sound = parse_segment(data)
    assert 0 <= sound <= len(data)
    if sound:
        assert data[:sound] == MAGIC + b"".join(map(frame, records))
    else:
        assert not records
    ordinals = [r.ordinal for r in records]
    assert ordinals == sorted(set(ordinals))
