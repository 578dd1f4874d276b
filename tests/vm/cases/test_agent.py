"""An agent and its proxy: one at a time, woken when it should be, missed at once when it dies."""

import asyncio
import os
import signal
import threading

import numpy as np
import pytest
from mlproxy_vm.agents import MS, OPS, STALL, Agent, Trace, forever, moment, shown
from mlproxy_vm.consumer import LABEL, OP
from mlproxy_vm.modules import EXAMPLE, loaded, rmmod

from mlproxy.errors import ProxyError
from mlproxy.proxy import (
    RECORD_DTYPE,
    KernelClock,
    KernelProxy,
    Kind,
    Mode,
    ProxyConfig,
    Reason,
    RecordType,
)

CONFIG = ProxyConfig("case", Kind.CHOICE)


def code(call, *args, **kwargs):
    with pytest.raises(ProxyError) as caught:
        call(*args, **kwargs)
    return caught.value.code, caught.value.context["errno"]


def label(unit):
    record = np.zeros((), RECORD_DTYPE)
    record["type"], record["unit"] = RecordType.LABEL, unit
    return record


class TestOneAgent:
    def test_the_second_one_is_refused(self, example):
        with KernelProxy.attach("example"):
            assert code(KernelProxy.attach, "example") == ("proxy.busy", "EBUSY")
            assert shown("example", "agent") == "1"
            with Agent(lambda ready: (code(KernelProxy.attach, "example"), ready(), forever())):
                pass
        assert shown("example", "agent") == "0"
        KernelProxy.attach("example").close()

    def test_a_proxy_of_an_agents_own_is_its_alone(self, module):
        with KernelProxy.create(CONFIG, capacity=16):
            assert code(KernelProxy.attach, "case") == ("proxy.busy", "EBUSY")
            assert code(KernelProxy.create, CONFIG) == ("proxy.exists", "EEXIST")
        assert code(KernelProxy.attach, "case") == ("proxy.unknown", "ENOENT")
        KernelProxy.create(CONFIG, capacity=16).close()

    def test_nobody_there(self, module):
        assert code(KernelProxy.attach, "nobody") == ("proxy.unknown", "ENOENT")

    def test_what_the_owner_measures_the_agent_may_not_report(self, example):
        with KernelProxy.attach("example") as proxy:
            with pytest.raises(ProxyError) as caught:
                proxy.decide([0] * 8, 1, 0, 0)
            assert caught.value.code == "proxy.permission"

    def test_an_agent_whose_owner_goes(self, module):
        with loaded(EXAMPLE):
            proxy = KernelProxy.attach("example")
            proxy.start(0)
            proxy.consume(sum(len(view) for view in proxy.peek()))
            rmmod(EXAMPLE)
        assert proxy.wait(5)
        assert code(proxy.snapshot, 0) == ("proxy.gone", "ENODEV")
        proxy.close()
        proxy.close()


class TestWaking:
    @pytest.fixture
    def proxy(self, module):
        with KernelProxy.create(CONFIG, capacity=64, clock=KernelClock.CALLER) as proxy:
            self.read(proxy)
            yield proxy

    @staticmethod
    def read(proxy):
        proxy.consume(sum(len(view) for view in proxy.peek()))

    def test_at_the_watermark(self, proxy):
        proxy.set_watermark(8)
        for unit in range(7):
            proxy.publish(label(unit))
        assert not proxy.wait(0.05)
        proxy.publish(label(7))
        assert proxy.wait(5)
        self.read(proxy)
        assert not proxy.wait(0.05)

    def test_a_mode_change_wakes_below_it(self, proxy):
        proxy.set_watermark(50)
        assert not proxy.wait(0.05)
        proxy.start(1)
        assert proxy.wait(5)
        self.read(proxy)
        assert not proxy.wait(0.05)

    def test_one_that_sleeps_already(self, proxy):
        woken = threading.Event()

        def sleep():
            assert proxy.wait(30)
            woken.set()

        thread = threading.Thread(target=sleep)
        thread.start()
        assert not woken.wait(0.2)
        proxy.publish(label(1))
        assert woken.wait(30)
        thread.join()

    def test_in_an_event_loop(self, proxy):
        async def both():
            waiting = asyncio.create_task(proxy.wait_async(30))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            proxy.publish(label(1))
            return await waiting

        assert asyncio.run(both())
        self.read(proxy)
        assert not asyncio.run(proxy.wait_async(0.05))


