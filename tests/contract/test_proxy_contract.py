"""What every `Proxy` must do, wherever it lives: one run through all its calls."""

import dataclasses

import numpy as np
import pytest

from mlproxy.errors import ProxyError
from mlproxy.proxy import (
    RECORD_DTYPE,
    Arm,
    Decision,
    Kind,
    Mode,
    Program,
    ProgramNode,
    ProxyConfig,
    Reason,
    Recommendation,
    RecordType,
    Reject,
    encode_recommendation,
)

CONFIG = ProxyConfig(
    name="contract", kind=Kind.CHOICE, max=3, heartbeat_limit=100, cooldown=10, cooldown_max=10
)


@pytest.fixture
def proxy(make_proxy):
    return make_proxy(CONFIG)


def mode(proxy, now):
    return proxy.snapshot(now).mode


def test_life_from_start_to_stop(proxy, transport):
    assert dataclasses.replace(proxy.config, name="contract") == CONFIG
    assert proxy.guard == transport
    assert mode(proxy, 0) is Mode.EMERGENCY
    assert proxy.submit(Recommendation(Kind.CHOICE, 1, 90, 1, 1), 0) is Reject.STATE
    proxy.start(1)
    assert mode(proxy, 1) is Mode.LEARNING
    assert proxy.submit(Recommendation(Kind.CHOICE, 1, 90, 1, 4, value=2), 2) is Reject.NONE
    assert proxy.submit(Recommendation(Kind.CHOICE, 2, 90, 1, 4, value=9), 2) is Reject.RANGE
    proxy.heartbeat(50)
    proxy.tick(150)
    assert mode(proxy, 150) is Mode.LEARNING
    proxy.tick(151)
    s = proxy.snapshot(151)
    assert (s.mode, s.reason, s.trips) == (Mode.EMERGENCY, Reason.HEARTBEAT, 1)
    assert (s.accepted, s.rejected[Reject.RANGE], s.model_version) == (1, 1, 4)
    proxy.heartbeat(160)
    proxy.tick(161)
    assert mode(proxy, 161) is Mode.LEARNING
    proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 162)
    assert mode(proxy, 162) is Mode.TRUSTED
    proxy.critical(True, 163)
    assert proxy.snapshot(163).reason is Reason.CRITICAL
    proxy.critical(False, 164)
    proxy.operator_emergency(True, 165)
    assert proxy.snapshot(165).operator_hold
    proxy.operator_emergency(False, 166)
    proxy.tick(176)
    assert mode(proxy, 176) is Mode.LEARNING
    proxy.stop(177)
    s = proxy.snapshot(177)
    assert (s.mode, s.reason) == (Mode.EMERGENCY, Reason.AGENT_GONE)


def test_mode_changes_come_through_the_ring(proxy):
    proxy.start(5)
    proxy.stop(6)
    views = proxy.peek()
    assert all(view.dtype == RECORD_DTYPE for view in views)
    records = np.concatenate(views)
    assert list(records["type"]) == [RecordType.MODE] * 2
    assert list(records["default_action"]) == [Reason.START, Reason.AGENT_GONE]
    assert list(records["mode"]) == [Mode.LEARNING, Mode.EMERGENCY]
    assert list(records["time"]) == [5, 6]
    assert proxy.consume(2) == 0
    assert sum(len(view) for view in proxy.peek()) == 0


def test_what_is_refused_now(proxy):
    with pytest.raises(ProxyError) as early:
        proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
    proxy.start(1)
    with pytest.raises(ProxyError) as twice:
        proxy.start(2)
    assert (early.value.code, twice.value.code) == ("proxy.state", "proxy.state")


def test_the_model_acts_on_its_share_and_the_default_on_the_rest(proxy):
    proxy.start(0)
    proxy.submit(Recommendation(Kind.CHOICE, 1, 90, 1, 4, confidence=700, value=2), 1)
    proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 2)
    decisions = [proxy.decide([], unit, 1, 3) for unit in range(500)]
    assert set(decisions) == {Decision(Arm.DEFAULT, 1, 0, 0), Decision(Arm.MODEL, 2, 4, 700)}
    by_model = sum(d.arm for d in decisions)
    assert proxy.snapshot(4).decisions == (500 - by_model, by_model)
    assert by_model > 400
    assert proxy.decide([], 0, 1, 91).arm is Arm.DEFAULT


def test_a_program_decides_as_it_says(make_proxy):
    config = ProxyConfig("program", Kind.PROGRAM, nr_features=2, max=7, max_nodes=8, sample_every=1)
    proxy = make_proxy(config)
    proxy.start(0)
    nodes = (ProgramNode(1, 10, 1, 2), ProgramNode(-1, 3, confidence=9), ProgramNode(-1, 7))
    program = Program(nodes, nr_features=2)
    advice = Recommendation(Kind.PROGRAM, 1, 90, 1, 5, program=program)
    assert proxy.submit(advice, 0) is Reject.NONE
    proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 1)
    proxy.consume(sum(len(view) for view in proxy.peek()))
    for unit in range(20):
        features = [unit, unit]
        decision = proxy.decide(features, unit, 1, 2)
        by_model = Decision(Arm.MODEL, 3, 5, 9) if unit <= 10 else Decision(Arm.MODEL, 7, 5, 0)
        assert decision == (by_model if decision.arm else Decision(Arm.DEFAULT, 1, 0, 0))
    records = np.concatenate(proxy.peek())
    assert list(records["type"]) == [RecordType.SAMPLE] * 20
    assert records["features"][:, :2].tolist() == [[unit, unit] for unit in range(20)]
    with pytest.raises(ProxyError) as caught:
        proxy.decide([1], 0, 0, 3)
    assert caught.value.code == "proxy.features"


