"""Deciding: trial assignment, kinds, fallback, validation of recommendations."""

import itertools
import struct

import numpy as np
import pytest

from mlproxy.errors import ProxyError
from mlproxy.proxy import (
    Arm,
    InProcessProxy,
    Kind,
    Mode,
    Program,
    ProgramNode,
    ProxyConfig,
    Reason,
    Recommendation,
    Reject,
    Trial,
    encode_recommendation,
)

STUMP = Program(
    (ProgramNode(0, 10, 1, 2), ProgramNode(-1, 0, confidence=900), ProgramNode(-1, 1)),
    nr_features=2,
)


def make(kind=Kind.CHOICE, mode=Mode.TRUSTED, **changes):
    settings = {"name": "p", "kind": kind, "max_expiry": 1000, "max": 3, "reject_limit": 0}
    if kind is Kind.PROGRAM:
        settings |= {"nr_features": 2, "max": 1}
    proxy = InProcessProxy(ProxyConfig(**settings | changes), capacity=64)
    proxy.start(0)
    if mode is not Mode.LEARNING:
        proxy.set_mode(mode, Reason.OPERATOR, 0)
    return proxy


def say(kind=Kind.CHOICE, seq=1, expiry=100, **changes):
    return Recommendation(kind, seq, expiry, 7, changes.pop("model_version", 3), **changes)


def test_units_stay_with_the_model_when_the_share_grows():
    proxy = make()
    given = []
    for mode in (Mode.LEARNING, Mode.COLLABORATION, Mode.TRUSTED):
        proxy.set_mode(mode, Reason.OPERATOR, 1)
        given.append({u for u in range(20_000) if proxy.arm_of(u, 1) is Arm.MODEL})
    assert given[0] < given[1] < given[2]
    shares = [len(g) / 20_000 for g in given]
    assert shares == pytest.approx([0.05, 0.5, 0.95], abs=0.01)


def test_another_seed_draws_other_units():
    one, two = (make(mode=Mode.COLLABORATION, seed=s) for s in (1, 2))
    same = sum(one.arm_of(u, 1) is two.arm_of(u, 1) for u in range(10_000))
    assert same == pytest.approx(5000, abs=200)


def test_full_share_leaves_nobody_out_and_emergency_gives_the_model_nothing():
    proxy = make(share_trusted=1_000_000)
    assert all(proxy.arm_of(u, 1) is Arm.MODEL for u in range(5000))
    proxy.operator_emergency(True, 2)
    assert not any(proxy.arm_of(u, 2) is Arm.MODEL for u in range(5000))


def test_switchback_gives_whole_epochs_at_random():
    proxy = make(mode=Mode.COLLABORATION, trial=Trial.SWITCHBACK, epoch=10)
    arms = [[proxy.arm_of(u, now) for u in (0, 5, 9)] for now in range(20_000)]
    assert all(len(set(a)) == 1 for a in arms)
    epochs = [arms[i * 10][0] for i in range(2000)]
    assert all(arms[i][0] is epochs[i // 10] for i in range(20_000))
    assert sum(epochs) == pytest.approx(1000, abs=100)
    changes = sum(a is not b for a, b in itertools.pairwise(epochs))
    assert changes == pytest.approx(1000, abs=100)


def test_switchback_scores_neither_the_settling_nor_an_epoch_of_another_mode():
    proxy = make(mode=Mode.COLLABORATION, trial=Trial.SWITCHBACK, epoch=100, epoch_settle=250_000)
    proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 150)
    for now, counted in ((160, 0), (199, 0), (200, 0), (224, 0), (225, 1), (299, 2), (310, 2)):
        proxy.report(Arm.DEFAULT, 0, 10, now)
        assert proxy.snapshot(now).trial.default.count == counted, now


def test_what_the_model_said_acts_until_it_expires_then_the_default_at_once():
    proxy = make(share_trusted=1_000_000)
    assert proxy.submit(say(value=2, confidence=321), 1) is Reject.NONE
    d = proxy.decide([], 5, 0, 100)
    assert (d.arm, d.action, d.model_version, d.confidence) == (Arm.MODEL, 2, 3, 321)
    d = proxy.decide([], 5, 1, 101)
    assert (d.arm, d.action, d.model_version) == (Arm.DEFAULT, 1, 0)
    s = proxy.snapshot(101)
    assert s.fallbacks == 1
    assert s.decisions == (1, 1)


def test_a_stream_without_program_falls_back_and_one_with_it_does_not():
    proxy = make(Kind.PROGRAM, nr_streams=2, share_trusted=1_000_000)
    proxy.submit(say(Kind.PROGRAM, program=STUMP), 1)
    d = proxy.decide([11, 0], 1, 0, 2)
    assert (d.arm, d.action, d.confidence) == (Arm.MODEL, 1, 0)
    assert proxy.decide([10, 0], 1, 0, 2).confidence == 900
    assert proxy.decide([11, 0], 1, 0, 2, stream=1).arm is Arm.DEFAULT
    assert proxy.decide([11, 0], 1, 0, 2, stream=9).arm is Arm.DEFAULT
    assert proxy.snapshot(2).fallbacks == 2


def test_rank_gives_the_ids_in_order():
    proxy = make(Kind.RANK, max=100, share_trusted=1_000_000)
    assert proxy.decide_rank(1, 1) == ()
    assert proxy.submit(say(Kind.RANK, ids=(7, 3, 100)), 1) is Reject.NONE
    assert proxy.decide_rank(1, 2) == (7, 3, 100)
    assert proxy.decide_rank(1, 2, limit=2) == (7, 3)
    assert proxy.snapshot(2).fallbacks == 1


def test_a_new_agent_begins_with_nothing_valid_and_its_own_numbering():
    proxy = make(share_trusted=1_000_000)
    proxy.submit(say(seq=9, value=2), 1)
    proxy.stop(2)
    assert proxy.submit(say(seq=10, value=2), 2) is Reject.STATE
    proxy.start(3)
    proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 3)
    assert proxy.decide([], 1, 0, 3).arm is Arm.DEFAULT
    assert proxy.submit(say(seq=1, value=2), 3) is Reject.NONE


