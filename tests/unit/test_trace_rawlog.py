"""What is made of the shared log, also of one that a killed program left behind."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from mlproxy.trace import rawlog
from mlproxy.trace.format import Op, Trace
from mlproxy.trace.rawlog import SizeCheck, convert, name_class, scan

OPEN, WRITE, DELETE, REPLACE = (
    rawlog.RAW_OPEN,
    rawlog.RAW_WRITE,
    rawlog.RAW_DELETE,
    rawlog.RAW_REPLACE,
)


def slot(op: int, inode: int, offset: int = 0, length: int = 0, name: bytes = b"") -> bytes:
    body = struct.pack("<QQQQ", 5_000_000, inode, offset, length) + name
    size = -(-(8 + len(body)) // 64)
    head = struct.pack("<IBBH", rawlog.SLOT_MAGIC, op, max(size, 1), len(name))
    return (head + body).ljust(64 * max(size, 1), b"\0")


def a_log(tmp_path: Path, *slots: bytes, limit: int = 1 << 20, lost: int = 0) -> Path:
    body = b"".join(slots)
    tail = rawlog.HEADER_BYTES + len(body)
    head = rawlog.HEADER.pack(
        rawlog.LOG_MAGIC, rawlog.LOG_VERSION, 1, limit, 1_000_000, tail, tail, lost, 2
    )
    path = tmp_path / "log"
    path.write_bytes(head.ljust(rawlog.HEADER_BYTES, b"\0") + body)
    return path


def converted(tmp_path: Path, *slots: bytes) -> tuple[Trace, SizeCheck]:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    named = [s.replace(b"ROOT", str(root).encode()) for s in slots]
    return convert(scan(a_log(tmp_path, *named)), root, {})


def opened(tmp_path: Path, inode: int, name: str, size: int = 0, links: int = 1) -> bytes:
    return slot(OPEN, inode, size, links, f"{tmp_path}/root/{name}".encode())


def test_records_keep_their_order_and_time(tmp_path: Path) -> None:
    trace, _ = converted(
        tmp_path, opened(tmp_path, 7, "a"), slot(WRITE, 7, 0, 10), slot(WRITE, 7, 10, 5)
    )
    assert trace.op.tolist() == [Op.CREATE, Op.WRITE, Op.WRITE]
    assert trace.offset.tolist() == [0, 0, 10]
    assert trace.time.tolist() == [4000] * 3


def test_a_long_name_does_not_pass_for_records(tmp_path: Path) -> None:
    trap = struct.pack("<IBBH", rawlog.SLOT_MAGIC, WRITE, 1, 0).replace(b"\0", b"\1")
    name = f"{tmp_path}/root/".encode() + b"n" * 300 + trap * 40
    log = scan(a_log(tmp_path, slot(OPEN, 7, 0, 1, name), slot(WRITE, 7, 0, 9)))
    assert log.records["op"].tolist() == [OPEN, WRITE]
    assert log.names == {0: name.decode("utf-8", "surrogateescape")}


def test_a_hole_of_a_killed_program_is_skipped(tmp_path: Path) -> None:
    trace, _ = converted(
        tmp_path, opened(tmp_path, 7, "a"), bytes(128), slot(WRITE, 7, 0, 9), bytes(64)
    )
    assert trace.op.tolist() == [Op.CREATE, Op.WRITE]


def test_a_tail_beyond_the_limit_is_the_end(tmp_path: Path) -> None:
    path = a_log(tmp_path, slot(WRITE, 7, 0, 9), slot(WRITE, 7, 0, 9), limit=4096 + 64, lost=1)
    log = scan(path)
    assert (len(log.records), log.lost, log.processes) == (1, 1, 2)


def test_an_inode_that_is_used_again_is_a_new_file(tmp_path: Path) -> None:
    trace, _ = converted(
        tmp_path,
        opened(tmp_path, 7, "a1"),
        slot(WRITE, 7, 0, 9),
        slot(DELETE, 7),
        opened(tmp_path, 7, "b2"),
        slot(WRITE, 7, 0, 3),
    )
    assert trace.file.tolist() == [0, 0, 0, 1, 1]
    assert trace.classes == ("a#", "b#")


def test_a_rename_over_names_the_heir(tmp_path: Path) -> None:
    trace, _ = converted(
        tmp_path,
        opened(tmp_path, 7, "old"),
        opened(tmp_path, 8, "new"),
        slot(REPLACE, 7, 8),
        opened(tmp_path, 9, "x"),
        slot(REPLACE, 8, 4711),
    )
    replaced = trace.op == Op.REPLACE
    assert trace.file[replaced].tolist() == [0, 1]
    assert trace.offset[replaced].tolist() == [2, 0]


def test_files_never_opened_below_the_root_are_left_out(tmp_path: Path) -> None:
    trace, check = converted(
        tmp_path,
        slot(WRITE, 99, 0, 9),
        slot(OPEN, 5, 0, 1, b"/elsewhere/f"),
        slot(WRITE, 5, 0, 9),
        slot(OPEN, 6, 0, 1, f"{tmp_path}/root2/f".encode()),
    )
    assert (trace.nr_events, trace.nr_files) == (0, 0)
    assert check == SizeCheck(0)


def test_directories_with_one_pattern_stay_apart(tmp_path: Path) -> None:
    trace, _ = converted(
        tmp_path, opened(tmp_path, 1, "d1/x"), opened(tmp_path, 2, "d2/x"), opened(tmp_path, 3, "x")
    )
    assert trace.dir_id.tolist() == [0, 1, 2]
    assert trace.dirs == ("d#", "d#", "")
    assert trace.class_id.tolist() == [0, 0, 0]


def test_endless_ranges_are_cut_to_what_the_format_holds(tmp_path: Path) -> None:
    trace, _ = converted(
        tmp_path,
        opened(tmp_path, 7, "a"),
        slot(rawlog.RAW_PUNCH, 7, (1 << 63) - 1, (1 << 63) - 1),
    )
    assert trace.offset[1] == 1 << 61
    assert trace.length[1] == 1 << 44


def test_sizes_are_compared_with_the_tree(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name, size in (("same", 10), ("other", 10), ("hidden", 3)):
        (root / name).write_bytes(b"x" * size)
    same, other = (root / "same").stat().st_ino, (root / "other").stat().st_ino
    _, check = converted(
        tmp_path,
        opened(tmp_path, same, "same"),
        slot(WRITE, same, 0, 10),
        opened(tmp_path, other, "other"),
        slot(WRITE, other, 0, 4),
        opened(tmp_path, 1 << 40, "lost"),
    )
    assert check == SizeCheck(1, (("other", 4, 10),), (("hidden", 3),), ("lost",))


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("000123.sst", "#.sst"),
        ("pack-0a1b2c3d4e5f6a7b.pack", "pack-%.pack"),
        ("1763901823.M12P7.host", "#.M#P#.host"),
        ("bank.db-wal", "bank.db-wal"),
        ("faced.c", "faced.c"),
        ("tmp_obj_abcdef", "tmp_obj_?"),
        ("tmp_obj_0a1b2c", "tmp_obj_?"),
        ("tmp_obj_123456", "tmp_obj_?"),
        ("INSTALLERco5v1_vs.tmp", "INSTALLER?.tmp"),
        ("sedXy12Qz", "sedXy#Qz"),
        (".lock.Xy12Qz", ".lock.?"),
        ("index.lock", "index.lock"),
        ("file.backup", "file.backup"),
        ("20261123.log", "#.log"),
        ("x.123456", "x.#"),
        ("test_common.py", "test_common.py"),
        ("template_engine.py", "template_engine.py"),
        ("user07", "user#"),
        ("9f", "#f"),
        ("", ""),
    ],
)
def test_patterns_of_names(name: str, pattern: str) -> None:
    assert name_class(name) == pattern
