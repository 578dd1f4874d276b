"""A model as BPF where it cannot be: what is missing is told. The rest runs in guests."""

import dataclasses

import pytest

from mlproxy.errors import ProxyError
from mlproxy.proxy import BpfModel, bpf, choose, libbpf
from mlproxy.proxy.device import ModuleInfo

ABLE = ModuleInfo(1, "0", knobs=True, struct_ops=True, proxies=0, panic=False, proxy_bytes=0)


def code(call, *args, **kwargs):
    with pytest.raises(ProxyError) as caught:
        call(*args, **kwargs)
    return caught.value.code


@pytest.fixture
def able(monkeypatch):
    """As if a module that takes BPF models were loaded."""
    monkeypatch.setattr(bpf, "module_info", lambda device: ABLE)


def test_without_a_module(tmp_path):
    away = str(tmp_path / "mlproxy")
    assert code(BpfModel, "x", device=away) == "kernel.no_module"
    assert code(choose.attach_proxy, "x", guard="auto", bpf=True, device=away) == "kernel.no_module"
    assert code(choose.attach_proxy, "x", guard="in-process", bpf=True) == "proxy.guard"


def test_a_module_or_kernel_without_struct_ops(monkeypatch):
    unable = dataclasses.replace(ABLE, struct_ops=False)
    monkeypatch.setattr(bpf, "module_info", lambda device: unable)
    assert code(BpfModel, "x") == "bpf.unsupported"


def test_without_libbpf(able, monkeypatch):
    monkeypatch.setattr(libbpf, "SONAME", "libno-such-thing.so.1")
    libbpf.libbpf.cache_clear()
    assert code(BpfModel, "x") == "bpf.no_libbpf"


def test_without_a_walker(able, monkeypatch, tmp_path):
    monkeypatch.setattr(bpf, "libbpf", lambda: None)  # is not asked
    assert code(BpfModel, "x", walker=tmp_path / "walker.bpf.o") == "bpf.walker"
