"""The parts of the feed that hold and time messages in memory."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlproxy.errors import FeedError
from mlproxy.events import MetricMessage, StateMessage
from mlproxy.feed.backoff import Backoff
from mlproxy.feed.config import FeedConfig
from mlproxy.feed.outbox import Outbox
from mlproxy.feed.stamp import Stamper, rfc3339
from mlproxy.feed.states import StateTable
from mlproxy.feed.topics import Topics, check_id, node_id, parse_topic


def outbox(max_bytes: int = 1 << 20, max_metrics: int = 8) -> Outbox:
    return Outbox(max_bytes=max_bytes, max_metrics=max_metrics)


def test_events_leave_in_order_whatever_their_lane():
    box = outbox()
    for i in range(1, 21):
        box.add_event("mode" if i % 3 == 0 else "model", "t", str(i).encode())
    assert [r.ordinal for r in box.take_events(7)] == [1, 2, 3, 4, 5, 6, 7]
    assert [r.ordinal for r in box.take_events(99, below=12)] == [8, 9, 10, 11]
    assert box.head == 12
    assert [int(r.payload) for r in box.take_events(99)] == list(range(12, 21))
    assert (box.events, box.event_bytes, box.head) == (0, 0, None)


def test_what_comes_back_is_first_again():
    box = outbox()
    for kind in ("mode", "model", "mode", "model"):
        box.add_event(kind, "t", b"x")
    taken = box.take_events(3)
    box.put_back(taken)
    assert box.take_events(9)[:3] == taken


def test_the_oldest_ordinary_event_goes_first_and_is_counted():
    box = outbox(max_bytes=1000)
    for i in range(1, 31):
        box.add_event("mode" if i % 10 == 1 else "model", "t", b"x" * 100)
    left = box.take_events(99)
    assert [r.ordinal for r in left if r.kind == "mode"] == [1, 11, 21]
    assert [r.ordinal for r in left if r.kind == "model"] == [27, 28, 29, 30]
    assert box.dropped() == Counter(model=23)


def test_mode_changes_go_when_nothing_else_is_left():
    box = outbox(max_bytes=1000)
    for _ in range(20):
        box.add_event("mode", "t", b"x" * 100)
    assert [r.ordinal for r in box.take_events(99)] == list(range(14, 21))
    assert box.dropped() == Counter(mode=13)


def test_of_metrics_the_latest_are_kept():
    box = outbox(max_metrics=3)
    for i in range(5):
        box.add_metric("t", str(i).encode())
    assert box.take_metrics(2) == [("t", b"2"), ("t", b"3")]
    assert box.take_metrics(2) == [("t", b"4")]
    assert box.dropped() == Counter(metric=2)


def test_rebase_continues_an_earlier_session():
    box = outbox()
    box.add_event("mode", "t", b"a")
    box.add_event("model", "t", b"b")
    box.rebase(100)
    box.add_event("mode", "t", b"c")
    assert [r.ordinal for r in box.take_events(9)] == [100, 101, 102]


# States


def state(proxy: str = "p", **changes: object) -> StateMessage:
    values = {
        "proxy": proxy,
        "subsystem": "s",
        "kind": "program",
        "mode": "learning",
        "reason": "start",
        "guard": "in-process",
        "at": 0,
        "mode_since": 0,
        "mode_seq": 1,
    }
    return StateMessage(**(values | changes))


def test_a_state_is_due_on_change_and_at_max_age():
    table = StateTable(min_age=1.0, max_age=30.0)
    assert table.seconds_to_next(0.0) is None
    table.put(state(), "t", b"1")
    assert table.take_due(0.0) == [("t", b"1")]
    assert table.take_due(29.9) == []
    assert table.seconds_to_next(10.0) == pytest.approx(20.0)
    assert table.take_due(30.0) == [("t", b"1")]


def test_numbers_wait_for_min_age_and_only_the_latest_goes():
    table = StateTable(min_age=1.0, max_age=30.0)
    table.put(state(), "t", b"1")
    table.take_due(0.0)
    table.put(state(at=5), "t", b"2")
    table.put(state(at=6), "t", b"3")
    assert table.take_due(0.9) == []
    assert table.seconds_to_next(0.25) == pytest.approx(0.75)
    assert table.take_due(1.0) == [("t", b"3")]
    assert table.merged == 1


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "trusted"},
        {"reason": "promoted"},
        {"latched": True},
        {"operator_hold": True},
        {"champion": "tree"},
        {"model_version": 4},
        {"guard": "kernel"},
        {"mode_seq": 9},
    ],
)
def test_what_a_person_reacts_to_is_due_at_once(change):
    table = StateTable(min_age=1.0, max_age=30.0)
    table.put(state(), "t", b"1")
    table.take_due(0.0)
    table.put(state(**change), "t", b"2")
    table.put(state(**change, at=3), "t", b"3")
    assert table.take_due(0.1) == [("t", b"3")]


def test_everything_is_due_after_a_reconnect():
    table = StateTable(min_age=1.0, max_age=30.0)
    for proxy in "ab":
        table.put(state(proxy), proxy, proxy.encode())
    table.take_due(0.0)
    table.renew()
    assert table.take_due(0.1) == [("a", b"a"), ("b", b"b")]


# Stamps


class FixedClock:
    def __init__(self) -> None:
        self.ns = 0

    def monotonic_ns(self) -> int:
        self.ns += 1
        return self.ns

    def utc_now(self) -> datetime:
        return datetime(2026, 2, 6, 13, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=1)))


def test_stamps_count_per_class_without_gaps():
    stamper = Stamper("box", "s1", FixedClock())
    first = stamper.stamp(MetricMessage(proxy="p"), "metric")
    assert (first.seq, first.node, first.session, first.mono_ns) == (1, "box", "s1", 1)
    assert first.ts == "2026-02-06T12:00:00.250000Z"
    assert stamper.stamp(state(), "state").seq == 1
    stamper.stamp(MetricMessage(proxy="p"), "metric")
    stamper.take_back("metric")
    assert stamper.stamp(MetricMessage(proxy="p"), "metric").seq == 2
    assert stamper.last("metric") == 2


def test_a_session_is_made_up_and_differs():
    one, two = (Stamper("box", "", FixedClock()).session for _ in range(2))
    assert one != two


def test_time_has_a_fixed_width():
    assert rfc3339(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000000Z"


# Back-off


def test_back_off_doubles_within_its_bounds_and_jitters():
    backoff = Backoff(0.5, 8.0, random.Random(7))
    delays = [backoff.next(held=0.0) for _ in range(50)]
    bases = [0.5, 1.0, 2.0, 4.0] + [8.0] * 46
    assert all(base / 2 <= delay <= base for delay, base in zip(delays, bases, strict=True))
    assert len(set(delays)) == 50


def test_only_a_connection_that_held_resets_the_back_off():
    backoff = Backoff(0.5, 8.0, random.Random(7))
    for _ in range(10):
        backoff.next(held=0.0)
    assert backoff.next(held=7.9) >= 4.0
    assert backoff.next(held=8.0) <= 0.5


# Topics


def test_topics():
    topics = Topics("box")
    assert topics.status == "mlproxy/v1/box/status"
    assert topics.info == "mlproxy/v1/box/info"
    assert topics.state("lfs.placement") == "mlproxy/v1/box/state/lfs.placement"
    assert topics.event("p", "mode") == "mlproxy/v1/box/event/p/mode"
    assert topics.metric("p") == "mlproxy/v1/box/metric/p"


@pytest.mark.parametrize(
    "bad", ["", "a+b", "#", "a/b", "Box", "ä", "a b", "-a", ".", "a\n", "x" * 65, "a\0", "$sys"]
)
def test_bad_ids_are_refused_everywhere(bad):
    for build in (
        check_id,
        Topics,
        Topics("n").state,
        Topics("n").metric,
        lambda i: Topics("n").event(i, "mode"),
        lambda i: Topics("n").event("p", i),
    ):
        with pytest.raises(FeedError) as caught:
            build(bad)
        assert caught.value.code == "feed.bad_id"


@given(st.text(max_size=100))
def test_any_host_name_gives_a_node_id(text):
    assert check_id(node_id(text)) == node_id(text)


@given(st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,63}", fullmatch=True))
def test_what_is_built_can_be_parsed(name):
    parsed = parse_topic(Topics(name).event(name, "mode"))
    assert (parsed.node, parsed.cls, parsed.proxy, parsed.kind) == (name, "event", name, "mode")


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "mlproxy",
        "mlproxy/v1/",
        "mlproxy/v1/box",
        "mlproxy/v1/box/status/x",
        "mlproxy/v1/box/event/p",
        "mlproxy/v1/box/other",
        "mlproxy/v1/+/status",
        "mlproxy/v2/box/status",
        "x/mlproxy/v1/box/status",
        "/mlproxy/v1/box/status",
    ],
)
def test_other_topics_are_refused(bad):
    with pytest.raises(FeedError) as caught:
        parse_topic(bad)
    assert caught.value.code == "feed.bad_topic"


# Configuration


def test_the_default_is_an_embedded_broker():
    config = FeedConfig()
    assert (config.host, config.embedded_port, config.spool_bytes) == (None, 1883, 8 << 20)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"hots": "x"}, "hots"),
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"spool_bytes": 1}, "spool_bytes"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"reconnect_min_seconds": 5, "reconnect_max_seconds": 1}, "reconnect_max_seconds"),
        ({"host": "x", "password_file": "/x"}, "username"),
        ({"host": "x", "ca_file": "/x"}, "tls"),
        ({"tls": True}, "host"),
        ({"username": "x"}, "host"),
    ],
)
def test_bad_configuration_names_the_key(values, says):
    with pytest.raises(ValidationError, match=says):
        FeedConfig(**values)


def test_every_key_is_described():
    assert all(f.description for f in FeedConfig.model_fields.values())
