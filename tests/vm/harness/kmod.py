"""Builds the module for one kernel as strictly as the kernel's own checks allow."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from . import source
from .chroot import chroot
from .host import ROOT
from .kernels import Kernel

_INSIDE = "/build/kmod"
# Said of every module on a kernel whose headers come without vmlinux.
_HARMLESS = ("Skipping BTF generation",)
# What checkpatch says of a patch, not of a file.
_IGNORED = "FILE_PATH_CHANGES"
# Code for several kernels, which checkpatch does not know of, lives in one folder.
_COMPAT = re.compile(r"^kmod/compat/.*:(LINUX_VERSION_CODE|CONSTANT_COMPARISON):")


def build(kernel: Kernel, out: Path) -> tuple[Path, list[str]]:
    """Build `kmod/` for a kernel with W=1 and sparse.

    Returns:
        The folder with the modules, and what compiler, sparse and modpost complained about.

    Raises:
        HarnessError: when it does not build.
    """
    target = out / "kmod"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / "kmod", target, ignore=shutil.ignore_patterns("*.o", "*.ko", ".*"))
    text = chroot(
        kernel.tree,
        f"make -j2 -C {kernel.build} M={_INSIDE} W=1 C=2 modules",
        log=out / "build.log",
        what=f"building the module for {kernel.release}",
        binds={_INSIDE: target, **kernel.binds},
    )
    return target, complaints(text)


def complaints(text: str) -> list[str]:
    """Warnings and errors in what a kernel build printed.

    >>> complaints("  CC [M]  a.o\\na.c:3:1: warning: x\\nSkipping BTF generation for a.ko")
    ['a.c:3:1: warning: x']
    """
    return [
        line
        for line in text.splitlines()
        if re.search(r"\b(warning|error)\b", line, re.IGNORECASE)
        and not any(words in line for words in _HARMLESS)
    ]


def checkpatch(kernel: Kernel, out: Path) -> list[str]:
    """What the kernel's style checker says of `kmod/`, one complaint per line."""
    folder = source.checkpatch().parent
    files = sorted(p.relative_to(ROOT) for p in (ROOT / "kmod").rglob("*.[ch]"))
    text = chroot(
        kernel.tree,
        f"cd /tree && perl /checkpatch/checkpatch.pl --no-tree --terse --quiet --show-types "
        f"--no-summary --max-line-length=100 --ignore {_IGNORED} "
        f"-f {' '.join(map(str, files))} || true",
        log=out / "checkpatch.log",
        what="checkpatch",
        binds={"/checkpatch": folder, "/tree/kmod": ROOT / "kmod"},
    )
    return [line for line in text.splitlines() if not _COMPAT.match(line)]
