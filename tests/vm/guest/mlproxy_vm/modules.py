"""Loading and unloading the kernel modules that the host built for this kernel."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path("/opt/mlproxy/modules")
MODULE = "mlproxy"
EXAMPLE = "mlproxy_example"


class ModuleError(Exception):
    """insmod or rmmod said no; the message is theirs."""


def is_loaded(name: str) -> bool:
    """Whether the kernel has a module of this name."""
    return Path("/sys/module", name).is_dir()


def insmod(name: str, *parameters: str) -> None:
    """Load a module; raises ModuleError with what insmod said."""
    _run("insmod", str(FOLDER / f"{name}.ko"), *parameters)


def rmmod(name: str) -> None:
    """Unload a module; raises ModuleError, for example when it is in use."""
    _run("rmmod", name)


@contextmanager
def loaded(name: str, *parameters: str) -> Iterator[None]:
    """The module is loaded inside and is unloaded at the end; that fails when it is in use."""
    insmod(name, *parameters)
    try:
        yield
    finally:
        if is_loaded(name):
            rmmod(name)


class ModuleFile:
    """A module to be loaded again and again, by the system calls themselves.

    Args:
        name: of the module.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._fd = os.open(FOLDER / f"{name}.ko", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """The module stays as it is."""
        os.close(self._fd)

    def load(self, parameters: str = "") -> None:
        """Load it; raises OSError."""
        _call(_FINIT_MODULE, self._fd, parameters.encode(), 0)

    def unload(self) -> bool:
        """Unload it; False when it is in use. Raises OSError for any other reason."""
        try:
            _call(_DELETE_MODULE, self.name.encode(), os.O_NONBLOCK)
        except OSError as e:
            if e.errno != errno.EWOULDBLOCK:
                raise
            return False
        return True


_FINIT_MODULE, _DELETE_MODULE = 313, 176  # x86-64
_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: int | bytes) -> None:
    if _libc.syscall(number, *arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ModuleError((done.stderr or done.stdout).strip())
