"""The harness on its own machine: tools that lack, the cache, a guest's port, its initramfs."""

import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import host, initramfs, kmod, qemu
from harness.host import HarnessError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPROXY_VM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_root_there_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(host.sys, "platform", "linux")
    monkeypatch.setattr(host.os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    monkeypatch.setattr(host.os, "geteuid", lambda: 1000)
    assert host.missing() == "they need root, to make a Debian tree and chroot into it"


def test_missing_tools_are_named_as_packages(monkeypatch):
    monkeypatch.setattr(host.os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    monkeypatch.setattr(host.os, "geteuid", lambda: 0)
    there = {"apt-get", "mke2fs", "unshare", "tar", "xz"}
    monkeypatch.setattr(host.shutil, "which", lambda tool, path: tool if tool in there else None)
    assert host.packages() == ["mmdebstrap", "qemu-system-x86"]
    assert host.missing() == "missing Debian packages: mmdebstrap qemu-system-x86"


def test_a_folder_of_the_cache_appears_when_it_is_complete(cache):
    def make(folder: Path) -> None:
        assert not (cache / "thing-1").exists()
        (folder / "file").write_text("x")

    assert (host.once("thing-1", make) / "file").read_text() == "x"
    assert host.once("thing-1", lambda _: pytest.fail("made again")) == cache / "thing-1"


def test_what_fails_leaves_nothing(cache):
    def make(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise HarnessError("no network")

    with pytest.raises(HarnessError, match="no network"):
        host.once("thing-1", make)
    assert [p.name for p in cache.iterdir()] == [".thing-1.lock"]


def test_two_at_the_same_time_make_it_once(cache):
    made = []
    both = threading.Barrier(2)

    def want() -> None:
        both.wait()
        host.once("thing-1", made.append)

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_command_that_fails_says_where_to_look(tmp_path):
    with pytest.raises(HarnessError, match=r"trying failed with status 3, see .*log:\nwhy"):
        host.run(["sh", "-c", "echo why; exit 3"], log=tmp_path / "log", what="trying")


def guest(tmp_path, text: bytes, status: int | None = 0) -> qemu.Guest:
    one = qemu.Guest(qemu.Machine(Path("k"), Path("i"), ()), tmp_path)
    (tmp_path / "results.jsonl").write_bytes(text)
    (tmp_path / "qemu.log").write_text("what QEMU said")
    one._process = SimpleNamespace(poll=lambda: status, returncode=status)
    return one


def test_events_come_line_by_line_and_half_a_line_is_none(tmp_path):
    text = json.dumps({"event": "boot"}) + "\n" + '{"event": "beg'
    assert list(guest(tmp_path, text.encode()).events([1.0])) == [{"event": "boot"}]


def test_a_silent_guest_is_given_up(tmp_path):
    with pytest.raises(HarnessError, match="the guest said nothing"):
        list(guest(tmp_path, b"", status=None).events([0.0]))


def test_a_qemu_that_cannot_start_says_why(tmp_path):
    with pytest.raises(HarnessError, match="status 1: what QEMU said"):
        list(guest(tmp_path, b"", status=1).events([1.0]))


def test_the_console_is_shown_from_the_first_sign_of_a_crash(tmp_path):
    one = guest(tmp_path, b"")
    lines = [f"line {n}" for n in range(100)]
    one.console.write_text("\n".join([*lines, "Kernel panic - not syncing", *lines]))
    assert one.console_tail(3).splitlines() == ["Kernel panic - not syncing", "line 0", "line 1"]


def test_the_archive_is_what_cpio_calls_newc():
    data = initramfs.newc({"bin": None, "bin/x": b"12345"}, ("bin/x",))
    assert len(data) % 4 == 0
    entries = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        mode, size, length = (int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in (1, 6, 11))
        name = data[at + 110 : at + 110 + length - 1].decode()
        body = at + 110 + length
        body += -body % 4
        if name == "TRAILER!!!":
            break
        entries[name] = (mode, data[body : body + size])
        at = body + size
        at += -at % 4
    assert entries == {"bin": (0o040755, b""), "bin/x": (0o100755, b"12345")}


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("module/a.c:3:9: warning: unused", True),
        ("WARNING: modpost: missing MODULE_LICENSE() in mlproxy.o", True),
        ("make[1]: *** [a.o] Error 1", True),
        ("Skipping BTF generation for a.ko due to unavailability of vmlinux", False),
        ("  CC [M]  core/outcome.o", False),
    ],
)
def test_what_counts_as_a_complaint_of_a_build(line, is_one):
    assert kmod.complaints(line) == ([line] if is_one else [])
