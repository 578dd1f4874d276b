"""What sysfs shows is what the snapshot says; the panic button holds all proxies."""

import errno
import os
import random
from pathlib import Path

import pytest
from mlproxy_vm.modules import EXAMPLE, loaded

from mlproxy.errors import ProxyError
from mlproxy.proxy import (
    KernelClock,
    KernelProxy,
    Kind,
    Mode,
    ProxyConfig,
    Reason,
    Recommendation,
    Reject,
)
from mlproxy.proxy.device import module_info

CLASS = Path("/sys/class/mlproxy")
PANIC = Path("/sys/class/misc/mlproxy/panic")


def made(name, **what):
    what = {"max": 7, "cooldown": 10, "cooldown_max": 10, "sample_every": 1} | what
    config = ProxyConfig(name, Kind.VALUE, **what)
    return KernelProxy.create(config, capacity=8, clock=KernelClock.CALLER)


def shown(name):
    """Every attribute of a proxy that is not the driver core's."""
    files = [f for f in (CLASS / name).iterdir() if f.is_file() and f.name != "uevent"]
    return {f.name: f.read_text(encoding="ascii").rstrip("\n") for f in files}


def expected(snapshot, **rest):
    s = snapshot
    return rest | {
        "mode": s.mode.name.lower(),
        "reason": s.reason.name.lower().replace("_", "-"),
        "mode_changes": str(s.mode_seq),
        "decisions_default": str(s.decisions[0]),
        "decisions_model": str(s.decisions[1]),
        "fallbacks": str(s.fallbacks),
        "accepted": str(s.accepted),
        "rejected": str(sum(s.rejected.values())),
        "trips": str(s.trips),
        "latched": str(int(s.latched)),
        "operator_hold": str(int(s.operator_hold)),
        "model_version": str(s.model_version),
        "records": str(s.ring_head),
        "records_lost": str(s.ring_lost),
    }


class Shown:
    """A proxy whose attributes are held against its snapshot after each step."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.seen = set()
        self.seq = 0

    def check(self, now):
        attributes = shown("shown")
        state = attributes.pop("state")
        snapshot = self.proxy.snapshot(now)
        assert attributes == expected(snapshot, kind="value", clock="caller", agent="1")
        modes = {"stopped": "emergency", "gated": "learning"}
        assert modes.get(state, state) == attributes["mode"]
        self.seen |= {state, attributes["reason"]}
        return snapshot

    def step(self, rng, now):
        proxy = self.proxy
        match rng.randrange(9):
            case 0:
                proxy.start(now)
            case 1 if rng.random() < 0.2:
                proxy.stop(now, rng.choice(list(Reason)))
            case 2:
                self.seq += 1
                value = rng.randint(0, 9)
                proxy.submit(Recommendation(Kind.VALUE, self.seq, now + 50, 1, 9, value=value), now)
            case 3:
                proxy.set_mode(rng.choice(list(Mode)), rng.choice(list(Reason)), now)
            case 4 if rng.random() < 0.2:
                proxy.operator_emergency(rng.random() < 0.5, now)
            case 5:
                proxy.tick(now)
            case _:
                proxy.decide((), rng.getrandbits(20), 1, now)


def test_attributes_agree_with_the_snapshot(module):
    rng = random.Random(2)
    with made("shown") as proxy:
        show = Shown(proxy)
        for now in range(1, 250):
            try:
                show.step(rng, now)
            except ProxyError as e:
                assert e.code == "proxy.state"
            show.check(now)
        assert {"stopped", "emergency", "learning", "collaboration", "trusted"} <= show.seen


def test_attributes_show_trips_and_the_latch(module):
    with made("shown", trip_limit=3, reject_limit=2) as proxy:
        show, now = Shown(proxy), 1
        proxy.start(now)
        for trips in range(1, 4):
            for _ in range(3):  # one more than the limit
                now += 1
                proxy.submit(Recommendation(Kind.VALUE, 1, now + 50, 1, 9, value=8), now)
            snapshot = show.check(now)
            assert (snapshot.trips, snapshot.latched) == (trips, trips == 3)
            now += 1000  # cooled down
            proxy.tick(now)
            show.check(now)
        proxy.operator_emergency(False, now)
        assert not show.check(now).latched
        assert {"rejects", "latched", "cooldown"} <= show.seen


def refused(path, text=None):
    """The errno that opening for writing, or writing, gives; None: it was taken."""
    try:
        fd = os.open(path, os.O_WRONLY)
    except OSError as e:
        return e.errno
    try:
        if text is not None:
            os.write(fd, text)
    except OSError as e:
        return e.errno
    finally:
        os.close(fd)
    return None


def test_attributes_cannot_be_written(module):
    with made("shown"):
        names = shown("shown")
        assert len(names) == 18
        for name in names:
            file = CLASS / "shown" / name
            assert file.stat().st_mode & 0o777 == 0o444
            assert refused(file) == errno.EACCES


def test_an_owners_proxy_shows_whether_it_has_an_agent(example):
    attributes = shown("example")
    assert (attributes["agent"], attributes["clock"], attributes["kind"]) == (
        "0",
        "owner",
        "program",
    )
    with KernelProxy.attach("example"):
        assert shown("example")["agent"] == "1"
    assert shown("example")["agent"] == "0"


@pytest.fixture
def panic(module):
    """The button's file; it is released afterwards."""
    assert PANIC.read_text(encoding="ascii") == "0\n"
    yield PANIC
    PANIC.write_text("0", encoding="ascii")


