"""Tunables that the kernel holds for an agent: whatever becomes of it, they are as they were."""

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from mlproxy_vm.agents import (
    MS,
    SECOND,
    STALL,
    SWAPPINESS,
    Agent,
    beat,
    drop_capability,
    forever,
    knob_config,
    knobs_of,
    memory_high,
    moment,
    read_ahead,
    reads,
    shown,
    trust,
)

from mlproxy.errors import ProxyError
from mlproxy.proxy import KernelProxy, Kind, Knob, Mode, Reason, Recommendation, kernel_make
from mlproxy.proxy.choose import make_knob_proxy

DEVICE = "/dev/mlproxy"
CAP_SYS_ADMIN = 21


@pytest.fixture
def tunables(module):
    """Three of them, with what a model would write, and as they are."""
    with memory_high() as high:
        model = {read_ahead(): 96, SWAPPINESS: 33, high: 64 << 20}
        usual = {path: path.read_text().strip() for path in model}
        assert all(usual[path] != str(value) for path, value in model.items())
        yield model, usual
        for path, text in usual.items():
            path.write_text(text)


@pytest.fixture(params=["kernel", "in-process"])
def guard(request):
    """Both hold tunables in the same way; the kernel also when the agent is dead."""
    return request.param


def created(model, guard="kernel", **changes):
    knobs, settings = knobs_of(model)
    return made(knobs, settings, guard, **changes)


def made(knobs, settings, guard, **changes):
    config = knob_config("case", **changes)
    return make_knob_proxy(config, knobs, guard=guard, settings=settings, capacity=64)


def texts(model):
    return {path: str(value) for path, value in model.items()}


def code(call, *args, **kwargs):
    with pytest.raises(ProxyError) as caught:
        call(*args, **kwargs)
    return caught.value.code, caught.value.context["errno"]


