"""Builds BPF programs: the walker, and those of the cases, most of which must be refused."""

from __future__ import annotations

import shutil
from pathlib import Path

from .chroot import chroot
from .host import ROOT
from .trees import trixie

_CASES = ROOT / "tests/vm/bpf"


def build(out: Path) -> Path:
    """Compile them, for any kernel, into a folder.

    Raises:
        HarnessError: when one does not compile.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    names = " ".join(sorted(p.name.removesuffix(".bpf.c") for p in _CASES.glob("*.bpf.c")))
    chroot(
        trixie(),
        f"cd /kmod/bpf && make O=/made && make O=/made SOURCES=/cases PROGRAMS='{names}'",
        log=out.with_suffix(".log"),
        what="compiling the BPF programs",
        binds={"/kmod": ROOT / "kmod", "/cases": _CASES, "/made": out},
    )
    return out
