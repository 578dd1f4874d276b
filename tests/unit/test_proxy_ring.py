"""The ring: layout, views without copies, overflow, torn records."""

import numpy as np
import pytest

from mlproxy import _core
from mlproxy.errors import ProxyError
from mlproxy.proxy import (
    RECORD_DTYPE,
    RING_META_DTYPE,
    Arm,
    InProcessProxy,
    Kind,
    ProxyConfig,
    RecordType,
)
from mlproxy.proxy.layout import check_layout


def make(capacity=8, **changes):
    return InProcessProxy(
        ProxyConfig(**{"name": "r", "kind": Kind.CHOICE} | changes), capacity=capacity
    )


def put(proxy, count, first=0):
    record = np.zeros((), dtype=RECORD_DTYPE)
    for i in range(first, first + count):
        record["unit"] = i
        record["features"] = i
        proxy.publish(record)


def units(views):
    return [int(u) for v in views for u in v["unit"]]


def test_dtypes_match_the_compiled_structs_and_a_wrong_one_is_noticed():
    assert RECORD_DTYPE.itemsize == 128
    assert RING_META_DTYPE.itemsize == 120
    swapped = np.dtype([("magic", "<u4"), ("struct_len", "<u2"), ("abi_version", "<u2")])
    with pytest.raises(ProxyError) as caught:
        check_layout(swapped, "struct mlp_ring_meta")
    assert caught.value.code == "proxy.layout"


def test_records_come_out_in_order_across_the_wrap_with_rising_seq():
    proxy = make()
    expected = 0
    for round_ in range(20):
        put(proxy, 5, first=round_ * 5)
        views = proxy.peek()
        assert units(views) == list(range(expected, expected + 5))
        assert [int(s) for v in views for s in v["seq"]] == list(range(expected + 1, expected + 6))
        assert proxy.consume(5) == 0
        expected += 5
    assert proxy.peek() == ()


def test_views_are_not_copies_and_cannot_be_written():
    proxy = make()
    put(proxy, 1)
    (before,) = proxy.peek()
    (again,) = proxy.peek()
    assert np.shares_memory(before, again)
    with pytest.raises(ValueError, match="read-only"):
        before["unit"] = 1


def test_the_oldest_give_way_and_are_counted():
    proxy = make()
    put(proxy, 30)
    assert units(proxy.peek()) == list(range(22, 30))
    s = proxy.snapshot(0)
    assert (s.ring_head, s.ring_lost) == (30, 22)
    assert proxy.consume(8) == 0


def test_records_overwritten_after_the_peek_are_reported_as_torn():
    proxy = make()
    put(proxy, 8)
    proxy.peek()
    put(proxy, 3, first=8)
    assert proxy.consume(8) == 3
    assert units(proxy.peek()) == [8, 9, 10]


def test_partial_consumption_and_asking_for_too_much():
    proxy = make()
    put(proxy, 4)
    proxy.peek()
    assert proxy.consume(1) == 0
    assert units(proxy.peek()) == [1, 2, 3]
    with pytest.raises(ProxyError) as caught:
        proxy.consume(4)
    assert caught.value.code == "proxy.consume"
    assert units(proxy.peek()) == [1, 2, 3]


def test_no_ring_is_fine():
    proxy = make(capacity=0)
    put(proxy, 3)
    assert proxy.peek() == ()
    assert proxy.consume(0) == 0


def test_sampled_decisions_and_outcomes_say_everything():
    proxy = make(64, kind=Kind.CHOICE, nr_features=2, sample_every=2)
    for unit in range(4):
        proxy.decide([unit, -unit], unit, 1, 50 + unit)
    proxy.report(Arm.MODEL, 9, 1234, 60)
    proxy.report_twin(100, 90, 61)
    (view,) = proxy.peek()
    assert list(view["type"]) == [
        RecordType.SAMPLE,
        RecordType.SAMPLE,
        RecordType.OUTCOME,
        RecordType.TWIN,
    ]
    assert list(view["unit"][:3]) == [1, 3, 9]
    assert view[1]["features"][:3].tolist() == [3, -3, 0]
    assert (view[1]["nr_features"], view[1]["default_action"], view[1]["time"]) == (2, 1, 53)
    assert (view[2]["cost"], view[2]["arm"]) == (1234, Arm.MODEL)
    assert (view[3]["cost"], view[3]["aux"]) == (100, 90)


def test_the_meta_page_has_what_the_kernel_module_will_have():
    proxy = make(16)
    put(proxy, 2)
    meta = proxy._reader.page[: RING_META_DTYPE.itemsize].view(RING_META_DTYPE)[0]
    assert meta["magic"] == 0x31504C4D
    assert meta["abi_version"] == 1
    assert meta["struct_len"] == 120
    assert (meta["record_size"], meta["capacity"], meta["head"]) == (128, 16, 2)
    assert not proxy._reader.page[RING_META_DTYPE.itemsize :].any()
    proxy.start(0)
    assert meta["mode"] == 1


def test_the_proxy_is_small():
    assert _core.lib.mlp_proxy_size() <= 4096
