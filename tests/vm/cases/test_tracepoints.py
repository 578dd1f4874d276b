"""Mode changes, decisions and refusals are traced, with the values that the callers saw."""

import random
import time

import pytest
from mlproxy_vm.tracing import tracing

from mlproxy.proxy import (
    KernelClock,
    KernelProxy,
    Kind,
    Knob,
    Mode,
    Program,
    ProgramNode,
    ProxyConfig,
    Reason,
    Recommendation,
    RecordType,
    Reject,
    Trial,
)

TREE = Program(
    (ProgramNode(0, 10, 1, 2), ProgramNode(-1, 3, 0, 0, 900), ProgramNode(-1, 5, 0, 0, 700)),
    nr_features=2,
)


@pytest.fixture
def trace(module):
    """The module is loaded and traced."""
    with tracing() as events:
        yield events


def made(kind, **what):
    what = {"max": 7, "cooldown": 10, "cooldown_max": 10} | what
    return KernelProxy.create(ProxyConfig("traced", kind, **what), clock=KernelClock.CALLER)


def test_decisions(trace):
    rng = random.Random(1)
    with made(Kind.PROGRAM, nr_features=2, nr_streams=2) as proxy:
        proxy.start(1)
        proxy.submit(Recommendation(Kind.PROGRAM, 1, 10**6, 4, 77, program=TREE), 1)
        proxy.set_mode(Mode.COLLABORATION, Reason.OPERATOR, 1)
        trace.take("mlproxy_decision")
        expected = []
        for now in range(2, 400):
            unit, default, stream = rng.getrandbits(64), rng.randint(-9, 9), rng.randrange(2)
            features = [rng.randint(0, 20), rng.randint(0, 20)]
            d = proxy.decide(features, unit, default, now, stream=stream)
            expected.append(
                {
                    "proxy": "traced",
                    "stream": str(stream),
                    "unit": str(unit),
                    "arm": d.arm.name.lower(),
                    "action": str(d.action),
                    "default": str(default),
                    "version": str(d.model_version),
                }
            )
    assert trace.take("mlproxy_decision") == expected
    assert {(e["arm"], e["version"]) for e in expected} == {("default", "0"), ("model", "77")}
    assert {e["action"] for e in expected if e["arm"] == "model"} == {"3", "5"}


def test_rankings(trace):
    with made(Kind.RANK, max=99) as proxy:
        proxy.start(1)
        proxy.submit(Recommendation(Kind.RANK, 1, 10**6, 4, 5, ids=(8, 3, 9)), 1)
        proxy.set_mode(Mode.COLLABORATION, Reason.OPERATOR, 1)
        got = [proxy.decide_rank(unit, 2, limit=2) for unit in range(50)]
    events = trace.take("mlproxy_rank")
    assert [(e["unit"], e["nr"]) for e in events] == [
        (str(u), str(len(r))) for u, r in enumerate(got)
    ]
    assert {(e["arm"], e["nr"], e["version"]) for e in events} == {
        ("default", "0", "0"),
        ("model", "2", "5"),
    }


def test_mode_changes_as_the_ring_has_them(trace):
    with made(Kind.VALUE) as proxy:
        proxy.start(1)
        proxy.set_mode(Mode.COLLABORATION, Reason.PROMOTED, 5)
        proxy.set_mode(Mode.TRUSTED, Reason.PROMOTED, 7)
        proxy.critical(True, 9)
        proxy.critical(False, 10)
        proxy.tick(30)  # cooled down
        proxy.operator_emergency(True, 40)
        proxy.operator_emergency(False, 41)
        proxy.tick(60)
        proxy.stop(70, Reason.AGENT_GONE)
        records = [r for view in proxy.peek() for r in view.copy()]
    changes = [r for r in records if r["type"] == RecordType.MODE]
    expected = [
        {
            "proxy": "traced",
            "from": Mode(r["stream"]).name.lower(),
            "to": Mode(r["mode"]).name.lower(),
            "reason": str(int(r["default_action"])),
            "now": str(int(r["time"])),
        }
        for r in changes
    ]
    assert [(e["from"], e["to"], e["reason"], e["now"]) for e in expected] == [
        ("emergency", "learning", "1", "1"),
        ("learning", "collaboration", "2", "5"),
        ("collaboration", "trusted", "2", "7"),
        ("trusted", "emergency", "10", "9"),
        ("emergency", "learning", "13", "30"),
        ("learning", "emergency", "11", "40"),
        ("emergency", "learning", "13", "60"),
        ("learning", "emergency", "6", "70"),
    ]
    assert trace.take("mlproxy_mode") == expected


def test_refusals(trace):
    with made(Kind.VALUE) as proxy:
        proxy.start(1)
        bad = {
            Reject.RANGE: Recommendation(Kind.VALUE, 1, 99, 4, 5, value=8),
            Reject.KIND: Recommendation(Kind.CHOICE, 1, 99, 4, 5),
            Reject.MODEL: Recommendation(Kind.VALUE, 1, 99, 4, 0),
            Reject.REPLAY: Recommendation(Kind.VALUE, 0, 99, 4, 5),
            Reject.EXPIRED: Recommendation(Kind.VALUE, 1, 1, 4, 5),
        }
        for now, (why, what) in enumerate(bad.items(), 10):
            assert proxy.submit(what, now) is why
        proxy.submit(Recommendation(Kind.VALUE, 1, 99, 4, 5, value=3), 20)  # is none
    assert trace.take("mlproxy_reject") == [
        {"proxy": "traced", "why": str(int(why)), "now": str(now)}
        for now, why in enumerate(bad, 10)
    ]


def test_what_a_knob_proxy_decides(trace):
    config = ProxyConfig(
        "traced", Kind.VALUE, Trial.SWITCHBACK, max=100, epoch=20_000_000, share_learning=999_999,
        share_collaboration=1_000_000, share_trusted=1_000_000,
    )  # fmt: skip
    knob = Knob("/proc/sys/vm/swappiness", 0, 100)
    with KernelProxy.create(config, knobs=[knob], default_action=60) as proxy:
        far = proxy.now() + 10**12
        proxy.start(0)
        proxy.submit(Recommendation(Kind.VALUE, 1, far, 4, 9, value=42), 0)
        proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
        seen = []
        while sum(e["arm"] == "model" for e in seen) < 3:
            time.sleep(0.02)
            seen += trace.take("mlproxy_decision")
    models = [e for e in seen if e["arm"] == "model"]
    assert {(e["action"], e["default"], e["version"]) for e in models} == {("42", "60", "9")}
    units = [int(e["unit"]) for e in seen]
    assert units == sorted(units)  # the epochs, each at most decided once more after a change
