"""The module is loaded and unloaded a thousand times: in use it refuses, else it goes clean."""

import errno
import mmap
import os
import select
import threading
from pathlib import Path

import pytest
from mlproxy_vm.modules import EXAMPLE, MODULE, ModuleFile, is_loaded

from mlproxy.errors import ProxyError
from mlproxy.proxy import KernelProxy, Kind, Mode, ProxyConfig, Recommendation
from mlproxy.proxy.device import DEVICE, module_info

# A round takes 0.1-0.2 s under emulation, nearly all of it in the kernel's own loader.
ROUNDS = round(1000 / float(os.environ.get("MLPROXY_VM_SLOW", "1")))
WARM = 100  # rounds until caches have filled
META = 4096


@pytest.fixture
def module_file():
    """mlproxy.ko, not loaded before and after."""
    assert not is_loaded(MODULE)
    file = ModuleFile(MODULE)
    yield file
    stayed = is_loaded(MODULE) and file.unload()  # the next case shall not suffer
    file.close()
    assert not stayed
    assert not is_loaded(MODULE)


@pytest.fixture
def example_file():
    """mlproxy_example.ko, likewise."""
    file = ModuleFile(EXAMPLE)
    yield file
    stayed = is_loaded(EXAMPLE) and file.unload()
    file.close()
    assert not stayed
    assert not is_loaded(EXAMPLE)


def memory():
    """KiB of memory that the kernel cannot give back by itself."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {name: kib[name] for name in ("SUnreclaim", "VmallocUsed", "KernelStack")}


class Poller:
    """A thread that sleeps in poll() on a descriptor; `end` returns what it was woken with."""

    def __init__(self, fd):
        self._events = None
        self._thread = threading.Thread(target=self._run, args=(fd,))
        self._thread.start()

    def _run(self, fd):
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        self._events = poll.poll(60_000)

    def end(self):
        self._thread.join()
        return self._events[0][1] if self._events else 0


def opened(module):
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    assert not module.unload()
    os.close(fd)


def created(module):
    config = ProxyConfig("round", Kind.VALUE, max=9)
    with KernelProxy.create(config, capacity=8) as proxy:
        proxy.start(0)
        assert not module.unload()
        assert proxy.peek()


def mapped(module):
    """The mapping alone keeps the module, and the proxy."""
    config = ProxyConfig("round", Kind.VALUE, max=9)
    proxy = KernelProxy.create(config, capacity=32)
    fd = os.dup(proxy.fileno())
    pages = mmap.mmap(fd, 2 * META, mmap.MAP_SHARED, mmap.PROT_READ, trackfd=False)
    os.close(fd)
    proxy.close()
    assert not module.unload()
    assert pages[:4] == b"MLP1"
    assert Path("/sys/class/mlproxy/round").exists()
    pages.close()
    assert not Path("/sys/class/mlproxy/round").exists()


def polled(module):
    config = ProxyConfig("round", Kind.VALUE, max=9)
    with KernelProxy.create(config, capacity=8) as proxy:
        poller = Poller(proxy.fileno())
        assert not module.unload()
        proxy.start(0)  # a change of mode is news
        assert poller.end() == select.POLLIN


def epolled(module):
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    with select.epoll() as watch:
        watch.register(fd, select.EPOLLIN)
        assert watch.poll(0) == [(fd, select.EPOLLERR)]  # it has no proxy
        assert not module.unload()
        os.close(fd)


USES = (opened, created, mapped, polled, epolled)


@pytest.mark.timeout(900)
def test_a_thousand_times_in_every_use(module_file, measure):
    before = {}
    for number in range(ROUNDS):
        if number == WARM:
            before = memory()
        module_file.load()
        USES[number % len(USES)](module_file)
        assert module_file.unload()
        assert not Path(DEVICE).exists()
    after = memory()
    grown = {name: after[name] - before[name] for name in before}
    measure("load_unload_rounds", ROUNDS)
    for name, kib in grown.items():
        measure(f"load_unload_{name}_kib", kib)
    # One proxy per round would be 4 KiB, one copy of the module's code 80 KiB.
    assert all(kib < ROUNDS - WARM for kib in grown.values()), grown


def test_opening_races_with_unloading(module_file):
    over = threading.Event()
    seen = {"opened": 0, "refused": 0}

    def opens():
        while not over.is_set():
            try:
                fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
            except OSError as e:
                assert e.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO), e
                seen["refused"] += 1
                continue
            seen["opened"] += 1
            os.close(fd)

    thread = threading.Thread(target=opens)
    thread.start()
    try:
        for _ in range(40):
            module_file.load()
            while not module_file.unload():
                pass
    finally:
        over.set()
        thread.join()
    assert seen["opened"] > 0
    assert seen["refused"] > 0


@pytest.fixture
def loaded_module(module_file):
    """mlproxy.ko is loaded, and must go afterwards."""
    module_file.load()
    yield module_file
    assert module_file.unload()


def test_a_consumer_keeps_the_module(loaded_module, example_file):
    example_file.load()
    assert not loaded_module.unload()
    assert module_info().proxies == 1
    assert example_file.unload()
    assert module_info().proxies == 0


def calls(proxy):
    """One of each call that an agent makes."""
    config = proxy.config
    what = Recommendation(Kind.PROGRAM, 1, 1 << 30, 1, 1)
    return {
        "start": lambda: proxy.start(0),
        "stop": lambda: proxy.stop(0),
        "heartbeat": lambda: proxy.heartbeat(0),
        "submit": lambda: proxy.submit(what, 0),
        "set_mode": lambda: proxy.set_mode(Mode.EMERGENCY, 0, 0),
        "operator": lambda: proxy.operator_emergency(True, 0),
        "critical": lambda: proxy.critical(True, 0),
        "snapshot": lambda: proxy.snapshot(0),
        "reinit": lambda: proxy.reinit(config, 0),
        "report_twin": lambda: proxy.report_twin(1, 1, 0),
    }


def test_the_consumer_goes_while_its_agent_is_there(loaded_module, example_file):
    for _ in range(25):
        example_file.load()
        proxy = KernelProxy.attach("example")
        proxy.start(0)
        records = [view.copy() for view in proxy.peek()]
        assert len(records[0]) == 1
        proxy.consume(1)
        poller = Poller(proxy.fileno())
        assert example_file.unload()  # an agent does not keep an owner
        assert poller.end() & (select.POLLHUP | select.POLLERR) == select.POLLHUP | select.POLLERR
        for name, call in calls(proxy).items():
            with pytest.raises(ProxyError) as error:
                call()
            assert error.value.code == "proxy.gone", name
        assert not Path("/sys/class/mlproxy/example").exists()
        with pytest.raises(ProxyError) as error:
            KernelProxy.attach("example")
        assert error.value.code == "proxy.unknown"
        # The last words of the proxy: what was there, and that its agent was put out.
        last = [view.copy() for view in proxy.peek()]
        assert [int(r["default_action"]) for view in last for r in view] == [6]
        assert not loaded_module.unload()
        proxy.close()


def test_the_consumer_comes_back_while_an_old_agent_is_there(loaded_module, example_file):
    """The name is free for the next proxy; the old agent's file stays what it was."""
    example_file.load()
    old = KernelProxy.attach("example")
    assert example_file.unload()
    example_file.load()
    with KernelProxy.attach("example") as new:
        new.start(0)
        assert new.snapshot(0).mode is Mode.LEARNING
        with pytest.raises(ProxyError) as error:
            old.snapshot(0)
        assert error.value.code == "proxy.gone"
        old.close()
        assert new.snapshot(0).mode is Mode.LEARNING
    assert example_file.unload()
