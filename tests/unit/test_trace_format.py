"""The trace format: what is written is read, and damage is found where it is."""

from __future__ import annotations

import doctest
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproxy.errors import TraceError
from mlproxy.trace import layout as fmt
from mlproxy.trace.format import Op, Trace, TraceWriter, parse_trace, read_trace, write_trace

COLUMNS = ("op", "file", "offset", "length", "time", "dir_id", "class_id")


def a_trace(seed: int = 0, events: int = 500) -> Trace:
    """Random but valid events: files are created before use, some writes go on."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, int, int, int]] = []
    ends: list[int] = []
    for _ in range(events):
        if not ends or rng.random() < 0.1:
            rows.append((Op.CREATE, len(ends), 0, int(rng.integers(0, 3)) * 5000))
            ends.append(0)
            continue
        file = int(rng.integers(0, len(ends)))
        op = int(rng.choice([Op.WRITE] * 6 + [o for o in Op if o != Op.CREATE]))
        offset = ends[file] if rng.random() < 0.5 else int(rng.integers(0, 1 << 40))
        length = int(rng.integers(0, 1 << 20))
        if op == Op.WRITE:
            ends[file] = offset + length
        if op == Op.SYNC_ALL:
            file = 0
        rows.append((op, file, offset, length))
    op, file, offset, length = (np.array(c) for c in zip(*rows, strict=True))
    files = len(ends)
    return Trace(
        op=op.astype(np.uint8),
        file=file.astype(np.uint32),
        offset=offset.astype(np.int64),
        length=length.astype(np.int64),
        time=np.cumsum(rng.integers(0, 5000, events)).astype(np.int64),
        dir_id=np.sort(rng.integers(0, 3, files)).astype(np.uint32),
        class_id=np.sort(rng.integers(0, 4, files)).astype(np.uint32),
        dirs=("", "a/#", "b"),
        classes=("x", "y#", "ü.db", "z"),
        tenant=7,
        meta={"command": ["sh"]},
    )


def packed(trace: Trace, monkeypatch: pytest.MonkeyPatch, chunk: int) -> bytes:
    monkeypatch.setattr(fmt, "CHUNK_EVENTS", chunk)
    out = io.BytesIO()
    writer = TraceWriter(out, tenant=trace.tenant, meta=trace.meta, level=1)
    writer.write_all(trace)
    writer.finish({"lost": 0})
    return out.getvalue()


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 17])
def test_what_is_written_is_read(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = a_trace(chunk)
    back = parse_trace(packed(trace, monkeypatch, chunk))
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(back, name), getattr(trace, name), err_msg=name)
    used_dirs = int(trace.dir_id.max()) + 1
    assert back.dirs == trace.dirs[:used_dirs]
    assert back.classes == trace.classes[: int(trace.class_id.max()) + 1]
    assert (back.tenant, back.meta) == (7, {"command": ["sh"]})
    assert back.summary == {"events": 500, "files": trace.nr_files, "lost": 0}


def test_columns_have_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    back = parse_trace(packed(a_trace(), monkeypatch, 100))
    kinds = {name: getattr(back, name).dtype.str for name in COLUMNS}
    assert kinds == {
        "op": "|u1", "file": "<u4", "offset": "<i8", "length": "<i8", "time": "<i8",
        "dir_id": "<u4", "class_id": "<u4",
    }  # fmt: skip


def test_an_empty_trace_is_one() -> None:
    out = io.BytesIO()
    TraceWriter(out).finish({})
    assert parse_trace(out.getvalue()).nr_events == 0


def test_a_coarse_clock_rounds_down_and_does_not_drift(tmp_path) -> None:
    trace = a_trace()
    coarse = Trace(**{**trace.__dict__, "time_unit_us": 1000})
    write_trace(tmp_path / "t", coarse)
    np.testing.assert_array_equal(read_trace(tmp_path / "t").time, trace.time // 1000 * 1000)


def test_cutting_anywhere_is_an_error_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packed(a_trace(3, 200), monkeypatch, 50)
    reference = parse_trace(whole)
    for size in range(len(whole)):
        with pytest.raises(TraceError) as caught:
            parse_trace(whole[:size])
        error = caught.value
        assert error.code in ("trace.truncated", "trace.not_a_trace")
        assert 0 <= error.context["offset"] <= size
        if size < 60:
            continue
        part = parse_trace(whole[:size], partial=True)
        assert part.damage is not None
        assert part.nr_events % 50 == 0
        for name in COLUMNS[:5]:
            column = getattr(reference, name)[: part.nr_events]
            np.testing.assert_array_equal(getattr(part, name), column)


def test_a_wrong_byte_anywhere_is_found_at_its_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packed(a_trace(4, 120), monkeypatch, 40)
    starts = [i for i in range(len(whole)) if whole[i : i + 4] == fmt.FRAME_MAGIC]
    assert len(starts) == 4
    reference = parse_trace(whole)
    for at in range(len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 0x41
        with pytest.raises(TraceError) as caught:
            parse_trace(bytes(broken))
        frame = max((s for s in starts if s <= at), default=0)
        if frame:
            assert caught.value.context["offset"] == frame
            part = parse_trace(bytes(broken), partial=True)
            assert part.nr_events == 40 * starts.index(frame)
            np.testing.assert_array_equal(part.offset, reference.offset[: part.nr_events])


def test_a_future_version_is_told_apart() -> None:
    out = io.BytesIO()
    TraceWriter(out).finish({})
    data = bytearray(out.getvalue())
    struct.pack_into("<H", data, 8, 2)
    with pytest.raises(TraceError, match="version 2") as caught:
        parse_trace(bytes(data))
    assert (caught.value.code, caught.value.context["offset"]) == ("trace.version", 8)


def test_unknown_flags_are_refused() -> None:
    out = io.BytesIO()
    TraceWriter(out).finish({})
    data = bytearray(out.getvalue())
    struct.pack_into("<H", data, 10, 0x8000)
    with pytest.raises(TraceError, match="flags 0x8000") as caught:
        parse_trace(bytes(data))
    assert (caught.value.code, caught.value.context["offset"]) == ("trace.version", 10)


def test_the_example_of_the_reference_runs() -> None:
    page = Path(__file__).parents[2] / "docs/reference/trace-format.md"
    tried = doctest.testfile(str(page), module_relative=False)
    assert tried.attempted >= 8
    assert tried.failed == 0


@pytest.mark.parametrize("data", [b"", b"SQLite format 3\0", b"MLPTRACX" * 9])
def test_something_else_is_no_trace(data: bytes) -> None:
    with pytest.raises(TraceError) as caught:
        parse_trace(data)
    assert caught.value.code == "trace.not_a_trace"


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(TraceError, match="nowhere") as caught:
        read_trace(tmp_path / "nowhere")
    assert caught.value.code == "trace.unreadable"


def lying(**change: object) -> bytes:
    """A file whose checksums are right and whose only chunk says nonsense."""
    good: dict[str, object] = {
        "op": np.array([Op.CREATE, Op.WRITE], np.uint8),
        "file": np.zeros(2, np.uint32),
        "offset": np.zeros(2, np.int64),
        "length": np.array([0, 10], np.int64),
        "time": np.zeros(2, np.int64),
        "dir_id": np.zeros(1, np.uint32),
        "class_id": np.zeros(1, np.uint32),
        "new_dirs": [""],
        "new_classes": ["f"],
    }
    out = io.BytesIO()
    writer = TraceWriter(out)
    writer.chunk(**{**good, **change})  # type: ignore[arg-type]
    writer.finish({})
    return out.getvalue()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"op": np.array([0, 99], np.uint8)}, "unknown operation 99"),
        ({"file": np.array([0, 1], np.uint32)}, "before it is created"),
        ({"file": np.array([1, 1], np.uint32)}, "not created in order"),
        ({"op": np.array([1, 0], np.uint8)}, "before it is created"),
        ({"dir_id": np.array([1], np.uint32)}, "unknown directory"),
        ({"class_id": np.array([9], np.uint32)}, "unknown class"),
        ({"dir_id": np.zeros(2, np.uint32)}, "bytes"),
        ({"new_dirs": []}, "unknown directory|bytes"),
        ({"offset": np.array([0, 1 << 62], np.int64)}, "out of range"),
        ({"length": np.array([0, 1 << 62], np.int64)}, "out of range"),
    ],
)
def test_nonsense_with_a_right_checksum_is_refused(change, why: str) -> None:
    assert parse_trace(lying()).nr_events == 2
    if "new_dirs" in change:
        change = {**change, "dir_id": np.ones(1, np.uint32)}
    with pytest.raises(TraceError, match=why) as caught:
        parse_trace(lying(**change))
    assert caught.value.code == "trace.damaged"


def test_a_frame_that_claims_to_be_huge_is_not_unpacked() -> None:
    data = bytearray(lying())
    at = data.index(fmt.FRAME_MAGIC)
    struct.pack_into("<I", data, at + 12, 0xFFFFFFF0)
    size = struct.unpack_from("<I", data, at + 16)[0]
    end = at + fmt.FRAME.size + size
    struct.pack_into("<I", data, end, zlib.crc32(data[at:end]))
    with pytest.raises(TraceError, match="impossible frame size"):
        parse_trace(bytes(data))


def test_more_after_the_end_is_refused() -> None:
    data = lying()
    tail = data[data.index(fmt.FRAME_MAGIC) :]
    with pytest.raises(TraceError, match="after the end") as caught:
        parse_trace(data + tail)
    assert caught.value.context["offset"] == len(data)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 5)), max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_offsets_survive_any_order_of_files(rows) -> None:
    """Runs of writes that go on, in any interleaving, with other operations between."""
    head = [(Op.CREATE, f, 0, 0) for f in range(3)]
    body = [(Op.WRITE if k < 4 else Op.TRUNCATE, f, off * 10, k * 10) for f, off, k in rows]
    op, file, offset, length = (np.array(c, np.int64) for c in zip(*head, *body, strict=True))
    trace = Trace(
        op.astype(np.uint8), file.astype(np.uint32), offset, length, np.zeros_like(offset),
        np.zeros(3, np.uint32), np.zeros(3, np.uint32), ("",), ("f",),
    )  # fmt: skip
    out = io.BytesIO()
    writer = TraceWriter(out, level=1)
    writer.write_all(trace)
    writer.finish({})
    np.testing.assert_array_equal(parse_trace(out.getvalue()).offset, offset)
