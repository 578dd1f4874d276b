"""The machine, as the doctor looks at it: files, this process's rights."""

from __future__ import annotations

import os
import platform
import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ("CAPABILITIES", "Host")

CAPABILITIES: Final = {"CAP_IPC_LOCK": 14, "CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24}
CAP_BPF: Final = 39


@dataclass(frozen=True, slots=True)
class Host:
    """Where to look.

    Attributes:
        root: in place of / (tests).
        release: of the running kernel.
        device: the module's device, not below `root`.
        path: where programs are looked for.
    """

    root: Path = Path("/")
    release: str = field(default_factory=platform.release)
    device: str = "/dev/mlproxy"
    path: str = field(default_factory=lambda: os.environ.get("PATH", os.defpath))

    def at(self, path: str) -> Path:
        """A path of the machine."""
        return self.root / path.lstrip("/")

    def text(self, path: str) -> str | None:
        """What a file says, or None."""
        try:
            return self.at(path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def writable(self, path: str) -> bool:
        """Whether this process may write a file."""
        return os.access(self.at(path), os.W_OK)

    @property
    def version(self) -> tuple[int, int]:
        """Of the kernel, as in (6, 12); (0, 0) when it cannot be told."""
        parts = self.release.split(".")
        try:
            return int(parts[0]), int(parts[1].split("-")[0])
        except (IndexError, ValueError):
            return 0, 0

    def capabilities(self) -> int:
        """The effective capabilities of this process, a bit each."""
        for line in (self.text("/proc/self/status") or "").splitlines():
            name, _, value = line.partition(":")
            if name == "CapEff":
                return int(value, 16)
        return 0

    def has(self, capability: int) -> bool:
        """Whether this process has a capability."""
        return bool(self.capabilities() >> capability & 1)

    def file_system(self, name: str) -> str:
        """`yes` when the kernel knows a file system, `module` when it can load it, else ""."""
        known = (self.text("/proc/filesystems") or "").split()
        if name in known:
            return "yes"
        folder = self.at(f"/lib/modules/{self.release}")
        listed = [self.text(f"/lib/modules/{self.release}/{f}") for f in _INDEXES]
        if not folder.is_dir():
            return ""
        return "module" if any(f"/{name}.ko" in text for text in listed if text) else ""

    def mounted(self, kind: str) -> list[tuple[str, str]]:
        """Device and place of each mounted file system of a kind."""
        rows = [line.split() for line in (self.text("/proc/mounts") or "").splitlines()]
        return [(row[0], row[1]) for row in rows if len(row) > 2 and row[2] == kind]

    def program(self, name: str) -> str:
        """The path of a program, or ""."""
        folders = [*self.path.split(os.pathsep), "/usr/sbin", "/sbin"]
        for folder in folders:
            if os.access(self.at(f"{folder}/{name}"), os.X_OK):
                return f"{folder}/{name}"
        return ""

    def library(self, name: str) -> str:
        """The path of a shared library, or ""."""
        for folder in ("/usr/lib", "/lib", "/usr/local/lib", "/usr/lib64"):
            for pattern in (f"{name}.so*", f"*-linux-gnu*/{name}.so*"):
                for found in sorted(self.at(folder).glob(pattern)):
                    return "/" + str(found.relative_to(self.root))
        return ""

    @staticmethod
    def memlock() -> int:
        """Bytes that this process may lock in memory; -1: no limit."""
        return resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]


_INDEXES: Final = ("modules.dep", "modules.builtin")
