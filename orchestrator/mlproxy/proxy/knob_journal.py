"""What a process must put back when it dies: a file per proxy, for the next start.

The file is made whole before the first knob is written (0600, in a directory of
0700, fsync, rename) and removed when the knobs have been given back. In between
one page of it says what is in force; it is overwritten in place, without fsync:
a knob lives as long as the running kernel, and so does what was written to the
page cache. A journal of another boot has nothing to restore.

The owner holds a lock on the file, which ends with the process however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from mlproxy.errors import ProxyError

__all__ = ("SUFFIX", "Entry", "Journal", "JournalData", "boot_id", "journal_path", "opened")

SUFFIX: Final = ".json"
PAGE: Final = 4096
"""The kernel writes a page to the page cache at once or not at all."""


class Entry(msgspec.Struct):
    """One knob.

    Attributes:
        path: its file.
        trigger: as in `Knob`.
        restore: what puts the default back.
        usual: what the knob reads as in the default's time, with any newline; None: unreadable.
        seen: what it read as after the last write.
        writing: what is being written to it just now, or could not be put back; else None.
    """

    path: str
    trigger: str
    restore: str
    usual: str | None
    seen: str | None
    writing: str | None = None


class _Fixed(msgspec.Struct):
    """One knob, the part that never changes."""

    path: str
    trigger: str


class _Header(msgspec.Struct, tag="mlproxy-knobs-1", tag_field="schema"):
    """The first line."""

    proxy: str
    boot: str
    pid: int
    knobs: list[_Fixed]


class _Values(msgspec.Struct):
    """One knob, the part that changes; see `Entry`."""

    restore: str
    usual: str | None
    seen: str | None
    writing: str | None


class _State(msgspec.Struct):
    """The page that is overwritten."""

    applied: bool
    overridden: bool
    knobs: list[_Values]


@dataclass(frozen=True, slots=True)
class JournalData:
    """What a journal says.

    Attributes:
        proxy: whose knobs.
        boot: of which boot of the kernel.
        applied: whether a model's setting may be in force.
        overridden: whether somebody else had taken over a knob.
        entries: the knobs, in the proxy's order.
    """

    proxy: str
    boot: str
    applied: bool
    overridden: bool
    entries: tuple[Entry, ...]


def boot_id() -> str:
    """Return what tells this boot of the kernel from others; "" when it cannot be told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def journal_path(directory: str | Path, proxy: str) -> Path:
    """Return where a proxy's journal is."""
    if not proxy or "/" in proxy or proxy.startswith("."):
        raise ProxyError(
            f"{proxy!r} cannot name a file", code="proxy.config", hint="no /", field="name"
        )
    return Path(directory) / (proxy + SUFFIX)


class Journal:
    """The journal of a living proxy.

    Args:
        directory: of all journals; made with mode 0700.
        proxy: name of the proxy.
        entries: its knobs, as they are now.

    Raises:
        ProxyError: `proxy.exists` when a living process has that proxy's journal,
            `knob.journal` when it cannot be made, or an earlier one is still there.
    """

    def __init__(self, directory: str | Path, proxy: str, entries: Sequence[Entry]) -> None:
        self._path = journal_path(directory, proxy)
        self._fd = -1
        fixed = [_Fixed(e.path, e.trigger) for e in entries]
        head = msgspec.json.encode(_Header(proxy, boot_id(), os.getpid(), fixed)) + b"\n"
        self._offset = -(-len(head) // PAGE) * PAGE
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                new.unlink()
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(new, flags, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(self._fd, head.ljust(self._offset), 0)
            self.note(entries, applied=False, overridden=False)
            os.fsync(self._fd)
            # Not rename(): an earlier journal is not to be lost.
            os.link(new, self._path)
            new.unlink()
            _sync_directory(self._path.parent)
        except FileExistsError as error:
            self._give_up(new)
            raise ProxyError(
                f"{proxy}: there is a journal of that name already: {self._path}",
                code="knob.journal",
                hint="a daemon that still runs has it, or what it names could not be put back",
                path=str(self._path),
            ) from error
        except OSError as error:
            self._give_up(new)
            raise self._failure(proxy, error) from error

    def _give_up(self, new: Path) -> None:
        with contextlib.suppress(OSError):
            new.unlink()
        if self._fd >= 0:
            os.close(self._fd)

    def _failure(self, proxy: str, error: OSError) -> ProxyError:
        return ProxyError(
            f"{proxy}: the journal {self._path} cannot be written: {error.strerror}",
            code="knob.journal",
            hint="without it nothing would put the knobs back after a crash;"
            " see daemon.state_dir, or load the kernel module",
            path=str(self._path),
        )

    def note(self, entries: Sequence[Entry], *, applied: bool, overridden: bool) -> None:
        """Say what is in force, or about to be.

        Raises:
            OSError: it could not be written; then nothing may be written to a knob either.
        """
        values = [_Values(e.restore, e.usual, e.seen, e.writing) for e in entries]
        page = msgspec.json.encode(_State(applied, overridden, values)) + b"\n"
        if len(page) > PAGE:
            raise OSError(0, "the knobs' values take more than a page")
        os.pwrite(self._fd, page.ljust(PAGE), self._offset)

    def close(self, *, keep: bool) -> None:
        """Let it go.

        Args:
            keep: leave the file for the next start: not all could be put back.
        """
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if not keep:
            with contextlib.suppress(OSError):
                self._path.unlink()
        os.close(fd)

    def forget(self) -> None:
        """In a forked child: it is the parent's."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[JournalData | None]:
    """A dead owner's journal, locked; None while its owner lives.

    Raises:
        ValueError: it is damaged, or could be somebody else's.
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        # It says what to write where: nobody else may have had a hand in it.
        for found in (os.fstat(fd), path.parent.stat()):
            if found.st_uid != os.geteuid() or found.st_mode & 0o022:
                raise ValueError("others than this user can write it")
        yield _decoded(os.pread(fd, 1 << 20, 0))
    finally:
        os.close(fd)


def _decoded(data: bytes) -> JournalData:
    head, _, _ = data.partition(b"\n")
    offset = -(-(len(head) + 1) // PAGE) * PAGE
    try:
        header = msgspec.json.decode(head, type=_Header)
        state = msgspec.json.decode(data[offset : offset + PAGE], type=_State)
        entries = tuple(
            Entry(fixed.path, fixed.trigger, now.restore, now.usual, now.seen, now.writing)
            for fixed, now in zip(header.knobs, state.knobs, strict=True)
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueError(f"it is damaged: {error}") from error
    return JournalData(header.proxy, header.boot, state.applied, state.overridden, entries)