def test_a_rank_prefers_its_ids(make_proxy):
    proxy = make_proxy(ProxyConfig("rank", Kind.RANK, max=1000))
    proxy.start(0)
    assert proxy.submit(Recommendation(Kind.RANK, 1, 90, 1, 1, ids=(5, 900, 7)), 0) is Reject.NONE
    assert proxy.submit(Recommendation(Kind.RANK, 2, 90, 1, 1, ids=(5, 5)), 0) is Reject.DUPLICATE
    proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 1)
    ranks = {proxy.decide_rank(unit, 2) for unit in range(200)}
    assert ranks == {(), (5, 900, 7)}
    assert {proxy.decide_rank(unit, 2, limit=2) for unit in range(200)} == {(), (5, 900)}


def test_evidence_promotes_and_gross_harm_is_an_emergency(make_proxy):
    proxy = make_proxy(ProxyConfig("evidence", Kind.CHOICE, max=3), capacity=4096)
    proxy.start(0)
    now = 0
    while mode(proxy, now) is not Mode.TRUSTED and now < 2000:
        now += 1
        proxy.report(Arm.DEFAULT, now, 1000 + now % 7, now)
        proxy.report(Arm.MODEL, now, 700 + now % 5, now)
    trusted = proxy.snapshot(now)
    assert (trusted.mode, trusted.reason) == (Mode.TRUSTED, Reason.PROMOTED)
    assert trusted.twin.pairs == 0
    for _ in range(3):
        now += 1
        proxy.report(Arm.MODEL, now, 9000, now)
    harmed = proxy.snapshot(now)
    assert (harmed.mode, harmed.reason) == (Mode.EMERGENCY, Reason.COST_SPIKE)


def test_twins_promote_a_gated_proxy(make_proxy):
    proxy = make_proxy(ProxyConfig("twin", Kind.CHOICE, max=3, twin_gate=1), capacity=4096)
    proxy.start(0)
    assert proxy.snapshot(0).state == 2
    for now in range(1, 200):
        proxy.report_twin(1000 + now % 7, 700 + now % 5, now)
    assert proxy.snapshot(200).twin.saving_ppm > 200_000
    assert mode(proxy, 200) is Mode.TRUSTED


def test_garbage_is_refused_by_reason_and_counted(proxy):
    proxy.start(0)
    good = encode_recommendation(Recommendation(Kind.CHOICE, 1, 90, 1, 4, value=2))
    bad = {
        b"": Reject.SIZE,
        good[:-1]: Reject.SIZE,
        good + b"\0": Reject.SIZE,
        b"\1" + good[1:]: Reject.VERSION,
        good[:4] + b"\1" + good[5:]: Reject.KIND,
        good[:-1] + b"\1": Reject.RESERVED,
    }
    for data, why in bad.items():
        assert proxy.submit_bytes(data, 1) is why
    rejected = proxy.snapshot(1).rejected
    assert sum(rejected.values()) == len(bad)
    assert rejected[Reject.SIZE] == 3
    assert proxy.submit_bytes(good, 1) is Reject.NONE


def test_a_full_ring_drops_the_oldest_and_says_so(make_proxy):
    proxy = make_proxy(CONFIG, capacity=8)
    record = np.zeros((), dtype=RECORD_DTYPE)
    record["type"] = RecordType.LABEL
    for unit in range(6):
        record["unit"] = unit
        proxy.publish(record)
    view = proxy.peek()[0]
    assert not view.flags.writeable
    assert view["unit"].tolist() == [0, 1, 2, 3, 4, 5]
    for unit in range(6, 11):
        record["unit"] = unit
        proxy.publish(record)
    assert proxy.consume(6) == 3
    rest = np.concatenate(proxy.peek())
    assert rest["unit"].tolist() == [6, 7, 8, 9, 10]
    assert rest["seq"].tolist() == [7, 8, 9, 10, 11]
    seen = proxy.snapshot(0)
    assert (seen.ring_head, seen.ring_lost) == (11, 3)
    with pytest.raises(ProxyError) as caught:
        proxy.consume(6)
    assert caught.value.code == "proxy.consume"


def test_a_wrong_configuration_is_refused_with_its_field(make_proxy):
    with pytest.raises(ProxyError) as caught:
        make_proxy(dataclasses.replace(CONFIG, alpha=0))
    assert (caught.value.code, caught.value.context["field"]) == ("proxy.config", "alpha")
    with pytest.raises(ProxyError) as caught:
        make_proxy(CONFIG, capacity=100)
    assert (caught.value.code, caught.value.context["field"]) == ("proxy.config", "capacity")


def test_a_closed_proxy_is_in_emergency_and_closing_twice_is_harmless(proxy):
    proxy.start(0)
    proxy.close()
    proxy.close()