class TestOverflow:
    RECORDS = 300_000

    def write(self, ready):
        """In a process of its own: as many labels as fit no ring, as fast as they go."""
        ops = np.zeros(2048, OP)
        ops["what"] = LABEL
        with OPS.open("wb", buffering=0) as file:
            ready()
            for first in range(0, self.RECORDS, len(ops)):
                ops["unit"] = np.arange(first, first + len(ops))
                ops["now"] = ops["unit"] + 1
                ops["cost"] = -ops["unit"].astype(np.int64)
                file.write(ops)

    def test_a_reader_that_is_away_finds_the_latest_and_the_number_of_the_others(self, module):
        with loaded(EXAMPLE, "capacity=64"), KernelProxy.attach("example") as proxy:
            proxy.start(0)
            proxy.consume(sum(len(view) for view in proxy.peek()))
            for burst, lost in ((64, 0), (1000, 936), (65, 1), (64, 0), (5, 0)):
                before = proxy.snapshot(0)
                ops = np.zeros(burst, OP)
                ops["what"], ops["unit"] = LABEL, np.arange(burst)
                OPS.write_bytes(ops.tobytes())
                after = proxy.snapshot(0)
                assert after.ring_head - before.ring_head == burst
                assert after.ring_lost - before.ring_lost == lost
                rows = np.concatenate(proxy.peek())
                assert rows["unit"].tolist() == list(range(lost, burst))
                assert (rows["seq"] == before.ring_head + 1 + rows["unit"]).all()
                assert proxy.consume(len(rows)) == 0
                assert proxy.peek() == ()

    def test_what_is_lost_is_counted_and_what_is_read_is_whole(self, module):
        with loaded(EXAMPLE, "capacity=64"), KernelProxy.attach("example") as proxy:
            proxy.start(0)
            proxy.consume(sum(len(view) for view in proxy.peek()))
            before = proxy.snapshot(0)
            assert before.ring_lost == 0
            writer = Agent(self.write)
            whole = torn = 0
            last = before.ring_head
            ended = False
            while True:
                ended = ended or bool(os.waitpid(writer.pid, os.WNOHANG)[0])
                views = proxy.peek()
                rows = np.concatenate(views).copy() if views else np.zeros(0, RECORD_DTYPE)
                overwritten = proxy.consume(len(rows))
                torn += overwritten
                rows = rows[overwritten:]
                if len(rows):
                    # In their order, each as it was written, none twice.
                    assert rows["seq"][0] > last
                    assert (np.diff(rows["seq"]) == 1).all()
                    assert (rows["type"] == RecordType.LABEL).all()
                    assert (rows["unit"].astype(np.int64) == -rows["cost"]).all()
                    assert (rows["time"] == rows["unit"] + 1).all()
                    assert (rows["unit"] == rows["seq"] - before.ring_head - 1).all()
                    last = rows["seq"][-1]
                    whole += len(rows)
                if ended and not len(rows):
                    break
            writer.pid = 0
            after = proxy.snapshot(0)
            written = after.ring_head - before.ring_head
            assert written == -(-self.RECORDS // 2048) * 2048
            assert whole
            assert 0 < written - whole <= after.ring_lost
            # Counted as lost is also what was read in time and acknowledged too late.
            assert torn <= after.ring_lost <= written
            assert int(shown("example", "records_lost")) == after.ring_lost


class TestDeath:
    def agent(self, ready):
        proxy = KernelProxy.attach("example")
        proxy.start(0)
        proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
        ready()
        forever()

    def test_the_default_acts_at_once_when_the_agent_is_killed(self, example, measure):
        """From the close on by the trace; from the kill on, as a person sees it."""
        seen, closes = [], []
        with Trace("sched/sched_process_exit", "mlproxy/mlproxy_mode") as trace:
            for _ in range(11):
                with Agent(self.agent) as agent:
                    pid = agent.pid
                    assert shown("example", "mode") == "trusted"
                    killed = agent.signal(signal.SIGKILL)
                    default = moment(lambda: shown("example", "mode") == "emergency")
                    seen.append(default - killed)
                    assert shown("example", "reason") == "agent-gone"
                    assert shown("example", "state") == "stopped"
                assert shown("example", "agent") == "0"
                # Its memory is gone at this event, its files are closed next.
                (exit_,) = trace.times("sched_process_exit", pid)
                closes.append(trace.times("mlproxy_mode", pid)[-1] - exit_)
        assert min(closes) >= 0
        measure("default_after_close_ms", max(closes) / MS)
        measure("default_after_kill_ms", sorted(seen)[len(seen) // 2] / MS)
        measure("default_after_kill_worst_ms", max(seen) / MS)
        assert max(closes) < 100 * MS + STALL

    def test_a_forked_child_does_not_stand_in_for_it(self, example):
        """It has a copy of the file, which must not keep the proxy going."""

        def parent(ready):
            proxy = KernelProxy.attach("example")
            proxy.start(0)
            if not os.fork():
                os.setsid()
                forever_child()
            ready()
            forever()

        def forever_child():
            signal.alarm(20)
            forever()

        with Agent(parent) as agent:
            agent.signal(signal.SIGKILL)
            moment(lambda: shown("example", "mode") == "emergency", 5)

    def test_a_proxy_of_its_own_ends_with_it(self, module):
        def body(ready):
            with KernelProxy.create(CONFIG, capacity=16) as proxy:
                proxy.start(0)
                ready()
                forever()

        with Agent(body):
            assert shown("case", "mode") == "learning"
        assert code(KernelProxy.attach, "case") == ("proxy.unknown", "ENOENT")

    def test_silence_by_the_real_clock(self, example):
        """The example's clock is its own: the watchdog sees a stopped agent nevertheless."""

        def body(ready):
            proxy = KernelProxy.attach("example", watchdog_ns=300 * MS)
            proxy.start(0)
            ready()
            while True:
                proxy.heartbeat(0)
                signal.sigtimedwait([], 0.03)

        with Agent(body) as agent:
            signal.sigtimedwait([], 0.6)
            assert shown("example", "mode") == "learning"
            stopped = agent.signal(signal.SIGSTOP)
            silent = moment(lambda: shown("example", "mode") == "emergency") - stopped
            assert shown("example", "reason") == "heartbeat"
            assert silent < 300 * MS + STALL
