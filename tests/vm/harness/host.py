"""The machine that runs the harness: what it must have, where things are kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
OUT = ROOT / "out" / "vm"
# tool -> Debian package; `.ci/run` installs what `run.py --packages` prints
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "qemu-system-x86_64": "qemu-system-x86",
    "mke2fs": "e2fsprogs",
    "unshare": "util-linux",
    "tar": "tar",
    "xz": "xz-utils",
}


class HarnessError(Exception):
    """Something outside of the cases failed; the message says what and where to look."""


def missing() -> str | None:
    """Why this machine cannot run the VM tests, or None."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return f"they need Linux on x86_64, this is {sys.platform} on {os.uname().machine}"
    if os.geteuid() != 0:
        return "they need root, to make a Debian tree and chroot into it"
    if not shutil.which("apt-get", path=tool_path()):
        return "they need apt, to fetch Debian's kernels"
    if absent := packages():
        return f"missing Debian packages: {' '.join(absent)}"
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        return "they need to mount file systems, which this container must not"
    return None


def packages() -> list[str]:
    """The Debian packages that this machine lacks for the VM tests."""
    return [package for tool, package in TOOLS.items() if not shutil.which(tool, path=tool_path())]


def tool_path() -> str:
    """PATH with the system folders that a plain user's lacks."""
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def cache() -> Path:
    """Where trees and kernels are kept between runs: `MLPROXY_VM_CACHE`."""
    named = os.environ.get("MLPROXY_VM_CACHE")
    if named:
        return Path(named).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlproxy-vm"


def say(text: str) -> None:
    """One line for the person who waits."""
    print(text, flush=True)  # noqa: T201


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Say how long something took."""
    begin = time.monotonic()
    yield
    say(f"  {name}: {time.monotonic() - begin:.0f} s")


def key_of(*parts: str) -> str:
    """A short name that changes with what it is made of."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def once(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made by `make(empty folder)` when it is not there.

    It appears under its name only when it is complete, and two runs at the
    same time make it once. Older folders of the same kind (the name up to the
    last dash) stay until somebody removes them.

    Raises:
        HarnessError: from `make`; what it left is removed.
    """
    home = cache()
    home.mkdir(parents=True, exist_ok=True)
    folder = home / name
    if folder.is_dir():
        return folder
    with (home / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            staged = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=home))
            try:
                staged.chmod(0o755)
                with phase(f"making {name}"):
                    make(staged)
                staged.rename(folder)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
    return folder


def run(
    command: Sequence[str | Path],
    *,
    log: Path,
    what: str,
    env: dict[str, str] | None = None,
    ok: Sequence[int] = (0,),
) -> str:
    """Run a command with its output in `log`, and return that output.

    Raises:
        HarnessError: on a status that is not in `ok`, with the end of the output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    full = {**os.environ, "PATH": tool_path(), "LC_ALL": "C.UTF-8", **(env or {})}
    with log.open("wb") as out:
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=full,
            check=False,
        )
    text = log.read_text(encoding="utf-8", errors="replace")
    if done.returncode not in ok:
        tail = "\n".join(text.splitlines()[-25:])
        raise HarnessError(f"{what} failed with status {done.returncode}, see {log}:\n{tail}")
    return text
