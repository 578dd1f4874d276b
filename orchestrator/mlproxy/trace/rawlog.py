"""Turn the recorder's shared log into a trace, and check it against the real tree."""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlproxy.trace.format import Op, Trace

__all__ = ("HEADER", "Log", "SizeCheck", "convert", "name_class", "scan")

LOG_MAGIC = 0x4C504C4D
SLOT_MAGIC = 0x544F4C53
LOG_VERSION = 1
HEADER_BYTES = 4096
# magic, version, device, limit, start_ns, tail, allocated, lost, processes
HEADER = struct.Struct("<IIQQQQQQQ")
SLOT = np.dtype(
    [
        ("magic", "<u4"),
        ("op", "u1"),
        ("slots", "u1"),
        ("name_bytes", "<u2"),
        ("time", "<u8"),
        ("inode", "<u8"),
        ("offset", "<u8"),
        ("length", "<u8"),
        ("name", "V24"),
    ]
)
NAME_AT = 40
MOST_OFFSET = np.uint64(1 << 61)
MOST_LENGTH = np.uint64(1 << 44)

RAW_OPEN, RAW_WRITE, RAW_TRUNCATE, RAW_DELETE, RAW_REPLACE, RAW_SYNC = range(1, 7)
RAW_MAP, RAW_PUNCH, RAW_ALLOCATE, RAW_SYNC_ALL, RAW_UNKNOWN = range(7, 12)

_SIMPLE = {
    RAW_SYNC: Op.SYNC,
    RAW_MAP: Op.MAP,
    RAW_PUNCH: Op.PUNCH,
    RAW_UNKNOWN: Op.UNKNOWN,
}


_RANDOM = re.compile(r"(?<=[._-])[A-Za-z0-9]{6}(?![A-Za-z0-9])")
_PYTHON_RANDOM = re.compile(r"(?<![A-Za-z])tmp[a-z0-9_]{8}(?![a-z0-9_])")
_PYTHON_SUFFIXED = re.compile(r"[a-z0-9_]{8}(?=\.tmp$)")
_HEX = re.compile(r"(?<![0-9a-zA-Z])(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{6,}(?![a-zA-Z])")
_DIGITS = re.compile(r"\d+")


def _is_random(token: str, name: str) -> bool:
    kinds = (any(map(str.isupper, token)), any(map(str.islower, token)), not token.isalpha())
    return name.startswith("tmp") or sum(kinds) > 1


def name_class(name: str) -> str:
    """Pattern of a name: what differs between files of one kind is taken out.

    Hexadecimal strings of six and more become `%`, the random part of what mkstemp(3)
    and Python's tempfile make becomes `?`, other numbers become `#`.

    >>> name_class("1763901823.M12P7.host"), name_class("pack-0a1b2c3d4e5f.idx")
    ('#.M#P#.host', 'pack-%.idx')
    >>> name_class("000123.ldb"), name_class("f0e1d2c3b4a59687")
    ('#.ldb', '%')
    >>> name_class("tmp_obj_x1Yz9Q"), name_class("tmpk3v_9x0a.whl"), name_class("a.README")
    ('tmp_obj_?', 'tmp?.whl', 'a.README')
    """
    out = _RANDOM.sub(lambda m: "?" if _is_random(m[0], name) else m[0], name)
    out = _PYTHON_RANDOM.sub("tmp?", out)
    out = _PYTHON_SUFFIXED.sub("?", out)
    return _DIGITS.sub("#", _HEX.sub("%", out))


@dataclass(frozen=True)
class SizeCheck:
    """Sizes rebuilt from the log against the sizes on disk, at the end of a run.

    Attributes:
        equal: files with the very size that the log says.
        differ: files with another size, as (path, logged, real).
        unseen: files on disk, not there before, that were never seen (path, size).
        vanished: files that should be there by the log and are not.
    """

    equal: int
    differ: tuple[tuple[str, int, int], ...] = ()
    unseen: tuple[tuple[str, int], ...] = ()
    vanished: tuple[str, ...] = ()

    def to_json(self, most: int = 20) -> dict[str, Any]:
        """Counts, and the first few names of each kind."""
        return {
            "equal": self.equal,
            "differ": len(self.differ),
            "unseen": len(self.unseen),
            "unseen_bytes": sum(size for _, size in self.unseen),
            "vanished": len(self.vanished),
            "differ_first": [list(row) for row in self.differ[:most]],
            "unseen_first": [list(row) for row in self.unseen[:most]],
            "vanished_first": list(self.vanished[:most]),
        }


