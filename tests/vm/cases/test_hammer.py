"""Decisions from all processors and from interrupts, while agents come and go: nothing is lost."""

import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mlproxy_vm.modules import EXAMPLE, loaded

from mlproxy.errors import ProxyError
from mlproxy.proxy import (
    KernelProxy,
    Kind,
    Mode,
    Program,
    ProgramNode,
    Reason,
    Recommendation,
    RecordType,
    Reject,
)

HAMMER = Path("/sys/kernel/debug/mlproxy_example/hammer")
THREADS, CALLS = 4, 80_000
SAMPLE_EVERY = 64
FAR = 1 << 39


def program(version):
    """A deep tree with the same action in every leaf: version % 8, as hammer.c wants it."""
    depth, leaf = 8, ProgramNode(-1, version % 8, 0, 0, 500)
    inner = [ProgramNode(i % 8, (i * 97) % 1000, 2 * i + 1, 2 * i + 2) for i in range(2**depth - 1)]
    return Program((*inner, *[leaf] * 2**depth), nr_features=8)


def recommendation(kind, version, seq):
    what = {"program": program(version)} if kind is Kind.PROGRAM else {"value": version % 8}
    return Recommendation(kind, seq, FAR, 1, version, **what)


class Agents:
    """One agent after another, until the hammering ends; counts what it did."""

    def __init__(self, kind):
        self.kind = kind
        self.version = 0
        self.accepted = 0
        self.rejected = Counter()
        self.modes = Counter()
        self.records = self.lives = 0

    def live(self):
        """One agent's life: it begins, submits, looks, and ends this way or that."""
        with KernelProxy.attach("example") as proxy:
            proxy.start(0)
            for seq in range(1, 9):
                self.submit(proxy, seq)
                try:
                    proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
                except ProxyError as e:
                    assert e.code == "proxy.state"  # held, or cooling down after a hold
                proxy.heartbeat(0)
                self.look(proxy)
            if self.lives % 2:
                proxy.stop(0)
                self.look(proxy)
        self.lives += 1

    def submit(self, proxy, seq):
        self.version += 1
        assert proxy.submit(recommendation(self.kind, self.version, seq), 0) is Reject.NONE
        self.accepted += 1
        if seq % 4 == 0:
            assert proxy.submit(recommendation(self.kind, self.version, seq), 0) is Reject.REPLAY
            self.rejected[Reject.REPLAY] += 1

    def look(self, proxy):
        snapshot = proxy.snapshot(0)
        self.modes[snapshot.mode] += 1
        assert snapshot.accepted == self.accepted
        assert snapshot.ring_lost <= snapshot.ring_head
        views = proxy.peek()
        records = np.concatenate([v.copy() for v in views]) if views else np.zeros(0)
        lost = proxy.consume(len(records))
        self.whole(records[lost:])

    def whole(self, records):
        """Records that were not overwritten while they were copied are whole and in a row."""
        if not len(records):
            return
        assert (np.diff(records["seq"]) == 1).all()
        samples = records[records["type"] == RecordType.SAMPLE]
        acted = samples[samples["arm"] == 1]
        assert (acted["action"] == acted["model_version"] % 8).all()
        assert (samples["action"][samples["arm"] == 0] == -1).all()
        self.records += len(records)


def hammer(errors):
    try:
        HAMMER.write_text(f"{THREADS} {CALLS}", encoding="ascii")
    except OSError as e:
        errors.append(e)


@pytest.mark.parametrize("kind", [Kind.PROGRAM, Kind.VALUE])
def test_all_counters_add_up(module, kind):
    with loaded(EXAMPLE, f"kind={int(kind)}"):
        agents, errors = Agents(kind), []
        thread = threading.Thread(target=hammer, args=(errors,))
        thread.start()
        while thread.is_alive():
            agents.live()
        thread.join()
        assert not errors
        did = {
            name: int(count)
            for name, count in (line.split() for line in HAMMER.read_text().splitlines())
        }
        with KernelProxy.attach("example") as proxy:
            s = proxy.snapshot(0)
    assert did["mixed"] == 0
    assert did["default"] + did["model"] == THREADS * CALLS + did["interrupts"]
    assert min(did["model"], did["interrupts"], agents.records) > 0
    assert agents.lives > 1
    assert {Mode.EMERGENCY, Mode.TRUSTED} <= set(agents.modes)
    assert s.decisions == (did["default"], did["model"])
    assert s.accepted == agents.accepted
    assert {why: n for why, n in s.rejected.items() if n} == dict(agents.rejected)
    samples = sum(s.decisions) // SAMPLE_EVERY
    assert s.ring_head == samples + did["reports"] + did["labels"] + s.mode_seq
