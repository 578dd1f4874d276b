"""Messages on their way out: fan-out, listeners, log, states and events of proxies."""

from __future__ import annotations

import dataclasses
import io
import json
import threading
from types import ModuleType

import pytest
import structlog
from structlog.testing import capture_logs

from mlproxy import hookimpl, log
from mlproxy.app.report import changes, mode_events_from_records, state_message, word
from mlproxy.app.sinks import Fanout, LogSink, Notifier
from mlproxy.events.types import (
    FeedEvent,
    FeedMessage,
    ModeEvent,
    ModelEvent,
    PluginEvent,
    RejectEvent,
)
from mlproxy.hooks import Hooks
from mlproxy.proxy.in_process import InProcessProxy
from mlproxy.proxy.types import (
    Kind,
    Mode,
    ProxyConfig,
    Reason,
    Recommendation,
    Reject,
    Snapshot,
)
from mlproxy.testing import FakeProxy, RecordingSink

CONFIG = ProxyConfig("p", Kind.CHOICE)
EVENT = PluginEvent(proxy="x", what="loaded")


class Broken:
    def emit(self, message: FeedMessage) -> None:
        raise RuntimeError


def test_a_broken_sink_does_not_stop_the_others() -> None:
    good = RecordingSink()
    with capture_logs() as logs:
        Fanout([Broken(), good]).emit(EVENT)

    assert good.messages == [EVENT]
    assert logs[0]["event"] == "sink.failed"


def test_every_kind_of_event_is_logged_as_noun_and_verb() -> None:
    sink = LogSink()
    with capture_logs() as logs:
        sink.emit(ModeEvent(proxy="p", old="learning", new="trusted", reason="promoted", at=1))
        sink.emit(RejectEvent(proxy="p", reason="range", count=1, total=2))
        sink.emit(ModelEvent(proxy="p", what="champion", candidate="tree"))
        sink.emit(EVENT)
        sink.emit(PluginEvent(proxy="x", what="quarantined", code="plugin.overrun", phase="step"))

    names = [entry["event"] for entry in logs]
    assert names == [
        "mode.changed",
        "recommendation.rejected",
        "model.champion",
        "plugin.loaded",
        "plugin.quarantined",
    ]
    assert logs[-1]["log_level"] == "error"


def listener(heard: list[FeedEvent], *, broken: bool = False) -> ModuleType:
    module = ModuleType("listener")

    @hookimpl
    def mlproxy_event(event: FeedEvent) -> None:
        if broken:
            raise RuntimeError
        heard.append(event)

    vars(module)["mlproxy_event"] = mlproxy_event
    return module


def test_listeners_hear_events_though_one_is_broken() -> None:
    heard: list[FeedEvent] = []
    hooks = Hooks()
    hooks.register("a", listener(heard, broken=True))
    hooks.register("b", listener(heard))
    notifier = Notifier(hooks)
    for _ in range(3):
        notifier.emit(EVENT)
    notifier.emit(state_message(CONFIG, "s", "in-process", FakeProxy(CONFIG).snapshot(0), {}))
    worker = notifier._worker
    assert worker is not None
    worker.submit(lambda: None).result(10)
    notifier.close()

    assert heard == [EVENT] * 3


def test_a_slow_listener_costs_events_not_time() -> None:
    entered, release = threading.Event(), threading.Event()
    module = ModuleType("slow")

    @hookimpl
    def mlproxy_event() -> None:
        entered.set()
        release.wait(20)

    vars(module)["mlproxy_event"] = mlproxy_event
    hooks = Hooks()
    hooks.register("slow", module)
    notifier = Notifier(hooks, size=2)
    notifier.emit(EVENT)
    assert entered.wait(20)
    for _ in range(5):
        notifier.emit(EVENT)
    assert notifier.dropped == 3
    release.set()
    notifier.close()


def test_words_are_lower_case_with_dashes() -> None:
    assert word(Reason.OPERATOR_OVERRIDE) == "operator-override"
    assert word(Mode.COLLABORATION) == "collaboration"
    assert word(Reject.REPLAY) == "replay"


