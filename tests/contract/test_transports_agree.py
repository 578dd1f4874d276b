"""The same calls have the same effect on all transports, bit for bit."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from mlproxy.errors import ProxyError
from mlproxy.proxy import (
    RECORD_DTYPE,
    Arm,
    InProcessProxy,
    Kind,
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

WITH_BPF = True
CAPACITY = 256
BASE = {"heartbeat_limit": 400, "cooldown": 50, "cooldown_max": 400, "trip_limit": 8}


def configs(rng, kinds):
    kind = rng.choice(kinds)
    features = rng.randint(1, 4) if kind is Kind.PROGRAM else 0
    trial = rng.choice(list(Trial))
    return ProxyConfig(
        "agree",
        kind,
        trial,
        seed=rng.getrandbits(63),
        nr_features=features,
        nr_streams=1 if kind is Kind.RANK else rng.randint(1, 4),
        max_nodes=16,
        max=rng.choice((1, 7, 40)),
        epoch=rng.randint(5, 60),
        twin_gate=rng.randint(0, 1),
        sample_every=rng.randint(0, 3),
        alpha=rng.choice((50_000, 300_000)),
        reject_limit=rng.choice((3, 16)),
        **BASE,
    )


class Life:
    """A random life of a proxy, to be led by several at once."""

    def __init__(self, seed, kinds):
        self.rng = random.Random(seed)
        self.config = configs(self.rng, kinds)
        self.now = self.seq = 0
        self.better = 0.5

    def program(self):
        c, rng = self.config, self.rng
        leaves = [ProgramNode(-1, rng.randint(c.min, c.max), 0, 0, rng.randint(0, 1001))] * 2
        root = ProgramNode(rng.randrange(c.nr_features + 1), rng.randint(-5, 5), 1, 2)
        return Program((root, *leaves), nr_features=c.nr_features, stream=rng.randrange(5))

    def recommendation(self):
        rng, c = self.rng, self.config
        self.seq += rng.choice((0, 1, 1, 1))
        what = {}
        if c.kind is Kind.RANK:
            what["ids"] = tuple(rng.randint(0, c.max + 1) for _ in range(rng.randint(0, 3)))
        elif c.kind is Kind.PROGRAM:
            what["program"] = self.program()
        else:
            what["value"] = rng.randint(c.min, c.max + (rng.random() < 0.1))
        expiry = self.now + rng.randint(-2, 300)
        return Recommendation(c.kind, self.seq, max(0, expiry), 3, self.seq % 9, **what)

    def step(self):
        """One call, as a function of a proxy."""
        rng, c = self.rng, self.config
        self.now += rng.choice((0, 1, 1, 7))
        now, unit = self.now, rng.getrandbits(40)
        draw = rng.random()
        if draw < 0.45:
            features = [rng.randint(-9, 9) for _ in range(c.nr_features)]
            stream, default = rng.randrange(c.nr_streams), rng.randint(0, 3)
            if c.kind is Kind.RANK:
                return lambda p: p.decide_rank(unit, now)
            return lambda p: p.decide(features, unit, default, now, stream=stream)
        if draw < 0.6:
            arm, cost = Arm(rng.getrandbits(1)), rng.randint(900, 1100)
            if arm is Arm.MODEL and rng.random() < 0.8:
                cost = int(cost * self.better)
            return lambda p: p.report(arm, unit, cost, now)
        if draw < 0.68:
            pair = rng.randint(900, 1100), int(rng.randint(900, 1100) * self.better)
            return lambda p: p.report_twin(*pair, now)
        if draw < 0.8:
            advice = self.recommendation()
            return lambda p: p.submit(advice, now)
        if draw < 0.9:
            return rng.choice((lambda p: p.heartbeat(now), lambda p: p.tick(now)))
        if draw < 0.93:
            record = np.zeros((), RECORD_DTYPE)
            record["type"], record["unit"] = RecordType.LABEL, unit
            return lambda p: p.publish(record)
        self.better = rng.choice((0.5, 0.9, 1.0, 1.4))
        on = rng.random() < 0.4
        mode, reason = Mode(rng.randrange(4)), Reason(rng.randrange(1, 17))
        return rng.choice(
            (
                lambda p: p.critical(on, now),
                lambda p: p.operator_emergency(on, now),
                lambda p: p.set_mode(mode, reason, now),
                lambda p: p.start(now),
                lambda p: p.stop(now) if on else None,
            )
        )


def outcome(proxy, call):
    try:
        return call(proxy)
    except ProxyError as error:
        return error.code


def drained(proxy):
    """What is unread, as bytes, and consumed."""
    views = proxy.peek()
    records = b"".join(view.tobytes() for view in views)
    assert proxy.consume(sum(len(view) for view in views)) == 0
    return records


@pytest.mark.parametrize("seed", range(6))
def test_same_life_same_state(make_proxy, transport, seed):
    life = Life(seed, [Kind.PROGRAM] if transport == "bpf" else list(Kind))
    reference = InProcessProxy(life.config, capacity=CAPACITY)
    proxy = make_proxy(life.config, capacity=CAPACITY)
    seen = set()
    for call in (lambda p: p.start(0), *(life.step() for _ in range(4000))):
        told = outcome(reference, call)
        assert outcome(proxy, call) == told
        if isinstance(told, Reject):
            seen.add(told)
        if life.rng.random() < 0.02:
            assert drained(proxy) == drained(reference)
    assert proxy.snapshot(life.now) == reference.snapshot(life.now)
    assert drained(proxy) == drained(reference)
    assert Reject.NONE in seen
    assert len(seen) > 2
    assert dataclasses.replace(proxy.config, name="agree") == life.config
