"""Recommendations: refused with a reason, or in force within the decision's range."""

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
    encode_recommendation,
)

STUMP = Program((ProgramNode(0, 0, 1, 2), ProgramNode(-1, 0), ProgramNode(-1, 3)), nr_features=2)
SEEDS = [
    encode_recommendation(r)
    for r in (
        Recommendation(Kind.VALUE, 1, 50, 1, 1, value=3),
        Recommendation(Kind.CHOICE, 1, 50, 1, 1, value=2),
        Recommendation(Kind.RANK, 1, 50, 1, 1, ids=(1, 2, 3)),
        Recommendation(Kind.PROGRAM, 1, 50, 1, 1, program=STUMP),
    )
]
_MOST = 3


def _proxy(kind: Kind) -> InProcessProxy:
    config = ProxyConfig(
        name="fuzz",
        kind=kind,
        max=_MOST,
        nr_features=2,
        max_nodes=64,
        max_expiry=1000,
        share_trusted=1_000_000,
        reject_limit=0,
    )
    return InProcessProxy(config, capacity=0)


_PROXIES = {kind: _proxy(kind) for kind in Kind}


def fuzz_one(data: bytes) -> None:
    """Submit to a proxy of each kind that has just started."""
    for proxy in _PROXIES.values():
        proxy.stop(0)
        proxy.start(0)
        proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
        before = proxy.snapshot(0)
        verdict = proxy.submit_bytes(data, 10)
        after = proxy.snapshot(0)
        if verdict is Reject.NONE:
            assert after.accepted == before.accepted + 1
        else:
            assert after.rejected[verdict] == before.rejected[verdict] + 1
            assert after.last_seq == 0
        decision = proxy.decide([5, -5], 1, 2, 10)
        assert decision.arm is Arm.DEFAULT or 0 <= decision.action <= _MOST
        assert verdict is Reject.NONE or decision.arm is Arm.DEFAULT
        ids = proxy.decide_rank(1, 10)
        assert len(set(ids)) == len(ids)
        assert all(0 <= i <= _MOST for i in ids)
