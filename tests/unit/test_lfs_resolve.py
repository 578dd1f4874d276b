"""Block numbers from (file, block) pairs, and when each written block dies."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproxy.errors import TraceError
from mlproxy_lfs._store import ffi, lib
from mlproxy_lfs.pagecache import BlockStream
from mlproxy_lfs.workloads import resolve

NEVER = np.iinfo(np.uint32).max


def stream(runs, nr_files=None):
    """Of (trim, file, block, count)."""
    columns = np.array(runs, np.int32).reshape(-1, 4).T
    files = nr_files or int(columns[1].max(initial=0)) + 1
    ids = np.zeros(files, np.int32)
    return BlockStream(
        op=columns[0].astype(np.uint8),
        file=columns[1].copy(),
        block=columns[2].copy(),
        count=columns[3].copy(),
        dir_id=ids,
        class_id=ids,
        writer=ids,
        nr_files=files,
        live_peak_blocks=0,
        blocks_written=0,
    )


runs_of_blocks = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 12), st.integers(0, 9)),
    min_size=1,
    max_size=120,
).filter(lambda runs: any(not trim and count for trim, _, _, count in runs))


def numbers(runs, workload):
    """Follow the pairs through; return how many are live at most, and check that none meet."""
    live, most = {}, 0
    for (trim, file, block, count), op in zip(runs, workload.ops.tolist(), strict=True):
        first, of, n, _ = op
        assert of == file
        if trim and not any((file, block + k) in live for k in range(count)):
            continue
        assert n == count
        for k in range(n):
            if trim:
                live.pop((file, block + k), None)
            else:
                live[file, block + k] = first + k
        most = max(most, len(live))
        assert len(set(live.values())) == len(live), "two live blocks share a number"
        assert all(number < workload.nr_blocks for number in live.values())
    return most


@given(runs_of_blocks)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_no_two_live_blocks_share_a_number(runs):
    numbers(runs, resolve("made", stream(runs), 100))


@given(runs_of_blocks)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_deaths_against_brute_force(runs):
    workload = resolve("made", stream(runs), 100)
    deaths = np.zeros(workload.writes, np.uint32)
    found = lib.lfs_deaths(
        ffi.cast("struct lfs_op *", workload.ops.ctypes.data),
        len(workload.ops),
        workload.nr_blocks,
        ffi.cast("uint32_t *", deaths.ctypes.data),
        workload.writes,
    )
    assert found == workload.writes
    written = []
    for first, _, count, trim in workload.ops.tolist():
        for block in range(first, first + count):
            written.append((block, trim))
    expected, clock = [], 0
    for at, (block, trim) in enumerate(written):
        if trim:
            continue
        later, death = clock + 1, NEVER
        for other, is_trim in written[at + 1 :]:
            if other == block:
                death = later
                break
            later += not is_trim
        expected.append(death)
        clock += 1
    assert deaths.tolist() == expected


def test_numbers_are_used_again_after_trim():
    runs = []
    for file in range(200):
        runs += [(0, file, 0, 7), (1, file, 0, 7)]
    assert resolve("made", stream(runs), 100).nr_blocks <= 8


def test_a_file_keeps_its_place_as_long_as_a_block_lives():
    runs = [(0, 0, 0, 4), (1, 0, 0, 3), (0, 1, 0, 4), (0, 0, 0, 2)]
    ops = resolve("made", stream(runs), 100).ops
    assert ops["block"][3] == ops["block"][0]
    assert abs(int(ops["block"][2]) - int(ops["block"][0])) >= 4


def test_trimming_what_was_never_written_does_nothing():
    workload = resolve("made", stream([(1, 0, 0, 5), (0, 1, 0, 2)]), 100)
    assert workload.ops["count"].tolist() == [0, 2]
    assert workload.writes == 2


def test_groups_are_dense():
    made = stream([(0, f, 0, 1) for f in range(3)])
    made = dataclasses.replace(
        made,
        dir_id=np.array([7, 7, 90], np.int32),
        class_id=np.array([5, 1, 3], np.int32),
        writer=np.array([4, 4, 4], np.int32),
    )
    workload = resolve("made", made, 100)
    assert workload.groups == (1, 2, 3)
    assert workload.files["blocks"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"file": np.array([0, -1], np.int32)},
        {"file": np.array([0, 2], np.int32)},
        {"block": np.array([0, -1], np.int32)},
        {"count": np.array([1, -1], np.int32)},
        {
            "block": np.array([0, (1 << 31) - 1], np.int32),
            "count": np.array([1, 1 << 30], np.int32),
        },
        {"count": np.array([1], np.int32)},
        {"op": np.array([0], np.uint8)},
        {"writer": np.zeros(5, np.int32)},
        {"nr_files": 1},
        {"op": np.array([1, 1], np.uint8)},
    ],
)
def test_bad_streams_are_refused_with_a_code(change):
    good = stream([(0, 0, 0, 2), (0, 1, 0, 2)])
    resolve("made", good, 10)
    with pytest.raises(TraceError) as caught:
        resolve("made", dataclasses.replace(good, **change), 10)
    assert caught.value.code == "trace.stream"
    assert "made" in str(caught.value)


def test_an_empty_stream_is_refused_with_a_code():
    with pytest.raises(TraceError) as caught:
        resolve("made", stream([], nr_files=1), 10)
    assert caught.value.code == "trace.stream"
