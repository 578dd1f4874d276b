"""The spool: order, bounds, recovery."""

from __future__ import annotations

import errno
import os
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproxy.errors import FeedError
from mlproxy.feed import spool as spool_module
from mlproxy.feed.record import Record
from mlproxy.feed.spool import MAGIC, Spool, frame, parse_segment

BIG = 1 << 20


def record(ordinal: int, kind: str = "model", size: int = 20) -> Record:
    payload = f"{ordinal:08d}".encode().ljust(size, b".")
    return Record(ordinal, kind, f"mlproxy/v1/box/event/p/{kind}", payload)


def records(*ordinals: int, kind: str = "model", size: int = 20) -> list[Record]:
    return [record(o, kind, size) for o in ordinals]


def drain(spool: Spool, batch: int = 16) -> list[Record]:
    out: list[Record] = []
    while found := spool.peek(batch):
        out += found
        spool.ack(found[-1].ordinal)
    return out


def segments(path) -> list[str]:
    return sorted(p.name for p in path.glob("*.seg"))


@pytest.fixture
def make(tmp_path):
    opened = []

    def make(max_bytes: int = BIG) -> Spool:
        spool = Spool(tmp_path / "spool", max_bytes)
        opened.append(spool)
        return spool

    yield make
    for spool in opened:
        spool.close()


def test_gives_back_in_order_over_both_lanes(make):
    spool = make()
    given_ = [record(i, "mode" if i % 3 == 0 else "model") for i in range(1, 200)]
    spool.append(given_[:50])
    spool.append(given_[50:])
    assert spool.records == 199
    assert drain(spool) == given_
    assert (spool.records, spool.bytes, spool.head) == (0, 0, None)


def test_small_segments_keep_the_order(make):
    spool = make(64 << 10)  # segments of 4 KiB
    given_ = [record(i, "mode" if i % 7 == 0 else "model", size=200) for i in range(1, 150)]
    for i in range(0, len(given_), 10):
        spool.append(given_[i : i + 10])
    assert drain(spool, 5) == given_
    assert not spool.dropped


def test_survives_without_being_closed(make, tmp_path):
    first = make()
    first.append(records(*range(1, 51)))
    batch = first.peek(10)
    first.ack(batch[-1].ordinal)
    # Like kill -9: nothing is closed or flushed, only the lock goes.
    os.close(first._cursor_fd)
    first._cursor_fd = -1
    second = make()
    assert second.records == 40
    assert second.next_ordinal == 51
    assert drain(second) == records(*range(11, 51))


def test_continues_the_numbers_when_everything_was_delivered(make):
    first = make()
    first.append(records(*range(1, 6)))
    drain(first)
    first.close()
    assert make().next_ordinal == 6


def test_a_torn_tail_is_cut_off_at_every_byte(tmp_path):
    whole = MAGIC + b"".join(frame(r) for r in records(1, 2, 3))
    ends = [len(MAGIC), *(len(MAGIC) + len(frame(record(1))) * n for n in (1, 2, 3))]
    for cut in range(len(whole) + 1):
        directory = tmp_path / str(cut)
        directory.mkdir()
        path = directory / f"other-{1:016x}.seg"
        path.write_bytes(whole[:cut])
        spool = Spool(directory, BIG)
        complete = max((n for n, end in enumerate(ends) if end <= cut), default=0)
        assert drain(spool) == records(*range(1, complete + 1))
        assert spool.torn_bytes == cut - (ends[complete] if cut >= len(MAGIC) else 0)
        spool.close()


def test_appends_go_on_after_a_torn_tail(make, tmp_path):
    first = make()
    first.append(records(1, 2, 3))
    first.close()
    (path,) = (tmp_path / "spool").glob("*.seg")
    os.truncate(path, path.stat().st_size - 1)
    second = make()
    second.append(records(3, 4))
    assert drain(second) == records(1, 2, 3, 4)


@pytest.mark.parametrize("offset", [0, 9, 13, 30, 45])
def test_a_flipped_bit_ends_the_file_there(make, tmp_path, offset):
    first = make()
    first.append(records(1, 2))
    first.close()
    (path,) = (tmp_path / "spool").glob("*.seg")
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)
    assert drain(make()) == []


def test_a_damaged_cursor_means_sending_again(make, tmp_path):
    first = make()
    first.append(records(1, 2, 3))
    first.ack(first.peek(2)[-1].ordinal)
    first.close()
    path = tmp_path / "spool" / "cursor"
    path.write_bytes(b"\x07" + path.read_bytes()[1:])
    assert drain(make()) == records(1, 2, 3)


def test_a_batch_that_came_back_is_sent_first(make):
    spool = make()
    spool.append(records(11, 12, 13))
    assert spool.peek(1) == records(11)
    spool.give_back()
    spool.append([record(8, "mode"), *records(9, 10)])
    spool.append(records(14))
    assert drain(spool, 2) == [record(8, "mode"), *records(9, 10, 11, 12, 13, 14)]


def test_counts_stay_right_when_older_ones_come_back(make):
    spool = make()
    spool.append(records(*range(11, 21)))
    spool.ack(spool.peek(5)[-1].ordinal)
    spool.append(records(21))
    assert spool.records == 6


