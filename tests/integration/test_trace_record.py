"""The recorder on real programs, and the check of every size afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlproxy.errors import TraceError
from mlproxy.trace.format import Op, Trace
from mlproxy.trace.record import LIBRARY, is_static, record

ENV = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}
PYTHON = os.path.realpath(sys.executable)

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="the recorder is not built")


def recorded(root: Path, *command: str, **options: object):
    return record(command, root=root, env=ENV, cwd=root, **options)  # type: ignore[arg-type]


def shell(root: Path, script: str):
    return recorded(root, "sh", "-e", "-c", script)


def python(root: Path, script: str):
    return recorded(root, PYTHON, "-S", "-c", "import os\n" + script)


def clean(recording) -> Trace:
    check = recording.check
    assert recording.exit_status == 0
    assert (check.differ, check.unseen, check.vanished) == ((), (), ())
    assert recording.lost == 0
    assert recording.processes >= 1
    return recording.trace


def of(trace: Trace, op: Op) -> list[tuple[int, int, int]]:
    keep = trace.op == op
    columns = (trace.file[keep], trace.offset[keep], trace.length[keep])
    return list(zip(*(c.tolist() for c in columns), strict=True))


def test_a_shell_script_with_copies_moves_and_removals(tmp_path: Path) -> None:
    trace = clean(
        shell(
            tmp_path,
            "seq 30000 > a; cp a b; mv b c; echo more >> a; mkdir d; mv a d; rm c;"
            " sort -r -o d/s d/a; truncate -s 100 d/s; split -l 9000 d/a d/part; gzip d/a;"
            " sed -i s/1/2/ d/partaa; mv d/partab d/partac",
        )
    )
    sizes = {p.name: p.stat().st_size for p in (tmp_path / "d").iterdir()}
    assert sizes["s"] == 100
    assert len(of(trace, Op.DELETE)) >= 2  # c and what gzip replaced
    assert len(of(trace, Op.REPLACE)) == 2  # sed -i, mv
    assert "part" not in trace.dirs
    assert set(trace.dirs) == {"", "d"}


@pytest.mark.skipif(not shutil.which("sqlite3"), reason="needs the sqlite3 program")
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_sqlite_is_seen_page_by_page(tmp_path: Path, mode: str) -> None:
    script = "\n".join(
        [f"pragma journal_mode={mode};", "create table t(a integer primary key, b);"]
        + [f"insert into t values({n}, randomblob(900));" for n in range(40)]
    )
    (tmp_path.parent / "load.sql").write_text(script)
    trace = clean(recorded(tmp_path, "sh", "-c", f"sqlite3 x.db < {tmp_path.parent}/load.sql"))
    database = trace.classes.index("x.db")
    file = int((trace.class_id == database).nonzero()[0][0])
    pages = [w for w in of(trace, Op.WRITE) if w[0] == file]
    assert len(pages) >= 5
    assert all(offset % 4096 == 0 and length == 4096 for _, offset, length in pages)
    assert of(trace, Op.SYNC)
    assert bool(of(trace, Op.MAP)) == (mode == "wal")  # the -shm file, and it is said


def test_every_way_to_write_is_seen(tmp_path: Path) -> None:
    trace = clean(
        python(
            tmp_path,
            """
fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o600)
os.write(fd, b"x" * 10)
os.pwrite(fd, b"y" * 20, 100)
os.writev(fd, [b"a" * 3, b"b" * 4])
os.pwritev(fd, [b"a" * 5, b"b" * 6], 200)
os.lseek(fd, 1000, 0)
src = os.open("src", os.O_RDWR | os.O_CREAT, 0o600)
os.write(src, b"s" * 5000)
os.sendfile(fd, src, 0, 5000)
os.copy_file_range(src, fd, 50, 0, 7000)
os.ftruncate(fd, 6500)
os.truncate("src", 10)
os.posix_fallocate(fd, 7000, 500)
os.fsync(fd)
os.fdatasync(src)
os.sync()
""",
        )
    )
    assert of(trace, Op.WRITE) == [
        (0, 0, 10), (0, 100, 20), (0, 10, 7), (0, 200, 11), (1, 0, 5000), (0, 1000, 5000),
        (0, 7000, 50),
    ]  # fmt: skip
    assert of(trace, Op.TRUNCATE) == [(0, 6500, 0), (1, 10, 0)]
    assert of(trace, Op.ALLOCATE) == [(0, 7000, 500)]
    assert [row[0] for row in of(trace, Op.SYNC)] == [0, 1]
    assert len(of(trace, Op.SYNC_ALL)) == 1


def test_names_decide_when_a_file_dies(tmp_path: Path) -> None:
    trace = clean(
        python(
            tmp_path,
            """
def make(name):
    with open(name, "wb") as f:
        f.write(b"x" * 100)
