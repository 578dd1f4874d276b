"""One daemon per control socket: a lock file beside it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mlproxy.errors import ControlError

__all__ = ("instance_lock", "private_directory")


def private_directory(path: Path, *, what: str) -> None:
    """Make a directory (mode 0700) if it is missing, and see that it can be used.

    Raises:
        ControlError: `daemon.no_directory`.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ControlError(
            f"cannot make {what} {path}: {error.strerror}",
            code="daemon.no_directory",
            hint="set daemon.state_dir or daemon.socket to a place you may write",
            path=str(path),
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ControlError(
            f"cannot write into {what} {path}",
            code="daemon.no_directory",
            hint="set daemon.state_dir or daemon.socket to a place you may write",
            path=str(path),
        )


@contextlib.contextmanager
def instance_lock(socket_path: Path) -> Iterator[None]:
    """Hold the lock of a control socket; remove a stale socket.

    The lock ends with the process, however it ends. The file stays: removing it
    would let two daemons lock two files of one name.

    Raises:
        ControlError: `daemon.already_running`, with the other's pid.
    """
    private_directory(socket_path.parent, what="the socket's directory")
    lock_path = socket_path.with_name(socket_path.name + ".lock")
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(lock_path, flags, 0o600)
    except OSError as error:
        raise ControlError(
            f"cannot open {lock_path}: {error.strerror}",
            code="daemon.no_directory",
            hint="set daemon.socket to a place you may write",
            path=str(lock_path),
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise ControlError(
                f"a daemon (pid {pid}) has {socket_path} already",
                code="daemon.already_running",
                hint="stop it, or give this one another daemon.socket",
                pid=pid,
                path=str(socket_path),
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        with contextlib.suppress(FileNotFoundError):
            socket_path.unlink()
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
