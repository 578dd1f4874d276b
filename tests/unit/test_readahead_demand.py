"""What programs asked for, from lines of a trace."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mlproxy_readahead.accesses import (
    CALL,
    FAULT,
    MAPPED,
    PART,
    Access,
    AccessTrace,
    TraceError,
    parse,
)
from mlproxy_readahead.demand import PAGE, STREAMS, Demand, DemandMeter

K = 1024
WINDOW = 16 * PAGE


def call(begin: int, size: int, task: int = 1) -> Access:
    return CALL, b"%d" % task, b"9", begin, begin + size - 1


def fault(page: int) -> Access:
    return FAULT, b"1", b"9", page * PAGE, page * PAGE


def mapped(window: int) -> Access:
    return MAPPED, b"1", b"9", window * WINDOW, (window + 1) * WINDOW - 1


def asked(*accesses: Access) -> Demand:
    return DemandMeter().add(accesses)


def test_a_sequential_reader_asks_for_each_page_once_in_one_run() -> None:
    demand = asked(*(call(n * 4 * PAGE, 4 * PAGE) for n in range(8)))

    assert (demand.accesses, demand.pages, demand.runs) == (8, 32, 1)


def test_the_rest_of_a_call_is_no_call() -> None:
    # The kernel tells of a long read again as it comes to pages that were not there.
    demand = asked(
        call(0, 4 * PAGE), call(PAGE, 3 * PAGE), call(2 * PAGE, 2 * PAGE), call(4 * PAGE, 4 * PAGE)
    )

    assert (demand.accesses, demand.pages, demand.runs) == (2, 8, 1)


def test_short_reads_of_one_page_ask_for_it_once() -> None:
    # Lines of a file: every event names whole pages.
    demand = asked(call(0, PAGE), call(0, PAGE), call(0, 2 * PAGE), call(PAGE, PAGE))

    assert (demand.pages, demand.runs) == (2, 1)


def test_jumps_are_runs() -> None:
    demand = asked(call(0, PAGE), call(80 * PAGE, PAGE), call(40 * PAGE, PAGE))

    assert (demand.pages, demand.runs) == (3, 3)


def test_two_readers_of_one_file_are_two() -> None:
    steps = [call(n * PAGE + place * 1000 * PAGE, PAGE, task=place)
             for n in range(10) for place in (1, 2)]  # fmt: skip

    assert asked(*steps).runs == 2


def test_a_touch_of_a_mapped_page_is_told_several_times_and_counted_once() -> None:
    demand = asked(
        *(fault(5), mapped(0)),  # nothing of its window was there
        *(fault(1000), mapped(62)),
        *(mapped(0), fault(7), mapped(0)),  # something was, not this page
        mapped(7),  # it was there
        mapped(7),  # and so was another page of that window
    )

    assert (demand.accesses, demand.mapped, demand.pages, demand.runs) == (5, 5, 5, 4)


@pytest.mark.parametrize("ahead", [1, 8, 64])
def test_reading_a_map_in_order_asks_the_same_whatever_is_read_ahead(ahead: int) -> None:
    # 64 pages; a fault where nothing was read ahead, a window mapped where it was.
    events: list[Access] = []
    for page in range(64):
        first = page % 16 == 0
        if page % ahead == 0:
            events += [*([] if first else [mapped(page // 16)]), fault(page), mapped(page // 16)]
        elif first:
            events.append(mapped(page // 16))
    demand = asked(*events)

    assert demand.runs == 1
    assert 48 < demand.pages <= 64  # of the last window only what was seen


def test_a_random_touch_of_the_next_window_is_not_a_reader_that_goes_on() -> None:
    pages = [5 * 16, 6 * 16 + 3, 90 * 16, 91 * 16, 20 * 16]
    demand = asked(*(event for page in pages for event in (fault(page), mapped(page // 16))))

    assert demand.pages == 5


def test_how_deep_pages_lie_does_not_depend_on_the_window() -> None:
    meter = DemandMeter()
    calls = [call(n * 16 * K, 16 * K) for n in range(1024)]
    parts = [meter.add(calls[begin : begin + 64]) for begin in range(0, 1024, 64)]

    assert [round(p.depth / p.pages, 1) for p in parts[1:]] == [10.0] * 15
    random = asked(*(call(n * 7919 % 5000 * PAGE, PAGE) for n in range(100)))
    assert random.depth / random.pages == pytest.approx(math.log2(PAGE / K))


def test_lost_ones_are_taken_to_be_like_the_others() -> None:
    meter = DemandMeter()
    demand = meter.add([call(0, PAGE), call(50 * PAGE, PAGE)], lost=2)

    assert (demand.accesses, demand.pages, demand.runs) == (4, 4, 4)
    assert meter.add([], lost=5) == Demand()


def test_more_readers_than_are_remembered_do_no_harm() -> None:
    meter = DemandMeter()
    for task in range(STREAMS + 10):
        meter.add([call(0, PAGE, task)])

    assert meter.add([call(PAGE, PAGE, STREAMS + 9)]).runs == 0
    assert meter.add([call(PAGE, PAGE, 0)]).runs == 1  # forgotten: a new one


def test_lines_of_a_trace() -> None:
    text = (
        b"# tracer: nop\n"
        b"          <...>-179     [000] .....    36.868518: mm_filemap_get_pages: dev=253:0 ino=1a"
        b" ofs=0-16383\n"
        b"CPU:1 [LOST 12 EVENTS]\n"
        b" kworker/u4:1-17     [001] d..1.    37.043951: mm_filemap_fault: dev=253:0 ino=10"
        b" ofs=1056768\n"
        b"  my prog-x-4242 [001] .....  37.1: mm_filemap_map_pages: dev=253:0 ino=10"
        b" ofs=1048576-1114111\n"
        b"  other-1 [001] .....  37.1: mm_filemap_add_to_page_cache: dev 8:1 ino 2 pfn=0x1 ofs=0\n"
    )

    assert parse(text) == (
        [
            (CALL, b"179", b"1a", 0, 16383),
            (FAULT, b"17", b"10", 1056768, 1056768),
            (MAPPED, b"4242", b"10", 1048576, 1114111),
        ],
        12,
    )


def test_half_a_line_waits_for_the_rest(world_root: Path) -> None:
    trace = AccessTrace("sda", [(8, 0), (8, 1)], 64, root=str(world_root))
    pipe = world_root / "sys/kernel/tracing/instances/mlproxy-readahead-sda/trace_pipe"
    with pipe.open("a") as out:
        out.write(" a-1 [000] .....  1.0: mm_filemap_fault: dev=8:1 ino=1 ofs=40")
        out.flush()
        assert trace.read(0.05) == ([], 0)
        out.write("96\n")
        out.flush()
        assert trace.read(0.05) == ([(FAULT, b"1", b"1", 4096, 4096)], 0)
    trace.close()
    chosen = pipe.parent / "events/filemap/mm_filemap_fault/filter"
    assert chosen.read_text() == f"s_dev == {8 << 20} || s_dev == {8 << 20 | 1}"
    assert (pipe.parent / "tracing_on").read_text() == "0"


def test_what_is_read_in_one_go_is_bounded(world_root: Path) -> None:
    trace = AccessTrace("sda", [(8, 0)], 64, root=str(world_root))
    pipe = world_root / "sys/kernel/tracing/instances/mlproxy-readahead-sda/trace_pipe"
    line = " a-1 [000] .....  1.0: mm_filemap_fault: dev=8:1 ino=1 ofs=4096\n"
    with pipe.open("a") as out:
        out.write(line * 10_000)
    sizes = []
    while found := trace.read(0.05)[0]:
        sizes.append(len(found))
    trace.close()

    assert sum(sizes) == 10_000
    assert max(sizes) <= 2 * PART // len(line)
    assert len(sizes) > 3


def test_without_tracing_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TraceError) as error:
        AccessTrace("sda", [(8, 0)], 64, root=str(tmp_path))
    assert error.value.code == "readahead.no_trace"
    (tmp_path / "sys/kernel/tracing/instances").mkdir(parents=True)
    with pytest.raises(TraceError, match=r"mm_filemap_get_pages.*6\.12"):
        AccessTrace("sda", [(8, 0)], 64, root=str(tmp_path))


@pytest.fixture
def world_root(tmp_path: Path) -> Path:
    for event in ("get_pages", "fault", "map_pages"):
        for folder in ("", "instances/mlproxy-readahead-sda/"):
            (tmp_path / f"sys/kernel/tracing/{folder}events/filemap/mm_filemap_{event}").mkdir(
                parents=True
            )
    (tmp_path / "sys/kernel/tracing/instances/mlproxy-readahead-sda/trace_pipe").touch()
    return tmp_path
