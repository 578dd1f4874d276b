"""A bounded queue of events on disk, for the time the broker is away.

Two lanes of append-only segment files, one for vital events, one for the rest.
A file starts with `MAGIC` and holds frames: length and CRC-32 of the body (two
little-endian u32), then the body: ordinal (u64), length of the kind (u8), length
of the topic (u16), kind, topic, payload. The name is the lane and the first
ordinal, so sorting names sorts the events. The file `cursor` holds the highest
delivered ordinal.

What was appended survives `kill -9` (it is in the page cache; nothing is synced,
so a power cut may take the last seconds). A torn or damaged frame ends its file:
the rest is cut off when the spool is opened. Delivery is at least once: records
are removed when acknowledged, so a crash in between sends them again.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlproxy.errors import FeedError
from mlproxy.feed.record import Record
from mlproxy.feed.topics import parse_topic

__all__ = ("MAGIC", "Spool", "parse_segment")

MAGIC = b"MLPSPL1\n"
_HEAD = struct.Struct("<II")
_BODY = struct.Struct("<QBH")
_CURSOR = struct.Struct("<QI")
_MAX_BODY = 2 << 20
_LANES = ("vital", "other")


def frame(record: Record) -> bytes:
    """Return the record as one frame of a segment."""
    kind, topic = record.kind.encode(), record.topic.encode()
    body = _BODY.pack(record.ordinal, len(kind), len(topic)) + kind + topic + record.payload
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def parse_segment(data: bytes) -> tuple[list[Record], int]:
    """Return the records of a segment and how many bytes of it are sound.

    Never raises: parsing ends at the first frame that is torn, damaged or out
    of order.
    """
    records: list[Record] = []
    if not data.startswith(MAGIC):
        return records, 0
    offset = len(MAGIC)
    while (record := _parse_frame(data, offset)) is not None:
        if records and record.ordinal <= records[-1].ordinal:
            break
        records.append(record)
        offset += _HEAD.size + _HEAD.unpack_from(data, offset)[0]
    return records, offset


def _parse_frame(data: bytes, offset: int) -> Record | None:
    if len(data) - offset < _HEAD.size:
        return None
    length, crc = _HEAD.unpack_from(data, offset)
    start = offset + _HEAD.size
    body = data[start : start + length]
    if not _BODY.size <= length <= _MAX_BODY or len(body) < length or zlib.crc32(body) != crc:
        return None
    ordinal, kind_length, topic_length = _BODY.unpack_from(body)
    topic_at = _BODY.size + kind_length
    if topic_at + topic_length > length:
        return None
    try:
        kind = body[_BODY.size : topic_at].decode()
        topic = body[topic_at : topic_at + topic_length].decode()
        parsed = parse_topic(topic)
    except (UnicodeDecodeError, FeedError):
        return None
    # A topic that a broker refuses would stop the queue for ever.
    if (parsed.cls, parsed.kind) != ("event", kind):
        return None
    return Record(ordinal, kind, topic, body[topic_at + topic_length :])


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int = 0
    last: int = 0
    kinds: Counter[str] = field(default_factory=Counter)


class _Lane:
    """Segments of one lane, oldest first; the oldest may be loaded into memory."""

    def __init__(self) -> None:
        self.segments: deque[_Segment] = deque()
        self.loaded: deque[Record] = deque()
        self.loaded_from: _Segment | None = None
        self.open: _Segment | None = None
        self.fd = -1

    def seal(self) -> None:
        """No more appends to the newest segment."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self.open = -1, None

    def load(self, delivered: int) -> None:
        """Make sure that `loaded` starts with the oldest undelivered record."""
        while self.segments:
            first = self.segments[0]
            if self.loaded_from is not first:
                if self.open is first:
                    self.seal()
                if self.loaded_from is not None:
                    self.loaded_from.kinds = Counter(r.kind for r in self.loaded)
                records, _ = parse_segment(first.path.read_bytes())
                self.loaded = deque(records)
                self.loaded_from = first
            while self.loaded and self.loaded[0].ordinal <= delivered:
                self.loaded.popleft()
            if self.loaded:
                return
            self.remove(first)

    def remove(self, segment: _Segment) -> None:
        """Delete a segment with all that is in it."""
        if self.open is segment:
            self.seal()
        if self.loaded_from is segment:
            self.loaded_from = None
            self.loaded.clear()
        self.segments.remove(segment)
        segment.path.unlink(missing_ok=True)