def trusted(name):
    proxy = made(name)
    proxy.start(1)
    proxy.submit(Recommendation(Kind.VALUE, 1, 10**6, 1, 9, value=3), 1)
    proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 1)
    assert any(proxy.decide((), unit, 0, 2).action == 3 for unit in range(50))
    return proxy


def test_the_panic_button_holds_all_proxies_also_those_to_come(panic):
    with loaded(EXAMPLE), trusted("a") as a, trusted("b") as b, KernelProxy.attach("example") as c:
        c.start(0)
        panic.write_text("1", encoding="ascii")
        for proxy in (a, b, c):
            snapshot = proxy.snapshot(3)
            assert snapshot.mode is Mode.EMERGENCY
            assert snapshot.reason is Reason.OPERATOR
            assert snapshot.operator_hold
        assert all(
            proxy.decide((), unit, 0, 3).action == 0 for proxy in (a, b) for unit in range(50)
        )
        assert panic.read_text(encoding="ascii") == "1\n"
        assert module_info().panic
        with made("later") as later:
            later.start(4)
            assert later.snapshot(4).mode is Mode.EMERGENCY
            with pytest.raises(ProxyError) as error:
                later.set_mode(Mode.TRUSTED, Reason.OPERATOR, 5)
            assert error.value.code == "proxy.state"
        # One agent's operator cannot undo what holds all.
        with pytest.raises(ProxyError):
            a.operator_emergency(False, 5)
        # Nor does beginning anew, or the next agent.
        b.stop(6)
        b.reinit(b.config, 6)
        b.start(7)
        for proxy in (a, b, c):
            proxy.tick(1000)
            assert proxy.snapshot(1000).mode is Mode.EMERGENCY
        panic.write_text("0", encoding="ascii")
        assert not module_info().panic
        for proxy in (a, b):
            assert not proxy.snapshot(1000).operator_hold
            proxy.tick(2000)  # cooled down
            assert proxy.snapshot(2000).mode is Mode.LEARNING


def test_the_panic_button_takes_a_truth_value(panic):
    for text in (b"2x", b"\n", b"maybe"):
        assert refused(panic, text) == errno.EINVAL
    assert panic.stat().st_mode & 0o777 == 0o644
    assert panic.read_text(encoding="ascii") == "0\n"


def test_a_refusal_reaches_the_attribute(module):
    with made("shown") as proxy:
        proxy.start(1)
        assert proxy.submit(Recommendation(Kind.VALUE, 1, 9, 1, 9, value=8), 1) is Reject.RANGE
        assert shown("shown")["rejected"] == "1"
