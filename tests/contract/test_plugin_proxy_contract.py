"""What supervision relies on in a proxy: the fake and the core must agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from mlproxy.proxy.layout import RECORD_DTYPE
from mlproxy.proxy.types import (
    Kind,
    Mode,
    Proxy,
    ProxyConfig,
    Reason,
    Recommendation,
    RecordType,
    Reject,
)
from mlproxy.testing.proxy import RECORD

CONFIG = ProxyConfig("demo.x", Kind.CHOICE, max=3, heartbeat_limit=100, max_expiry=1_000)
WITH_FAKE = True
Make = Callable[[ProxyConfig], Proxy]


@pytest.fixture
def make(make_proxy: Make) -> Make:
    return make_proxy


def recommend(seq: int, *, value: int = 1, expiry: int = 500) -> Recommendation:
    return Recommendation(Kind.CHOICE, seq, expiry, model_id=1, model_version=7, value=value)


def test_the_fakes_records_are_the_abis() -> None:
    assert RECORD == RECORD_DTYPE


def test_life(make: Make, transport: str) -> None:
    proxy = make(CONFIG)
    assert dataclasses.replace(proxy.config, name=CONFIG.name) == CONFIG
    assert proxy.guard == ("kernel" if transport == "kernel" else "in-process")
    assert proxy.snapshot(0).mode is Mode.EMERGENCY

    proxy.start(1)
    seen = proxy.snapshot(2)
    assert (seen.mode, seen.reason, seen.mode_since) == (Mode.LEARNING, Reason.START, 1)

    proxy.stop(5)
    after = proxy.snapshot(6)
    assert (after.mode, after.reason) == (Mode.EMERGENCY, Reason.AGENT_GONE)
    assert after.mode_seq == seen.mode_seq + 1


def test_stop_may_be_called_again_and_from_a_time_that_has_passed(make: Make) -> None:
    proxy = make(CONFIG)
    proxy.start(10)
    proxy.stop(20)
    first = proxy.snapshot(20)
    proxy.stop(20)
    proxy.stop(15)

    again = proxy.snapshot(20)
    assert again.mode is Mode.EMERGENCY
    assert again.mode_seq == first.mode_seq


def test_a_stopped_proxy_neither_takes_recommendations_nor_leaves_emergency(make: Make) -> None:
    proxy = make(CONFIG)
    proxy.start(1)
    proxy.stop(2)

    assert proxy.submit(recommend(1), 3) is Reject.STATE
    proxy.heartbeat(4)
    proxy.tick(1_000_000)
    proxy.operator_emergency(False, 1_000_001)
    assert proxy.snapshot(1_000_002).mode is Mode.EMERGENCY


def test_the_operators_hold(make: Make) -> None:
    proxy = make(CONFIG)
    proxy.start(1)
    proxy.operator_emergency(True, 2)
    held = proxy.snapshot(3)
    assert (held.mode, held.reason, held.operator_hold) == (
        Mode.EMERGENCY,
        Reason.OPERATOR,
        True,
    )

    proxy.tick(4)
    assert proxy.snapshot(5).mode is Mode.EMERGENCY
    proxy.operator_emergency(False, 6)
    assert not proxy.snapshot(7).operator_hold


def test_rejects_are_counted_by_reason(make: Make) -> None:
    proxy = make(CONFIG)
    proxy.start(1)

    assert proxy.submit(recommend(1), 2) is Reject.NONE
    assert proxy.submit(recommend(1), 2) is Reject.REPLAY
    assert proxy.submit(recommend(2, value=9), 2) is Reject.RANGE
    assert proxy.submit(recommend(3, expiry=1), 2) is Reject.EXPIRED
    assert proxy.submit(recommend(4, expiry=90_000), 2) is Reject.EXPIRY
    seen = proxy.snapshot(3)
    assert {r for r, n in seen.rejected.items() if n} == {
        Reject.REPLAY,
        Reject.RANGE,
        Reject.EXPIRED,
        Reject.EXPIRY,
    }
    assert (seen.accepted, seen.model_version, seen.last_seq) == (1, 7, 1)


def test_a_missed_heartbeat(make: Make) -> None:
    proxy = make(CONFIG)
    proxy.start(1)
    proxy.heartbeat(50)
    proxy.tick(149)
    assert proxy.snapshot(149).mode is Mode.LEARNING
    proxy.tick(200)
    seen = proxy.snapshot(200)
    assert (seen.mode, seen.reason) == (Mode.EMERGENCY, Reason.HEARTBEAT)


def test_mode_changes_are_in_the_ring(make: Make) -> None:
    proxy = make(CONFIG)
    proxy.start(1)
    proxy.operator_emergency(True, 2)

    rows = [
        (int(r["stream"]), int(r["mode"]), int(r["default_action"]), int(r["time"]))
        for part in proxy.peek()
        for r in part
        if r["type"] == RecordType.MODE
    ]
    assert rows[-2:] == [
        (Mode.EMERGENCY, Mode.LEARNING, Reason.START, 1),
        (Mode.LEARNING, Mode.EMERGENCY, Reason.OPERATOR, 2),
    ]
    proxy.consume(sum(len(part) for part in proxy.peek()))
    assert sum(len(part) for part in proxy.peek()) == 0
