"""Each allocation of a call fails once: it says so, and leaves nothing behind.

Needs a kernel with fault injection, which the debug kernel is. Its kmemleak looks at the
end of the run for what an error path forgot.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from mlproxy_vm.modules import FOLDER, MODULE, is_loaded, rmmod

from mlproxy.errors import ProxyError
from mlproxy.proxy import KernelClock, KernelProxy, Kind, Knob, ProxyConfig, Trial

FAIL_NTH = Path("/proc/thread-self/fail-nth")
DEBUGFS = Path("/sys/kernel/debug")
CONFIG = ProxyConfig(name="faults", kind=Kind.CHOICE, max=3)
SWAPPINESS = "/proc/sys/vm/swappiness"
MOST = 2000  # allocations of one call, many more than there are
OWN = 80  # of those of a load, the last ones
FINIT_MODULE = 313

pytestmark = pytest.mark.skipif(
    not FAIL_NTH.exists(), reason="this kernel has no fault injection (KERNEL=debug has)"
)


@pytest.fixture
def faults():
    """Allocations that may sleep fail too, and quietly."""
    for name in ("failslab", "fail_page_alloc"):
        (DEBUGFS / name / "ignore-gfp-wait").write_text("N")
        (DEBUGFS / name / "verbose").write_text("0")
    (DEBUGFS / "fail_page_alloc/min-order").write_text("0")


class Injected:
    """What became of the fault, once its block has ended."""

    left = 0

    @property
    def happened(self) -> bool:
        return self.left == 0


def left(fd: int) -> int:
    """After how many more allocations one fails; 0: it has happened."""
    try:
        return int(os.pread(fd, 32, 0))
    except OSError:  # copying to user space counts too: this was the nth itself
        return 1


@contextmanager
def failing(nth: int) -> Iterator[Injected]:
    """The nth allocation that this thread makes in the kernel fails."""
    injected = Injected()
    fd = os.open(FAIL_NTH, os.O_RDWR)
    try:
        os.write(fd, str(nth).encode())
        try:
            yield injected
        finally:
            injected.left = left(fd)
            with suppress(OSError):  # that fails by being the nth itself, and is done then
                os.pwrite(fd, b"0", 0)
    finally:
        os.close(fd)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def proxies() -> list[str]:
    return sorted(p.name for p in Path("/sys/class/mlproxy").glob("*"))


def every_allocation(make, measure) -> None:
    """Call `make` with its first, second, ... allocation failing until none fails."""
    before, refused = open_files(), 0
    for nth in range(1, MOST):
        with failing(nth) as injected:
            try:
                made = make()
            except (ProxyError, OSError, MemoryError):
                made = None
        # An allocation may have a second chance, and a call that succeeds has done all.
        if made is None:
            assert injected.happened, f"refused without a fault, at allocation {nth}"
            refused += 1
        else:
            made.close()
        assert open_files() == before
        assert proxies() == []
        if not injected.happened:
            measure("faults_injected", nth - 1)
            measure("calls_refused", refused)
            assert refused >= 3
            return
    pytest.fail(f"still allocating after {MOST}")


def test_a_proxy_is_made_whole_or_not_at_all(faults, module, measure):
    every_allocation(
        lambda: KernelProxy.create(CONFIG, capacity=1024, clock=KernelClock.CALLER), measure
    )


def test_so_is_one_with_knobs_and_they_stay_as_they_are(faults, module, measure):
    usual = Path(SWAPPINESS).read_text()
    knobs = (Knob(SWAPPINESS, 0, 200),)
    config = ProxyConfig(
        name="faults", kind=Kind.CHOICE, max=1, trial=Trial.SWITCHBACK, epoch=50_000_000
    )
    settings = ((int(usual),), (11,))

    def make() -> KernelProxy:
        return KernelProxy.create(
            config, capacity=64, clock=KernelClock.MONOTONIC, knobs=knobs, settings=settings
        )

    every_allocation(make, measure)
    assert Path(SWAPPINESS).read_text() == usual


def test_the_module_loads_whole_or_not_at_all(faults, measure):
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(FOLDER / f"{MODULE}.ko", os.O_RDONLY | os.O_CLOEXEC)

    def load(nth: int) -> tuple[bool, Injected]:
        with failing(nth) as injected:
            status = libc.syscall(FINIT_MODULE, fd, b"", 0)
        assert is_loaded(MODULE) == Path("/dev/mlproxy").exists() == (status == 0)
        assert status == 0 or injected.happened, os.strerror(ctypes.get_errno())
        if status == 0:
            rmmod(MODULE)
        return status == 0, injected

    refused = 0
    try:
        never = 1_000_000
        _, injected = load(never)
        needed = never - injected.left
        # Most are the loader's; the module's own come last. They vary a little from load to load.
        for nth in range(max(1, needed - OWN), needed + OWN):
            loaded, injected = load(nth)
            refused += not loaded
            if not injected.happened:
                break
        else:
            pytest.fail(f"still allocating after {needed + OWN}")
    finally:
        os.close(fd)
    measure("allocations", needed)
    measure("calls_refused", refused)
    assert refused >= 3
