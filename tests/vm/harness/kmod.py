"""Builds the module for one kernel as strictly as the kernel's own checks allow."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from . import source
from .chroot import chroot
from .host import ROOT, HarnessError
from .kernels import Kernel

_INSIDE = "/build/kmod"
_JOBS = len(os.sched_getaffinity(0))
# Said of every module on a kernel whose headers come without vmlinux.
_HARMLESS = ("Skipping BTF generation",)
# What checkpatch says of a patch, not of a file.
_IGNORED = "FILE_PATH_CHANGES"
# Code for several kernels, which checkpatch does not know of, lives in one folder.
_COMPAT = re.compile(r"^kmod/compat/.*:(LINUX_VERSION_CODE|CONSTANT_COMPARISON):")
# Debian's sparse is older than the keyword that the headers of 7.x use, and than their
# assertions on strings, which the compiler has checked by then. Where it is too old, a
# script of the kernel's turns it off: one that the package with the headers has not got.
_SPARSE = r"""
cat > /usr/local/bin/sparse-for-kernels <<'EOF'
#!/bin/sh
exec sparse -D__typeof_unqual__=__typeof__ '-D_Static_assert(...)=' "$@"
EOF
chmod 755 /usr/local/bin/sparse-for-kernels
for scripts in /usr/lib/linux-kbuild-*/scripts; do
	[ -e "$scripts/checker-valid.sh" ] && continue
	printf '#!/bin/sh\necho 1\n' > "$scripts/checker-valid.sh"
	chmod 755 "$scripts/checker-valid.sh"
done
"""


def build(kernel: Kernel, out: Path) -> tuple[Path, list[str]]:
    """Build `kmod/` for a kernel with W=1 and sparse.

    Returns:
        The folder with the modules, and what compiler, sparse and modpost complained about.

    Raises:
        HarnessError: when it does not build.
    """
    target = out / "kmod"
    shutil.rmtree(target, ignore_errors=True)
    _copy(target)
    text = chroot(
        kernel.tree,
        f"{_SPARSE}\nmake -j{_JOBS} -C {kernel.build} M={_INSIDE} W=1 C=2 "
        "CHECK=sparse-for-kernels modules",
        log=out / "build.log",
        what=f"building the module for {kernel.release}",
        binds={_INSIDE: target, **kernel.binds},
    )
    said = complaints(text)
    files = sum(1 for _ in target.rglob("*.c") if not _.name.endswith(".mod.c"))
    checked = len(set(re.findall(r"^\s*CHECK\s+(\S+)", text, re.MULTILINE)))
    if checked < files:
        said.append(f"sparse looked at {checked} of {files} files")
    return target, said


def _copy(target: Path) -> None:
    # bpf/ is no part of the module, and has a compiler of its own.
    ignore = shutil.ignore_patterns("*.o", "*.ko", ".*", "bpf")
    shutil.copytree(ROOT / "kmod", target, ignore=ignore)


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


def sizes(kernel: Kernel, modules: Path, out: Path) -> dict[str, float]:
    """Bytes of mlproxy.ko as `size` counts them: text with constants, data, zeroed data."""
    text = chroot(
        kernel.tree,
        f"size {_INSIDE}/mlproxy.ko",
        log=out / "size.log",
        what="size",
        binds={_INSIDE: modules},
    )
    numbers = text.splitlines()[-1].split()[:3]
    names = ("module_text_bytes", "module_data_bytes", "module_bss_bytes")
    return {name: float(number) for name, number in zip(names, numbers, strict=True)}


def dkms(kernel: Kernel, out: Path) -> list[str]:
    """Install the module with DKMS for a kernel that does not run; says what is wrong after it.

    DKMS finds the sources where a user would put them, and the kernel by its release alone.
    """
    target = out / "dkms"
    shutil.rmtree(target, ignore_errors=True)
    _copy(target)
    name = "mlproxy/$version"
    try:
        text = chroot(
            kernel.tree,
            f"""
            version=$(sed -n 's/^PACKAGE_VERSION="\\(.*\\)"/\\1/p' {_INSIDE}/dkms.conf)
            dkms add {_INSIDE}
            dkms build {name} -k {kernel.release}
            dkms install {name} -k {kernel.release}
            dkms status {name}
            echo "vermagic $(modinfo -k {kernel.release} -F vermagic mlproxy)"
            dkms remove {name} --all
            ! modinfo -k {kernel.release} mlproxy 2> /dev/null
            """,
            log=out / "dkms.log",
            what=f"DKMS for {kernel.release}",
            binds={_INSIDE: target, **kernel.binds},
        )
    except HarnessError as error:
        return str(error).splitlines()
    wanted = f"vermagic {kernel.release} "
    if any(line.startswith(wanted) for line in text.splitlines()):
        return []
    return [f"no line begins with {wanted!r}", *text.splitlines()]