class Spool:
    """Events on disk in their order; not thread-safe, methods block on the disk.

    Args:
        directory: made if absent, mode 0700; used by one process at a time.
        max_bytes: bound of all segments together. When it is reached the oldest
            segment of ordinary events is thrown away; vital ones only when
            nothing else is left.

    Raises:
        FeedError: `feed.spool_busy` if another process has it, `feed.spool`
            if it cannot be opened.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._segment_bytes = max(4096, max_bytes // 16)
        self._lanes = {name: _Lane() for name in _LANES}
        self._lent = False
        self.dropped: Counter[str] = Counter()
        self.torn_bytes = 0
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The cursor is the lock, too.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._cursor_fd = os.open(directory / "cursor", flags, 0o600)
        except OSError as exc:
            raise _unusable(directory, exc) from exc
        try:
            fcntl.flock(self._cursor_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._delivered = self._read_cursor()
            self._recover()
        except BlockingIOError as exc:
            os.close(self._cursor_fd)
            raise FeedError(
                f"the spool {directory} is in use by another process",
                code="feed.spool_busy",
                hint="give each daemon its own feed.spool_dir",
            ) from exc
        except OSError as exc:
            os.close(self._cursor_fd)
            raise _unusable(directory, exc) from exc

    @property
    def next_ordinal(self) -> int:
        """First ordinal that was never used here."""
        last = [s.last for lane in self._lanes.values() for s in lane.segments]
        return max([self._delivered, *last]) + 1

    @property
    def bytes(self) -> int:
        """Size of all segments."""
        return sum(s.size for lane in self._lanes.values() for s in lane.segments)

    @property
    def records(self) -> int:
        """Records not yet delivered."""
        count = 0
        for lane in self._lanes.values():
            for segment in lane.segments:
                whole = segment is not lane.loaded_from
                count += segment.kinds.total() if whole else len(lane.loaded)
        return count

    @property
    def head(self) -> int | None:
        """Ordinal of the oldest undelivered record; reads the disk at most once per segment.

        Raises:
            OSError: a segment cannot be read.
        """
        heads = [lane.loaded[0].ordinal for lane in self._load()]
        return min(heads, default=None)

    def append(self, records: Sequence[Record]) -> None:
        """Add records, in order. All are kept or counted in `dropped`.

        They may be older than what is there (a batch that came back from a lost
        connection): then they are sent first.

        Raises:
            OSError: the disk did not take them; nothing of this batch counts.
        """
        for name, vital in (("vital", True), ("other", False)):
            batch = [r for r in records if r.vital is vital]
            while batch:
                batch = batch[self._append(self._lanes[name], batch) :]

    def peek(self, count: int) -> list[Record]:
        """Return the oldest undelivered records, at most `count`, in order.

        They stay until `ack`; call `give_back` when they were not delivered.

        Raises:
            OSError: a segment cannot be read.
        """
        lanes = self._load()
        merged = sorted(
            (r for lane in lanes for r in _first(lane.loaded, count)), key=lambda r: r.ordinal
        )
        # Beyond the last loaded record of a lane there may be more of that lane.
        limit = min(
            (lane.loaded[-1].ordinal for lane in lanes if len(lane.segments) > 1), default=None
        )
        if limit is not None:
            merged = [r for r in merged if r.ordinal <= limit]
        self._lent = bool(merged)
        return merged[:count]

    def ack(self, ordinal: int) -> None:
        """Everything up to `ordinal` was delivered: remove it."""
        self._lent = False
        self._delivered = max(self._delivered, ordinal)
        try:
            self._write_cursor()
        finally:
            self._load()

    def give_back(self) -> None:
        """What `peek` returned was not delivered."""
        self._lent = False

    def close(self) -> None:
        """Close the files; what is in them stays for the next session."""
        for lane in self._lanes.values():
            lane.seal()
        if self._cursor_fd >= 0:
            os.close(self._cursor_fd)
            self._cursor_fd = -1

    def _load(self) -> list[_Lane]:
        for lane in self._lanes.values():
            lane.load(self._delivered)
        return [lane for lane in self._lanes.values() if lane.loaded]

    def _append(self, lane: _Lane, batch: Sequence[Record]) -> int:
        """Write the first part of `batch` into one segment; return how many."""
        newest = lane.open
        if newest is not None and (
            newest.size >= self._segment_bytes
            or batch[0].ordinal <= newest.last
            or newest is not lane.segments[-1]
        ):
            lane.seal()
            newest = None
        room = self._segment_bytes - (newest.size if newest else len(MAGIC))
        ceiling = min(
            (first for s in lane.segments if (first := _first_of(s)) > batch[0].ordinal),
            default=None,
        )
        parts: list[bytes] = []
        size = 0
        for record in batch:
            if ceiling is not None and record.ordinal >= ceiling:
                break
            data = frame(record)
            if parts and size + len(data) > room:
                break
            parts.append(data)
            size += len(data)
        taken = batch[: len(parts)]
        if not self._make_room(lane, size + len(MAGIC)):
            self.dropped.update(r.kind for r in taken)
            return len(taken)
        if lane.open is None:
            newest = self._create(lane, taken[0].ordinal)
        assert newest is not None
        _write_all(lane.fd, b"".join(parts), newest.size)
        newest.size += size
        newest.last = taken[-1].ordinal
        newest.kinds.update(r.kind for r in taken)
        return len(taken)

    def _create(self, lane: _Lane, ordinal: int) -> _Segment:
        name = "vital" if lane is self._lanes["vital"] else "other"
        segment = _Segment(self._directory / f"{name}-{ordinal:016x}.seg", len(MAGIC), ordinal)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        lane.fd = os.open(segment.path, flags, 0o600)
        try:
            _write_all(lane.fd, MAGIC, 0)
        except OSError:
            lane.seal()
            segment.path.unlink(missing_ok=True)
            raise
        lane.open = segment
        lane.segments = deque(sorted([*lane.segments, segment], key=lambda s: s.path.name))
        return segment

    def _make_room(self, wanting: _Lane, size: int) -> bool:
        """Throw segments away until `size` bytes fit; False: nothing may go."""
        if size > self._max_bytes:
            return False
        vital, other = self._lanes["vital"], self._lanes["other"]
        while self.bytes + size > self._max_bytes:
            for lane in (other, vital) if wanting is vital else (other,):
                victim = next((s for s in lane.segments if s is not lane.loaded_from), None)
                if victim is None and lane is other and lane.segments and not self._lent:
                    victim = lane.segments[0]
                if victim is not None:
                    break
            else:
                return False
            gone = victim is lane.loaded_from
            self.dropped.update((r.kind for r in lane.loaded) if gone else victim.kinds)
            lane.remove(victim)
        return True

    def _recover(self) -> None:
        for name, lane in self._lanes.items():
            for path in sorted(self._directory.glob(f"{name}-*.seg")):
                data = path.read_bytes()
                records, sound = parse_segment(data)
                if sound < len(data):
                    self.torn_bytes += len(data) - sound
                    os.truncate(path, sound)
                kept = [r for r in records if r.ordinal > self._delivered]
                if not kept:
                    path.unlink()
                    continue
                kinds = Counter(r.kind for r in kept)
                lane.segments.append(_Segment(path, sound, records[-1].ordinal, kinds))

    def _read_cursor(self) -> int:
        data = os.pread(self._cursor_fd, _CURSOR.size, 0)
        if len(data) < _CURSOR.size:
            return 0
        ordinal, crc = _CURSOR.unpack(data)
        return int(ordinal) if zlib.crc32(data[:8]) == crc else 0

    def _write_cursor(self) -> None:
        # In place: overwriting 12 bytes needs no space, so it works on a full disk.
        data = _CURSOR.pack(self._delivered, 0)[:8]
        os.pwrite(self._cursor_fd, data + struct.pack("<I", zlib.crc32(data)), 0)


def _first(records: deque[Record], count: int) -> Iterator[Record]:
    for index, record in enumerate(records):
        if index >= count:
            return
        yield record


def _first_of(segment: _Segment) -> int:
    return int(segment.path.stem.partition("-")[2], 16)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    """Write at `offset`, all or nothing."""
    done = 0
    try:
        while done < len(data):
            done += os.pwrite(fd, data[done:], offset + done)
    except OSError:
        os.ftruncate(fd, offset)
        raise


def _unusable(directory: Path, exc: OSError) -> FeedError:
    return FeedError(
        f"the spool {directory} cannot be used: {exc.strerror or exc}",
        code="feed.spool",
        hint="check feed.spool_dir: it must be a writable directory of the daemon's user",
    )