def patched(recommendation, offset, fmt, value):
    data = bytearray(encode_recommendation(recommendation))
    struct.pack_into(fmt, data, offset, value)
    return bytes(data)


GOOD = say(value=2, seq=5)
RANK = say(Kind.RANK, ids=(1, 2))


@pytest.mark.parametrize(
    ("kind", "what", "why"),
    [
        (Kind.CHOICE, patched(GOOD, 0, "<H", 56), Reject.VERSION),
        (Kind.CHOICE, patched(GOOD, 2, "<H", 2), Reject.VERSION),
        (Kind.CHOICE, RANK, Reject.KIND),
        (Kind.CHOICE, patched(GOOD, 4, "<I", 99), Reject.KIND),
        (Kind.CHOICE, say(value=4), Reject.RANGE),
        (Kind.CHOICE, say(value=-1), Reject.RANGE),
        (Kind.CHOICE, say(value=2**62), Reject.RANGE),
        (Kind.CHOICE, say(value=1, confidence=1001), Reject.RANGE),
        (Kind.CHOICE, say(expiry=9), Reject.EXPIRED),
        (Kind.CHOICE, say(expiry=1011), Reject.EXPIRY),
        (Kind.CHOICE, say(expiry=2**64 - 1), Reject.EXPIRY),
        (Kind.CHOICE, say(seq=0), Reject.REPLAY),
        (Kind.CHOICE, say(model_version=0), Reject.MODEL),
        (Kind.CHOICE, patched(GOOD, 8, "<I", 65), Reject.SIZE),
        (Kind.CHOICE, encode_recommendation(GOOD)[:40], Reject.SIZE),
        (Kind.CHOICE, b"", Reject.SIZE),
        (Kind.CHOICE, patched(GOOD, 48, "<Q", 1), Reject.RESERVED),
        (Kind.CHOICE, patched(GOOD, 38, "<H", 1), Reject.RESERVED),
        (Kind.RANK, say(Kind.RANK, ids=(1, 1)), Reject.DUPLICATE),
        (Kind.RANK, say(Kind.RANK, ids=(1, 4)), Reject.CANDIDATE),
        (Kind.RANK, say(Kind.RANK, ids=(2**63,)), Reject.CANDIDATE),
        (Kind.RANK, say(Kind.RANK), Reject.SIZE),
        (Kind.RANK, say(Kind.RANK, ids=tuple(range(65))), Reject.SIZE),
        (Kind.RANK, say(Kind.RANK, ids=(1,), value=1), Reject.RESERVED),
        (Kind.PROGRAM, say(Kind.PROGRAM), Reject.SIZE),
    ],
)
def test_what_is_wrong_is_refused_counted_and_changes_nothing(kind, what, why):
    proxy = make(kind, share_trusted=1_000_000)
    data = what if isinstance(what, bytes) else encode_recommendation(what)
    assert proxy.submit_bytes(data, 10) is why
    s = proxy.snapshot(10)
    assert s.rejected[why] == sum(s.rejected.values()) == 1
    assert (s.accepted, s.last_seq, s.model_version) == (0, 0, 0)
    if kind is not Kind.RANK:
        assert proxy.decide([0] * proxy.config.nr_features, 1, 3, 10).arm is Arm.DEFAULT