make("linked"); os.link("linked", "again"); os.unlink("linked")
make("gone"); os.unlink("gone")
make("new"); make("old"); os.rename("new", "old")
make("self"); os.link("self", "self2"); os.rename("self", "self2")
fd = os.open("nameless", os.O_RDWR | os.O_CREAT); os.unlink("nameless")
os.write(fd, b"y" * 50); os.close(fd)
with open("again", "ab") as f:
    f.write(b"z")
""",
        )
    )
    names = [trace.classes[c] for c in trace.class_id]
    dead = [names[f] for f, _, _ in of(trace, Op.DELETE)]
    assert dead == ["gone", "nameless", "nameless"]  # once by name, once by its last use
    (replaced,) = of(trace, Op.REPLACE)
    assert names[replaced[0]] == "old"
    assert names[replaced[1] - 1] == "new"


def test_children_and_threads_share_one_order(tmp_path: Path) -> None:
    recording = python(
        tmp_path,
        """
import threading
def work(n):
    with open(f"t{n}", "wb", 0) as f:
        for _ in range(200):
            f.write(b"x" * 10)
for n in range(3):
    if os.fork() == 0:
        threads = [threading.Thread(target=work, args=(10 * n + k,)) for k in range(3)]
        [t.start() for t in threads]; [t.join() for t in threads]
        os._exit(0)
for n in range(3):
    os.wait()
""",
    )
    trace = clean(recording)
    assert trace.nr_files == 9
    for file in range(9):
        offsets = [o for f, o, _ in of(trace, Op.WRITE) if f == file]
        assert offsets == list(range(0, 2000, 10))
    assert (trace.time[1:] >= trace.time[:-1]).all()


def test_what_was_there_before_has_its_size(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"x" * 9000)
    (tmp_path / "untouched").write_bytes(b"x" * 5)
    trace = clean(shell(tmp_path, "echo hi >> old"))
    assert of(trace, Op.CREATE) == [(0, 0, 9000)]
    assert of(trace, Op.WRITE) == [(0, 9000, 3)]


def test_files_elsewhere_are_not_recorded(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    trace = clean(shell(root, "echo a > ../outside; echo b > inside; mv ../outside ../moved"))
    assert trace.classes == ("inside",)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="has a system call by number")
def test_a_write_that_cannot_be_seen_shows_up_as_a_wrong_size(tmp_path: Path) -> None:
    """What goes past the library is at least told: a size that does not fit."""
    recording = python(
        tmp_path,
        """
import ctypes
libc = ctypes.CDLL(None)
with open("hidden", "wb") as f:
    # A raw system call goes past the recorder, as a statically linked child would.
    libc.syscall(1, f.fileno(), b"x" * 33, 33)
""",
    )
    assert recording.check.differ == (("hidden", 0, 33),)


def test_the_exit_status_is_the_commands(tmp_path: Path) -> None:
    assert shell(tmp_path, "exit 7").exit_status == 7
    assert shell(tmp_path, "kill -TERM $$").exit_status == 128 + 15


def test_a_killed_program_leaves_a_good_recording(tmp_path: Path) -> None:
    recording = shell(tmp_path, "seq 1000 > a; kill -KILL $$")
    assert recording.exit_status == 137
    assert recording.check.equal == 1


def test_a_command_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    for name in ("no-such-program-here", str(tmp_path)):
        with pytest.raises(TraceError) as caught:
            recorded(tmp_path, name)
        assert caught.value.code == "trace.command"
    with pytest.raises(TraceError) as caught:
        recorded(tmp_path, str(tmp_path / "text"))
    assert caught.value.code == "trace.command"


def test_a_root_that_is_no_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        record(["true"], root=tmp_path / "nowhere")
    assert caught.value.code == "trace.root"


def test_a_static_program_is_refused(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("needs a C compiler")
    (tmp_path / "p.c").write_text("int main(void) { return 0; }\n")
    for flags, static in ((["-static"], True), ([], False)):
        out = tmp_path / f"p{static}"
        made = subprocess.run(
            [compiler, *flags, "-o", out, tmp_path / "p.c"], check=False, capture_output=True
        )
        if made.returncode:
            pytest.skip("no static C library")
        assert is_static(out) is static
    with pytest.raises(TraceError, match="statically linked") as caught:
        recorded(tmp_path, str(tmp_path / "pTrue"))
    assert caught.value.code == "trace.static"


def test_the_environment_of_the_command_keeps_its_preload(tmp_path: Path) -> None:
    recording = record(
        ["sh", "-c", "echo $LD_PRELOAD > env"],
        root=tmp_path, cwd=tmp_path, env={**ENV, "LD_PRELOAD": str(LIBRARY)},
    )  # fmt: skip
    assert recording.exit_status == 0
    assert (tmp_path / "env").read_text().strip() == f"{LIBRARY}:{LIBRARY}"