@dataclass(frozen=True)
class Log:
    """The raw log's header fields and its records in order."""

    start_ns: int
    lost: int
    processes: int
    records: NDArray[np.void]
    names: dict[int, str] = field(default_factory=dict)


def scan(path: Path) -> Log:
    """Read the log; a record that a killed process left unfinished is skipped."""
    with path.open("rb") as log:
        head = HEADER.unpack(log.read(HEADER.size))
        start_ns, tail, lost, processes = head[4], min(head[5], head[3]), head[7], head[8]
        log.seek(HEADER_BYTES)
        data = log.read(max(tail - HEADER_BYTES, 0) // 64 * 64)
    slots = np.frombuffer(data, SLOT)
    valid = slots["magic"] == SLOT_MAGIC
    names: dict[int, str] = {}
    # A long name goes on in the next slots, whose bytes must not pass for records.
    upto = 0
    for at in np.flatnonzero(valid & (slots["name_bytes"] > 0)).tolist():
        if at < upto:
            continue
        slot = slots[at]
        upto = at + int(slot["slots"])
        valid[at + 1 : upto] = False
        begin = at * 64 + NAME_AT
        names[at] = os.fsdecode(data[begin : begin + int(slot["name_bytes"])])
    rows = np.flatnonzero(valid)
    index = {at: row for row, at in enumerate(rows.tolist()) if at in names} if names else {}
    return Log(
        start_ns=start_ns,
        lost=lost,
        processes=processes,
        records=slots[rows],
        names={index[at]: name for at, name in names.items()},
    )


def snapshot(root: Path) -> dict[int, tuple[str, int]]:
    """Regular files below root on root's own file system: inode -> (path, size)."""
    device = root.stat().st_dev
    found: dict[int, tuple[str, int]] = {}
    for folder, subs, files in os.walk(root):
        for name in files:
            path = Path(folder) / name
            try:
                st = path.lstat()
            except FileNotFoundError:
                continue
            if st.st_dev == device and (st.st_mode & 0o170000) == 0o100000:
                found[st.st_ino] = (str(path), st.st_size)
        subs.sort()
    return found


class _Builder:
    """Walks the raw records once and collects the columns of a trace."""

    def __init__(self, root: Path, before: dict[int, tuple[str, int]]) -> None:
        self.root = str(root)
        self.before = before
        self.op: list[int] = []
        self.file: list[int] = []
        self.offset: list[int] = []
        self.length: list[int] = []
        self.time: list[int] = []
        self.dir_id: list[int] = []
        self.class_id: list[int] = []
        self.dirs: dict[str, int] = {}
        self.classes: dict[str, int] = {}
        self.by_inode: dict[int, int] = {}
        self.dead: set[int] = set()  # inodes
        self.size: list[int] = []
        self.paths: list[str] = []

    def emit(self, op: int, file: int, offset: int, length: int, time: int) -> None:
        self.op.append(op)
        self.file.append(file)
        self.offset.append(offset)
        self.length.append(length)
        self.time.append(time)

    def create(self, inode: int, path: str, size: int, time: int) -> int:
        folder, _, name = path[len(self.root) + 1 :].rpartition("/")
        file = len(self.dir_id)
        # Every directory has an id of its own; only what is stored of its name is a pattern.
        self.dir_id.append(self.dirs.setdefault(folder, len(self.dirs)))
        self.class_id.append(self.classes.setdefault(name_class(name), len(self.classes)))
        self.by_inode[inode] = file
        self.dead.discard(inode)
        self.size.append(size)
        self.paths.append(path)
        self.emit(Op.CREATE, file, 0, size, time)
        return file

    def known(self, inode: int, time: int) -> int | None:
        file = self.by_inode.get(inode)
        if file is None and inode in self.before:
            path, size = self.before[inode]
            return self.create(inode, path, size, time)
        return file


def convert(
    log: Log, root: Path, before: dict[int, tuple[str, int]], **header: Any
) -> tuple[Trace, SizeCheck]:
    """Make a trace of a raw log, and compare the sizes it implies with the tree now.

    Args:
        log: the records.
        root: only files below this directory are kept.
        before: `snapshot` of the tree before the run.
        header: `tenant`, `time_unit_us`, `meta` of the trace.
    """
    build = _Builder(root, before)
    inside = str(root).rstrip("/") + "/"
    size, emit = build.size, build.emit
    records = log.records
    ops, inodes = records["op"].tolist(), records["inode"].tolist()
    # A range may be "to the end of everything"; the format wants numbers that add up.
    offsets = np.minimum(records["offset"], MOST_OFFSET).tolist()
    lengths = np.minimum(records["length"], MOST_LENGTH).tolist()
    times = ((records["time"].astype(np.int64) - log.start_ns) // 1000).clip(0).tolist()
    for row, (op, inode, offset, length, time) in enumerate(
        zip(ops, inodes, offsets, lengths, times, strict=True)
    ):
        if op == RAW_SYNC_ALL:
            emit(Op.SYNC_ALL, 0, 0, 0, time)
            continue
        file = build.known(inode, time)
        if op == RAW_OPEN:
            path = log.names.get(row, "")
            fresh = file is None or (inode in build.dead and length > 0)
            if fresh and path.startswith(inside):
                build.create(inode, path, offset, time)
            continue
        if file is None:
            continue
        if op == RAW_WRITE:
            size[file] = max(size[file], offset + length)
            emit(Op.WRITE, file, offset, length, time)
        elif op == RAW_TRUNCATE:
            if size[file] != offset:
                size[file] = offset
                emit(Op.TRUNCATE, file, offset, 0, time)
        elif op in (RAW_DELETE, RAW_REPLACE):
            if op == RAW_REPLACE:
                heir = build.known(offset, time)
                emit(Op.REPLACE, file, 0 if heir is None else heir + 1, 0, time)
            else:
                emit(Op.DELETE, file, 0, 0, time)
            size[file] = 0
            build.dead.add(inode)
        elif op == RAW_ALLOCATE:
            size[file] = max(size[file], offset + length)
            emit(Op.ALLOCATE, file, offset, length, time)
        else:
            emit(_SIMPLE[op], file, offset, length, time)
    check = _check(build, before)
    trace = Trace(
        op=np.array(build.op, np.uint8),
        file=np.array(build.file, np.uint32),
        offset=np.array(build.offset, np.int64),
        length=np.array(build.length, np.int64),
        time=np.maximum.accumulate(np.array(build.time, np.int64))
        if build.time
        else np.empty(0, np.int64),
        dir_id=np.array(build.dir_id, np.uint32),
        class_id=np.array(build.class_id, np.uint32),
        dirs=tuple("/".join(map(name_class, d.split("/"))) for d in build.dirs),
        classes=tuple(build.classes),
        **header,
    )
    return trace, check


def _check(build: _Builder, before: dict[int, tuple[str, int]]) -> SizeCheck:
    equal = 0
    differ, unseen, vanished = [], [], []
    after = snapshot(Path(build.root))
    for inode, (path, real) in sorted(after.items(), key=lambda item: item[1]):
        file = build.by_inode.get(inode)
        relative = path[len(build.root) + 1 :]
        if file is None or inode in build.dead:
            if before.get(inode, ("", -1))[1] != real:
                unseen.append((relative, real))
        elif build.size[file] == real:
            equal += 1
        else:
            differ.append((relative, build.size[file], real))
    vanished = [
        build.paths[file][len(build.root) + 1 :]
        for inode, file in build.by_inode.items()
        if inode not in after and inode not in build.dead
    ]
    return SizeCheck(equal, tuple(differ), tuple(unseen), tuple(sorted(vanished)))
