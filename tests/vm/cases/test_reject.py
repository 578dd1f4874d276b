"""Each reason to refuse a recommendation: its error, its counter, and the default that acts."""

from __future__ import annotations

import errno
import struct

import pytest

from mlproxy import _core
from mlproxy.proxy import (
    Arm,
    KernelClock,
    KernelProxy,
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
from mlproxy.proxy.device import call

ffi = _core.ffi
lib = _core.lib

NOW = 1000
MAX_EXPIRY = 5000
HEADER, NODES = 64, 128  # where program and nodes begin in a recommendation
LEAF = ProgramNode(-1, 1, 0, 0, 500)
TREE = Program((ProgramNode(0, 10, 1, 2), LEAF, LEAF), nr_features=2)
# Inner nodes at even places, each with a leaf and the rest of the chain.
CHAIN = Program(
    (*(n for i in range(25) for n in (ProgramNode(0, 0, 2 * i + 1, 2 * i + 2), LEAF)), LEAF),
    nr_features=2,
)


def advice(kind, **changes):
    what = {
        Kind.VALUE: {"value": 5},
        Kind.CHOICE: {"value": 5},
        Kind.RANK: {"ids": (1, 2)},
        Kind.PROGRAM: {"program": TREE},
    }[kind]
    seq, expiry, model = 2, NOW + 100, {"model_id": 3, "model_version": 1}
    return encode_recommendation(
        Recommendation(kind, **({"seq": seq, "expiry": expiry} | model | what | changes))
    )


def patched(kind, offset, form, value):
    data = bytearray(advice(kind))
    struct.pack_into(form, data, offset, value)
    return bytes(data)


CASES = [
    (Reject.VERSION, errno.EPROTO, Kind.VALUE, patched(Kind.VALUE, 2, "<H", 2)),
    (Reject.VERSION, errno.EPROTO, Kind.VALUE, patched(Kind.VALUE, 0, "<H", 63)),
    (Reject.KIND, errno.EPROTOTYPE, Kind.VALUE, advice(Kind.CHOICE)),
    (Reject.RANGE, errno.ERANGE, Kind.VALUE, advice(Kind.VALUE, value=8)),
    (Reject.RANGE, errno.ERANGE, Kind.CHOICE, advice(Kind.CHOICE, value=-1)),
    (Reject.RANGE, errno.ERANGE, Kind.VALUE, advice(Kind.VALUE, confidence=1001)),
    (Reject.EXPIRED, errno.ETIME, Kind.VALUE, advice(Kind.VALUE, expiry=NOW - 1)),
    (Reject.EXPIRY, errno.EOVERFLOW, Kind.VALUE, advice(Kind.VALUE, expiry=NOW + MAX_EXPIRY + 1)),
    (Reject.REPLAY, errno.EALREADY, Kind.VALUE, advice(Kind.VALUE, seq=0)),
    (Reject.CANDIDATE, errno.ENXIO, Kind.RANK, advice(Kind.RANK, ids=(1, 8))),
    (Reject.DUPLICATE, errno.EEXIST, Kind.RANK, advice(Kind.RANK, ids=(1, 2, 1))),
    (Reject.SIZE, errno.EMSGSIZE, Kind.VALUE, advice(Kind.VALUE)[:63]),
    (Reject.SIZE, errno.EMSGSIZE, Kind.VALUE, b""),
    (Reject.SIZE, errno.EMSGSIZE, Kind.VALUE, advice(Kind.VALUE) + bytes(8)),
    (Reject.SIZE, errno.EMSGSIZE, Kind.PROGRAM, advice(Kind.PROGRAM) + bytes(1 << 20)),
    (Reject.SIZE, errno.EMSGSIZE, Kind.RANK, advice(Kind.RANK, ids=())),
    (Reject.SIZE, errno.EMSGSIZE, Kind.PROGRAM, patched(Kind.PROGRAM, HEADER, "<I", 4)),
    (Reject.INDEX, errno.EBADSLT, Kind.PROGRAM, patched(Kind.PROGRAM, NODES + 2, "<H", 3)),
    (Reject.INDEX, errno.EBADSLT, Kind.PROGRAM, patched(Kind.PROGRAM, NODES, "<H", 2)),
    (Reject.INDEX, errno.EBADSLT, Kind.PROGRAM, patched(Kind.PROGRAM, HEADER + 10, "<H", 1)),
    (Reject.CYCLE, errno.ELOOP, Kind.PROGRAM, patched(Kind.PROGRAM, NODES + 4, "<H", 0)),
    (Reject.DEPTH, errno.E2BIG, Kind.PROGRAM, advice(Kind.PROGRAM, program=CHAIN)),
    (Reject.LEAF, errno.ERANGE, Kind.PROGRAM, patched(Kind.PROGRAM, NODES + 24, "<i", 8)),
    (Reject.LEAF, errno.ERANGE, Kind.PROGRAM, patched(Kind.PROGRAM, NODES + 22, "<H", 1001)),
    (Reject.RESERVED, errno.EINVAL, Kind.VALUE, patched(Kind.VALUE, 48, "<Q", 1)),
    (Reject.RESERVED, errno.EINVAL, Kind.PROGRAM, patched(Kind.PROGRAM, NODES + 12, "<I", 1)),
    (Reject.MODEL, errno.EKEYREJECTED, Kind.VALUE, advice(Kind.VALUE, model_version=0)),
    (Reject.STATE, errno.ESHUTDOWN, Kind.VALUE, advice(Kind.VALUE)),
]


def submit(proxy, data):
    """What the kernel says: (errno or 0, the reason it writes)."""
    body = ffi.from_buffer(data)
    argument = ffi.new("struct mlp_ioc_submit *")
    argument.data, argument.length = int(ffi.cast("uintptr_t", body)), len(data)
    argument.now = NOW
    return -call(proxy.fileno(), lib.MLP_IOC_SUBMIT, argument), Reject(argument.reject)


def acts(proxy, kind):
    """The arm that acts on a unit whose turn it is to be the model's."""
    if kind is Kind.RANK:
        return Arm.MODEL if proxy.decide_rank(1, NOW) else Arm.DEFAULT
    features = [0, 0] if kind is Kind.PROGRAM else []
    decision = proxy.decide(features, 1, 6, NOW)
    assert decision.arm is Arm.MODEL or decision.action == 6
    return decision.arm


def test_the_table_has_every_reason():
    assert {reason for reason, *_ in CASES} == set(Reject) - {Reject.NONE}


@pytest.mark.parametrize(
    ("reason", "error", "kind", "data"),
    CASES,
    ids=[f"{number}-{reason.name}" for number, (reason, *_) in enumerate(CASES)],
)
def test_refused_for_this_and_nothing_else(module, reason, error, kind, data):
    features = 2 if kind is Kind.PROGRAM else 0
    config = ProxyConfig(
        "reject",
        kind,
        Trial.PARTITION,
        nr_features=features,
        max_nodes=64 if features else 0,
        max=7,
        max_expiry=MAX_EXPIRY,
        share_trusted=1_000_000,
        reject_limit=16,
    )
    with KernelProxy.create(config, capacity=16, clock=KernelClock.CALLER) as proxy:
        if reason is not Reject.STATE:
            proxy.start(NOW)
            proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, NOW)
        assert submit(proxy, data) == (error, reason)
        told = proxy.snapshot(NOW)
        assert {why: n for why, n in told.rejected.items() if n} == {reason: 1}
        assert told.accepted == 0
        assert acts(proxy, kind) is Arm.DEFAULT
        if reason is Reject.STATE:
            return
        # One that is right is taken all the same, and not voided by the wrong one after it.
        assert submit(proxy, advice(kind, seq=1)) == (0, Reject.NONE)
        assert acts(proxy, kind) is Arm.MODEL
        assert submit(proxy, data) == (error, reason)
        assert acts(proxy, kind) is Arm.MODEL
