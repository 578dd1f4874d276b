"""Loading and unloading the kernel modules that the host built for this kernel."""

from __future__ import annotations

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


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ModuleError((done.stderr or done.stdout).strip())
