"""What every `Proxy` must do, wherever it lives: one run through all its calls."""

import numpy as np
import pytest

from mlproxy.proxy import (
    RECORD_DTYPE,
    InProcessProxy,
    Kind,
    Mode,
    ProxyConfig,
    Reason,
    Recommendation,
    RecordType,
    Reject,
)

CONFIG = ProxyConfig(
    name="contract", kind=Kind.CHOICE, max=3, heartbeat_limit=100, cooldown=10, cooldown_max=10
)


@pytest.fixture(params=[InProcessProxy])
def proxy(request):
    return request.param(CONFIG, capacity=64)


def mode(proxy, now):
    return proxy.snapshot(now).mode


def test_life_from_start_to_stop(proxy):
    assert proxy.config == CONFIG
    assert proxy.guard in ("in-process", "kernel")
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
