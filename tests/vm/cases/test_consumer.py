"""An in-kernel user's proxy decides as the core in this process does, bit for bit."""

from __future__ import annotations

import pytest
from mlproxy_vm.consumer import FOLDER, PERIOD, Consumer, Operations, random_program
from mlproxy_vm.modules import EXAMPLE, loaded

from mlproxy.proxy import KernelProxy, Kind, Mode, Reason, Recommendation, RecordType, Reject

DECISIONS = 1_000_000
BATCH = 128 * PERIOD
FEATURES = 8
# What the model costs, times the default, in turns: promoted step by step, spoiled,
# recovered, slowly worse, no better, harmless again.
COSTS = (0.7, 0.7, 0.7, 3.0, 0.7, 0.7, 0.7, 1.15, 0.7, 0.7, 1.0, 1.0, 1.0, 0.8)
CLIMB = {
    (Mode.EMERGENCY, Mode.LEARNING),
    (Mode.LEARNING, Mode.COLLABORATION),
    (Mode.COLLABORATION, Mode.TRUSTED),
    (Mode.TRUSTED, Mode.EMERGENCY),
}
REASONS = {
    Reason.START,
    Reason.PROMOTED,
    Reason.DEMOTED,
    Reason.COST_SPIKE,
    Reason.COOLDOWN,
    Reason.HEARTBEAT,
    Reason.REJECTS,
    Reason.OPERATOR,
    Reason.CRITICAL,
}


class Agent:
    """Does the same to both proxies at fixed points; both must answer the same."""

    def __init__(self, consumer, ops, kind):
        self.consumer, self.ops, self.kind = consumer, ops, kind
        self.seq = 0
        self.told = []

    def both(self, what):
        answers = [what(p) for p in (self.consumer.proxy, self.consumer.reference)]
        assert answers[0] == answers[1]
        return answers[0]

    def submit(self, **changes):
        rng, now = self.ops.rng, self.consumer.now
        self.seq += 1
        what = {"seq": self.seq, "expiry": now + 20 * BATCH, "model_version": self.seq}
        if self.kind is Kind.PROGRAM:
            depth = int(rng.integers(1, 9))
            what["program"] = random_program(rng, FEATURES, depth)
        else:
            what["value"] = int(rng.integers(-1000, 1001))
        advice = Recommendation(self.kind, model_id=3, **(what | changes))
        self.told.append(self.both(lambda p: p.submit(advice, now)))

    def step(self, number):
        """What the agent does before batch `number`."""
        now = self.consumer.now
        turn = number % 14
        if number % 29 != 28:  # else: silent
            self.both(lambda p: p.heartbeat(now))
        if turn == 5:  # lapses within the batch
            self.submit(expiry=now + BATCH // 2)
        elif turn == 8:
            self.submit(seq=1)
            self.submit(expiry=0)
            self.submit(expiry=1 << 50)
            self.submit(model_version=0)
        elif turn == 9 and number > 14:
            for _ in range(70):
                self.submit(seq=1)
        else:
            self.submit()
        if turn == 12:
            self.both(lambda p: p.operator_emergency(True, now))
        if turn == 13:
            self.both(lambda p: p.operator_emergency(False, now))


@pytest.mark.parametrize("kind", [Kind.PROGRAM, Kind.VALUE])
@pytest.mark.parametrize("twin_gate", [0, 1])
def test_a_million_decisions_are_the_same(module, kind, twin_gate):
    count = DECISIONS if kind is Kind.PROGRAM else DECISIONS // 4
    with (
        loaded(EXAMPLE, f"kind={kind}", f"twin_gate={twin_gate}"),
        KernelProxy.attach("example") as proxy,
    ):
        assert FOLDER.is_dir()
        consumer = Consumer(proxy)
        try:
            lead(consumer, kind, count)
        finally:
            consumer.close()


def lead(consumer, kind, count):
    ops = Operations(7, FEATURES if kind is Kind.PROGRAM else 0)
    agent = Agent(consumer, ops, kind)
    agent.both(lambda p: p.start(0))
    changes, reasons = set(), set()
    decided = number = 0
    while decided < count:
        agent.step(number)
        gap = 2_000_000 if number % 29 == 28 else 1
        batch = ops.batch(BATCH, COSTS[number % len(COSTS)], gap)
        if number % 14 == 6:  # in need for a while
            batch["what"][1000], batch["arg"][1000] = 4, 1
            batch["what"][3000], batch["arg"][3000] = 4, 0
        consumer.play(batch)
        decided += int((batch["what"] == 0).sum())
        snapshots = consumer.snapshots()
        assert snapshots[0] == snapshots[1], f"after batch {number}"
        # Not read for a stretch, so that records are lost too.
        if not 17 <= number < 25:
            kernel, own = consumer.drain()
            assert kernel.tobytes() == own.tobytes()
            modes = own[own["type"] == RecordType.MODE]
            changes |= {(Mode(r["stream"]), Mode(r["mode"])) for r in modes}
            reasons |= {Reason(r["default_action"]) for r in modes}
        number += 1
    digests = consumer.digests()
    assert digests[0] == digests[1]
    last = consumer.proxy.snapshot(0)
    assert sum(last.decisions) == decided
    assert min(last.decisions) > decided // 10
    assert last.ring_lost
    assert last.fallbacks
    assert changes >= CLIMB
    assert reasons >= REASONS or count < DECISIONS
    assert set(agent.told) >= {Reject.NONE, Reject.REPLAY, Reject.EXPIRED, Reject.EXPIRY}