def test_a_refused_one_leaves_the_accepted_one_in_force():
    proxy = make(Kind.PROGRAM, share_trusted=1_000_000)
    proxy.submit(say(Kind.PROGRAM, program=STUMP), 1)
    bad = Program((ProgramNode(-1, 5),), nr_features=2)
    assert proxy.submit(say(Kind.PROGRAM, seq=2, program=bad), 1) is Reject.LEAF
    assert proxy.submit(say(Kind.PROGRAM, seq=1, program=STUMP), 1) is Reject.REPLAY
    assert proxy.decide([11, 0], 1, 0, 2).action == 1


def test_too_many_refused_within_the_window_end_in_emergency():
    proxy = make(reject_limit=3, reject_window=50)
    for now in (0, 100, 120, 149):
        proxy.submit(say(value=9), now)
    assert proxy.snapshot(149).mode is Mode.TRUSTED
    proxy.submit(say(value=9), 150)
    s = proxy.snapshot(150)
    assert (s.mode, s.reason) == (Mode.EMERGENCY, Reason.REJECTS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 32),
        ("name", "x" * 99),
        ("kind", 0),
        ("kind", 9),
        ("trial", 2),
        ("nr_features", 17),
        ("nr_streams", 0),
        ("nr_streams", 5),
        ("max_nodes", 1025),
        ("noise_levels", 8),
        ("max", 64),
        ("max", -1),
        ("min", 1),
        ("max", "many"),
        ("share_learning", 0),
        ("share_collaboration", 1),
        ("share_trusted", 1_000_001),
        ("share_trusted", -1),
        ("epoch_settle", 1_000_000),
        ("twin_gate", 2),
        ("alpha", 0),
        ("alpha_demote", 1_000_000),
        ("min_effect", 1_000_000),
        ("min_count", 1),
        ("min_count", 257),
        ("max_expiry", 0),
        ("budget", -1),
        ("cooldown", 5),
        ("seed", 2**64),
    ],
)
def test_a_wrong_configuration_names_its_field(field, value):
    with pytest.raises(ProxyError) as caught:
        InProcessProxy(ProxyConfig(**{"name": "p", "kind": Kind.CHOICE, field: value}))
    assert caught.value.code == "proxy.config"
    expected = "cooldown_max" if field == "cooldown" else field
    assert caught.value.context["field"] == expected
    assert expected in str(caught.value)


def test_switchback_needs_an_epoch_and_a_ring_a_power_of_two():
    with pytest.raises(ProxyError, match="epoch"):
        InProcessProxy(ProxyConfig("p", Kind.VALUE, Trial.SWITCHBACK))
    with pytest.raises(ProxyError, match="power of two"):
        InProcessProxy(ProxyConfig("p", Kind.VALUE), capacity=100)


def test_calls_in_the_wrong_state_are_refused():
    proxy = make()
    with pytest.raises(ProxyError) as caught:
        proxy.start(1)
    assert caught.value.code == "proxy.state"
    with pytest.raises(ProxyError, match="takes 0 features"):
        proxy.decide([1], 1, 0, 1)
    proxy.stop(2)
    proxy.stop(2)
    with pytest.raises(ProxyError):
        proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 3)


def test_the_same_calls_give_the_same_state_bit_for_bit():
    def run():
        config = ProxyConfig("p", Kind.PROGRAM, seed=11, nr_features=2, sample_every=3)
        proxy = InProcessProxy(config, capacity=4096)
        rng = np.random.default_rng(5)
        proxy.start(0)
        proxy.submit(Recommendation(Kind.PROGRAM, 1, 10**6, 1, 1, program=STUMP), 0)
        for now in range(1, 1500):
            proxy.decide(rng.integers(0, 20, 2), int(rng.integers(10**9)), 0, now)
            arm = Arm(int(rng.integers(2)))
            proxy.report(arm, now, int(rng.normal(1000 - 100 * arm, 50)), now)
        return b"".join(v.tobytes() for v in proxy.peek()), proxy.snapshot(2000)

    assert run() == run()