def test_the_bound_holds_and_every_drop_is_counted(make):
    spool = make(64 << 10)
    for i in range(1, 2001, 20):
        spool.append([record(o, "model", 150) for o in range(i, i + 20)])
        assert spool.bytes <= 64 << 10
    left = drain(spool)
    assert spool.dropped["model"] == 2000 - len(left) > 0
    # The newest are kept, without a hole.
    assert [r.ordinal for r in left] == list(range(2001 - len(left), 2001))


def test_mode_changes_go_last(make):
    spool = make(64 << 10)
    for i in range(1, 3001, 30):
        batch = [record(o, "mode" if o % 30 == 1 else "model", 150) for o in range(i, i + 30)]
        spool.append(batch)
    left = drain(spool)
    assert spool.dropped.keys() == {"model"}
    assert sum(r.kind == "mode" for r in left) == 100


def test_mode_changes_go_too_when_there_is_nothing_else(make):
    spool = make(64 << 10)
    spool.append(records(*range(1, 1001), kind="mode", size=150))
    left = drain(spool)
    assert spool.dropped == Counter(mode=1000 - len(left))
    assert left[-1].ordinal == 1000


def test_what_is_being_sent_is_not_dropped(make):
    spool = make(64 << 10)
    spool.append(records(*range(1, 401), size=150))
    first = spool.peek(8)
    for i in range(401, 2001, 20):
        spool.append(records(*range(i, i + 20), size=150))
    assert spool.peek(8) == first
    spool.ack(first[-1].ordinal)
    assert spool.dropped["model"] + len(drain(spool)) + len(first) == 2000


def test_a_record_larger_than_the_spool_is_dropped_and_counted(make):
    spool = make(64 << 10)
    spool.append(records(1))
    spool.append(records(2, size=65 << 10))
    assert spool.dropped == Counter(model=1)
    assert drain(spool) == records(1)


def test_a_full_disk_leaves_the_file_sound(make, monkeypatch):
    spool = make()
    spool.append(records(1))
    real = os.pwrite
    calls = []

    def half(fd, data, offset):
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[: len(data) // 2], offset)

    with monkeypatch.context() as patch:
        patch.setattr(spool_module.os, "pwrite", half)
        with pytest.raises(OSError, match="No space"):
            spool.append(records(2, 3))
    assert not spool.dropped
    spool.append(records(2, 3))
    assert drain(spool) == records(1, 2, 3)


def test_a_spool_belongs_to_one_process(make, tmp_path):
    make()
    with pytest.raises(FeedError) as caught:
        Spool(tmp_path / "spool", BIG)
    assert caught.value.code == "feed.spool_busy"


def test_an_impossible_directory_is_a_feed_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FeedError) as caught:
        Spool(tmp_path / "file" / "spool", BIG)
    assert caught.value.code == "feed.spool"


def test_is_readable_by_its_owner_only(make, tmp_path):
    make().append(records(1))
    for path in (tmp_path / "spool").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("mlproxy/v1/box/event/+/mode", "mode"),
        ("mlproxy/v1/box/state/p", "mode"),
        ("mlproxy/v1/box/event/p/mode", "model"),
        ("other", "mode"),
    ],
)
def test_a_topic_that_would_stop_the_queue_is_not_sound(topic, kind):
    data = MAGIC + frame(Record(1, kind, topic, b"{}"))
    assert parse_segment(data) == ([], len(MAGIC))


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 40), st.integers(0, 300)),
            st.tuples(st.just("send"), st.integers(1, 40), st.just(0)),
            st.tuples(st.just("lose"), st.integers(1, 40), st.just(0)),
            st.tuples(st.just("come back"), st.integers(1, 40), st.integers(0, 300)),
            st.tuples(st.just("reopen"), st.just(0), st.just(0)),
        ),
        max_size=40,
    )
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_reordered_or_uncounted(tmp_path_factory, steps):
    """Against a model: delivered + dropped + left = appended, in order."""
    directory = tmp_path_factory.mktemp("spool")
    spool = Spool(directory, 64 << 10)
    ordinal, delivered, dropped = 1, [], Counter()
    for what, count, size in steps:
        if what == "append":
            batch = [
                record(o, "mode" if o % 5 == 0 else "model", 100 + size)
                for o in range(ordinal, ordinal + count)
            ]
            ordinal += count
            spool.append(batch)
        elif what == "come back" and not spool.records:
            late, early = (
                [record(o, "mode" if o % 5 == 0 else "model", 100 + size) for o in range(*ends)]
                for ends in ((ordinal + count, ordinal + 2 * count), (ordinal, ordinal + count))
            )
            ordinal += 2 * count
            spool.append(late)
            spool.append(early)
        elif what == "send":
            if found := spool.peek(count):
                delivered += found
                spool.ack(found[-1].ordinal)
        elif what == "lose":
            spool.peek(count)
            spool.give_back()
        else:
            dropped += spool.dropped
            spool.close()
            spool = Spool(directory, 64 << 10)
        assert spool.bytes <= 64 << 10
    delivered += drain(spool)
    dropped += spool.dropped
    spool.close()
    ordinals = [r.ordinal for r in delivered]
    assert ordinals == sorted(set(ordinals))
    assert len(delivered) + dropped.total() == ordinal - 1
    assert segments(directory) == []