def test_mode_records_become_events() -> None:
    proxy = FakeProxy(CONFIG)
    proxy.start(3)
    proxy.publish(type=1, time=4)
    proxy.force(Mode.COLLABORATION, Reason.PROMOTED, 9)
    proxy.publish(type=5, time=10, mode=0, stream=2, default_action=Reason.COST_SPIKE, aux=-250_000)

    events = mode_events_from_records(CONFIG, proxy.peek())

    assert [(e.old, e.new, e.reason, e.at) for e in events] == [
        ("emergency", "learning", "start", 3),
        ("learning", "collaboration", "promoted", 9),
        ("collaboration", "emergency", "cost-spike", 10),
    ]
    assert events[0].evidence == ()
    assert events[2].evidence[0].source == "trial"
    assert events[2].evidence[0].saving_ratio == pytest.approx(-0.25)


def test_the_cores_evidence_at_a_promotion_is_in_the_event() -> None:
    config = ProxyConfig("p", Kind.CHOICE, seed=3)
    proxy = InProcessProxy(config)
    proxy.start(0)
    before = proxy.snapshot(0)
    for now in range(1, 50_000):
        proxy.submit(
            Recommendation(Kind.CHOICE, now, now + 10, model_id=1, model_version=4, value=1), now
        )
        decision = proxy.decide((), now, 0, now)
        proxy.report(decision.arm, now, (1 << 40) + 9 if decision.action == 0 else -(1 << 33), now)
        if proxy.snapshot(now).mode is Mode.COLLABORATION:
            break
        before = proxy.snapshot(now)

    event = mode_events_from_records(config, proxy.peek())[-1]
    evidence = event.evidence[0]

    assert (event.new, event.reason, event.model_version) == ("collaboration", "promoted", 4)
    # Wider than 32 bits, and of both signs.
    assert evidence.default_mean == pytest.approx(2**40, rel=1e-6)
    assert evidence.model_mean == pytest.approx(-(2**33), rel=1e-6)
    counts = (before.trial.default.count, before.trial.model.count)
    assert sum(counts) < evidence.default_count + evidence.model_count <= sum(counts) + 1
    assert evidence.pairs >= before.trial.pairs
    assert 0 < evidence.lower_ratio <= evidence.saving_ratio
    assert evidence.regret < 0
    scaled = mode_events_from_records(config, proxy.peek(), 1000.0)[-1]
    assert scaled.evidence[0].default_mean == evidence.default_mean / 1000


def test_changes_between_snapshots() -> None:
    proxy = FakeProxy(CONFIG)
    proxy.start(1)
    first = proxy.snapshot(2)
    later: Snapshot = dataclasses.replace(
        first,
        mode=Mode.EMERGENCY,
        reason=Reason.BUDGET,
        mode_since=5,
        mode_seq=first.mode_seq + 3,
        rejected={Reject.RANGE: 2, Reject.KIND: 0},
        now=6,
    )

    events = changes("p", first, later)

    assert isinstance(events[0], ModeEvent)
    assert (events[0].old, events[0].new, events[0].reason) == ("learning", "emergency", "budget")
    assert events[0].mode_seq == first.mode_seq + 3
    assert events[1:] == [RejectEvent(proxy="p", reason="range", count=2, total=2, at=6)]
    assert changes("p", later, later) == []
    assert changes("p", first, later, with_mode=False) == events[1:]


def test_json_lines_when_not_on_a_terminal() -> None:
    out = io.StringIO()
    log.configure("info", "auto", out)
    log.get_logger(plugin="x").info("thing.happened", number=1)
    log.get_logger().debug("thing.hidden")

    entry = json.loads(out.getvalue())
    assert entry["event"] == "thing.happened"
    assert (entry["plugin"], entry["number"], entry["level"]) == ("x", 1, "info")
    assert entry["timestamp"].endswith("Z")


def test_repeated_errors_are_rate_limited() -> None:
    now = [0.0]
    limit = log.RateLimit(10.0, clock=lambda: now[0])

    def passes(event: str, method: str = "error", **more: object) -> dict[str, object] | None:
        try:
            return dict(limit(None, method, {"event": event, **more}))
        except structlog.DropEvent:
            return None

    assert passes("a")
    assert passes("a") is None
    assert passes("a", plugin="other")
    assert passes("a", "info")
    assert passes("a", "info")
    assert passes("b")
    now[0] = 10.0
    assert passes("a") == {"event": "a", "suppressed": 1}
    assert passes("a") is None