class TestEpochs:
    def test_several_change_together_and_are_back_when_it_is_closed(self, guard, tunables):
        model, usual = tunables
        with created(model, guard) as proxy:
            proxy.start(0)
            assert reads(usual)()
            trust(proxy)
            moment(reads(texts(model)))
            status = proxy.knob_status()
            assert (status.applied, status.setting, status.failures) == (True, 1, 0)
            assert status.writes >= 1
            assert 0 < status.since <= time.monotonic_ns()
            proxy.stop(0)
            assert reads(usual)()  # when stop() returns, not some time later
            assert not proxy.knob_status().applied
        assert reads(usual)()

    def test_epochs_alternate_by_the_trial(self, guard, tunables):
        model, usual = tunables
        with created(model, guard, epoch=20 * MS, share_collaboration=500_000) as proxy:
            proxy.start(0)
            trust(proxy)
            proxy.set_mode(Mode.COLLABORATION, Reason.OPERATOR, 0)
            moment(lambda: (s := proxy.knob_status()).writes > 5 and s.restores > 5)
        assert reads(usual)()

    def test_a_value_goes_to_its_knob(self, guard, tunables):
        _, usual = tunables
        path = read_ahead()
        knobs = [Knob(str(path), 4, 1024)]
        with made(knobs, (), guard, kind=Kind.VALUE, min=16, max=256) as proxy:
            proxy.start(0)
            proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
            expiry = time.monotonic_ns() + 3600 * SECOND
            proxy.submit(Recommendation(Kind.VALUE, 1, expiry, 1, 1, value=200), 0)
            moment(reads({path: "200"}))
        assert reads(usual)()

    def test_an_expired_recommendation_gives_the_default_back_within_the_epoch(
        self, guard, tunables
    ):
        model, usual = tunables
        epoch = 4 * SECOND
        with created(model, guard, epoch=epoch) as proxy:
            proxy.start(0)
            proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
            begin = (time.monotonic_ns() // epoch + 1) * epoch
            expiry = begin + 2 * SECOND
            proxy.submit(Recommendation(Kind.CHOICE, 1, expiry, 1, 1, value=1), 0)
            # In this epoch, when it has not been decided yet, else in the next one.
            assert moment(reads(texts(model))) < expiry
            assert expiry <= moment(reads(usual)) < begin + epoch
            assert proxy.snapshot(0).mode is Mode.TRUSTED


class TestEmergency:
    @pytest.mark.parametrize(
        "cause",
        [
            lambda p: p.operator_emergency(True, 0),
            lambda p: p.critical(True, 0),
            lambda p: p.set_mode(Mode.EMERGENCY, Reason.OPERATOR, 0),
        ],
        ids=["operator", "critical", "mode"],
    )
    def test_they_are_put_back(self, guard, tunables, cause):
        model, usual = tunables
        with created(model, guard) as proxy:
            proxy.start(0)
            trust(proxy)
            moment(reads(texts(model)))
            cause(proxy)
            moment(reads(usual), 1)

    def test_a_knob_that_refuses_a_value(self, guard, tunables):
        _, usual = tunables
        model = {read_ahead(): 96, SWAPPINESS: 5000}  # the second one's limit is 200
        with created(model, guard) as proxy:
            proxy.start(0)
            trust(proxy)
            moment(lambda: proxy.knob_status().failures > 0)
            moment(reads(usual), 1)
            snapshot = proxy.snapshot(0)
            assert (snapshot.mode, snapshot.reason) == (Mode.EMERGENCY, Reason.WRITE_FAILED)
        assert reads(usual)()


class TestDeath:
    def test_killed(self, tunables, measure):
        model, usual = tunables

        def body(ready):
            proxy = created(model, heartbeat_limit=60 * SECOND)
            proxy.start(0)
            trust(proxy)
            moment(reads(texts(model)))
            ready()
            forever()

        worst = 0
        for _ in range(5):
            with Agent(body) as agent:
                assert reads(texts(model))()
                killed = agent.signal(signal.SIGKILL)
                worst = max(worst, moment(reads(usual)) - killed)
        measure("knob_restore_ms", worst / MS)
        assert worst < 1000 * MS + STALL
        assert not Path("/sys/class/mlproxy/case").exists()

    def test_stopped(self, tunables, measure):
        model, usual = tunables
        limit = 500

        def body(ready):
            proxy = created(model, heartbeat_limit=limit * MS)
            proxy.start(0)
            trust(proxy)
            moment(reads(texts(model)))
            ready()
            beat(proxy, 20)

        with Agent(body) as agent:
            time.sleep(1.5)
            assert shown("case", "mode") == "trusted"
            assert reads(texts(model))()
            stopped = agent.signal(signal.SIGSTOP)
            silent = moment(lambda: shown("case", "mode") == "emergency") - stopped
            back = moment(reads(usual)) - stopped
            assert shown("case", "reason") == "heartbeat"
            measure("emergency_after_stop_ms", silent / MS)
            measure("knob_restore_after_stop_ms", back / MS)
            # The limit counts from the last heartbeat, which was before the signal.
            assert silent < limit * MS + STALL
            assert back < silent + 1000 * MS + STALL
        assert reads(usual)()


class TestOverride:
    def test_somebody_elses_value_is_left_alone_and_adopted_on_release(self, guard, tunables):
        model, usual = tunables
        path = read_ahead()
        with created(model, guard) as proxy:
            proxy.start(0)
            trust(proxy)
            moment(reads(texts(model)))
            path.write_text("512")
            moment(lambda: proxy.knob_status().overridden is not None, 5)
            assert proxy.knob_status().overridden == 0
            others = {p: usual[p] for p in model if p != path}
            moment(reads({path: "512", **others}), 2)
            snapshot = proxy.snapshot(0)
            assert snapshot.operator_hold
            assert (snapshot.mode, snapshot.reason) == (Mode.EMERGENCY, Reason.OPERATOR_OVERRIDE)
            with pytest.raises(ProxyError):
                proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
            proxy.operator_emergency(False, 0)
            moment(lambda: proxy.knob_status().overridden is None, 3)
            moment(lambda: proxy.snapshot(0).mode is Mode.LEARNING, 5)
            trust(proxy, seq=2)
            moment(reads(texts(model)))
        assert reads({path: "512", **others})()

    def test_it_stays_when_the_agent_dies_meanwhile(self, tunables):
        model, usual = tunables
        path = read_ahead()

        def body(ready):
            # So long an epoch that the foreign value is first seen at the end.
            proxy = created(model)
            proxy.start(0)
            trust(proxy)
            moment(reads(texts(model)))
            ready()
            forever()

        with Agent(body) as agent:
            path.write_text("512")
            agent.signal(signal.SIGKILL)
            moment(reads({p: usual[p] for p in model if p != path}), 5)
        assert reads({path: "512"})()


class TestTriggers:
    FILE = Path("/proc/sys/vm/drop_caches")

    def drops(self):
        rows = (line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        found = dict(rows)
        return int(found["drop_pagecache"]), int(found["drop_slab"])

    def test_written_after_each_change_and_at_the_end(self, guard, tunables):
        path = read_ahead()
        knobs = [Knob(str(path), 0, 1024), Knob(str(self.FILE), trigger="1", restore="2")]
        usual = {path: path.read_text().strip()}
        commits, ends = self.drops()
        with made(knobs, [[64], [96]], guard) as proxy:
            proxy.start(0)
            trust(proxy)
            moment(reads({path: "96"}))
            moment(lambda: self.drops() == (commits + 1, ends), 5)
            proxy.stop(0)
            assert self.drops() == (commits + 2, ends)
        moment(lambda: self.drops() == (commits + 2, ends + 1), 5)
        assert reads(usual)()


class TestRefusals:
    """What the kernel takes as a knob, and from whom."""

    def create(self, *knobs, settings=((64,), (96,)), **changes):
        with KernelProxy.create(
            knob_config("refused", **changes), capacity=16, knobs=knobs, settings=settings
        ):
            pass

    def knob(self, path, restore=None):
        return Knob(str(path), 0, 1024, restore)

    def test_files_that_are_no_tunables(self, module, tmp_path):
        regular = tmp_path / "file"
        regular.write_text("7\n")
        wrong = {"knob.file": "EOPNOTSUPP"}
        for path in (regular, "/proc/self/oom_score_adj", "/proc/self/coredump_filter"):
            told, number = code(self.create, self.knob(path))
            assert wrong.get(told) == number
        told, number = code(self.create, self.knob(DEVICE, "0"))
        assert (told, number) in (("knob.file", "EOPNOTSUPP"), ("knob.not_writable", "EBADF"))
        assert regular.read_text() == "7\n"

    def test_one_that_was_opened_for_reading(self, module, monkeypatch):
        def open_to_read(knob):
            return os.open(knob.path, os.O_RDONLY), "60"

        monkeypatch.setattr(kernel_make, "open_knob", open_to_read)
        assert code(self.create, self.knob(SWAPPINESS)) == ("knob.not_writable", "EBADF")
        monkeypatch.setattr(kernel_make, "open_knob", lambda _: (os.open("/", os.O_RDONLY), "1"))
        assert code(self.create, self.knob("/"))[0] in ("knob.not_writable", "knob.file")

    def test_out_of_range(self, module):
        told = code(self.create, self.knob(SWAPPINESS), settings=[[60], [1025]])
        assert told == ("knob.range", "ERANGE")
        changes = {"kind": Kind.VALUE, "min": 0, "max": 2000, "settings": ()}
        assert code(self.create, self.knob(SWAPPINESS), **changes) == ("knob.range", "ERANGE")

    def test_one_owner(self, module):
        swappiness = self.knob(SWAPPINESS)
        twice = {"settings": [[1, 1], [2, 2]]}
        assert code(self.create, swappiness, swappiness, **twice) == ("knob.busy", "EBUSY")
        with created({SWAPPINESS: 33}):
            assert code(self.create, swappiness) == ("knob.busy", "EBUSY")
        self.create(swappiness)

    def test_without_cap_sys_admin(self, module):
        before = SWAPPINESS.read_text()

        def body(ready):
            drop_capability(CAP_SYS_ADMIN)
            assert code(self.create, self.knob(SWAPPINESS)) == ("knob.permission", "EPERM")
            ready()

        with Agent(body):
            pass
        assert SWAPPINESS.read_text() == before

    def test_nothing_stays_behind(self, module):
        """After all these refusals the module can go: the fixture unloads it."""
        for knobs in ([self.knob("/proc/self/oom_score_adj")], [self.knob(SWAPPINESS)] * 2):
            with contextlib.suppress(ProxyError):
                self.create(*knobs, settings=[[1] * len(knobs), [2] * len(knobs)])
        self.create(self.knob(SWAPPINESS))
