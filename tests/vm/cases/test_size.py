"""What a proxy takes of the kernel's memory, beside its ring and its programs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from mlproxy_vm.modules import MODULE

from mlproxy.proxy import KernelClock, KernelProxy, Kind, ProxyConfig
from mlproxy.proxy.device import module_info

COUNT = 256


def used():
    """Objects in use and their size, by cache, after what is parked was let go."""
    for cache in Path("/sys/kernel/slab").iterdir():
        if not cache.is_symlink():
            with contextlib.suppress(OSError):
                (cache / "shrink").write_text("1", encoding="ascii")
    rows = (line.split() for line in Path("/proc/slabinfo").read_text().splitlines()[2:])
    return {row[0]: (int(row[1]), int(row[3])) for row in rows}


@pytest.mark.skipif(Path("/proc/lockdep").exists(), reason="lock debugging makes every lock larger")
def test_a_proxy_is_small(module, measure):
    with KernelProxy.create(ProxyConfig("first", Kind.VALUE), capacity=1):
        pass
    before = used()
    with contextlib.ExitStack() as stack:
        for number in range(COUNT):
            config = ProxyConfig(f"size{number}", Kind.VALUE)
            stack.enter_context(KernelProxy.create(config, capacity=1, clock=KernelClock.CALLER))
        after = used()
        assert module_info().proxies == COUNT
    assert module_info().proxies == 0
    assert Path(f"/sys/module/{MODULE}/refcnt").read_text().strip() == "0"
    grown = {
        name: (after[name][0] - count) * size / COUNT
        for name, (count, size) in before.items()
        if after[name][0] - count >= COUNT // 2
    }
    objects = grown.get("kmalloc-cg-4k", 0) + grown.get("kmalloc-4k", 0)
    assert module_info().proxy_bytes <= 4096
    measure("proxy_struct_bytes", module_info().proxy_bytes)
    # One object for the proxy itself, and a few of others: not two, nor one of twice the size.
    assert 4096 <= objects < 1.1 * 4096
    assert grown.get("kmalloc-cg-8k", 0) + grown.get("kmalloc-8k", 0) == 0
    measure("bytes_per_proxy", objects // 4096 * 4096)
    # With its open file, its directory in sysfs, the ring's bookkeeping.
    measure("slab_bytes_per_proxy", sum(grown.values()))
