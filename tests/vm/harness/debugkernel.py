"""A kernel with detectors: KASAN, lockdep, kmemleak, fault injection."""

from __future__ import annotations

import os
import re
from pathlib import Path

from . import source
from .chroot import chroot
from .host import HarnessError, key_of, once
from .trees import trixie

_CONFIG = Path(__file__).resolve().parents[1] / "debug.config"
INSIDE = "/build/debug"


def debug_kernel() -> Path:
    """Folder with `linux` (the build tree, for modules), `vmlinuz` and `lib/modules`.

    Raises:
        HarnessError: when an option of `debug.config` was dropped, or the build fails.
    """
    wanted = _CONFIG.read_text(encoding="utf-8")
    return once(f"debug-{key_of(wanted, source.PACKAGE)}", lambda f: _make(f, wanted))


def _make(folder: Path, wanted: str) -> None:
    linux = folder / "linux"
    linux.mkdir()
    source.unpack(linux)
    (folder / "wanted.config").write_text(wanted, encoding="utf-8")
    _configure(folder, linux, wanted)
    jobs = len(os.sched_getaffinity(0))
    chroot(
        trixie(),
        f"""
        cd {INSIDE}/linux
        nice -n 10 make -j{jobs} bzImage modules
        make -s INSTALL_MOD_PATH={INSIDE} INSTALL_MOD_STRIP=1 modules_install
        cp arch/x86/boot/bzImage {INSIDE}/vmlinuz
        # Modules are built against what is left: headers, scripts, symbols, vmlinux for BTF.
        find . -name '*.o' ! -path './scripts/*' ! -path './tools/*' -delete
        """,
        log=folder / "build.log",
        what="building the debug kernel",
        binds={INSIDE: folder},
    )
    for link in (folder / "lib/modules").glob("*/build"):
        link.unlink()


def _configure(folder: Path, linux: Path, wanted: str) -> None:
    chroot(
        trixie(),
        f"cd {INSIDE}/linux && make -s KCONFIG_ALLCONFIG=../wanted.config allnoconfig",
        log=folder / "config.log",
        what="configuring the debug kernel",
        binds={INSIDE: folder},
    )
    dropped = not_in(wanted, (linux / ".config").read_text(encoding="utf-8"))
    if dropped:
        raise HarnessError(f"debug.config: Kconfig dropped {' '.join(dropped)}")


def not_in(wanted: str, config: str) -> list[str]:
    """The options of `wanted` that a .config does not have as asked.

    >>> not_in("CONFIG_A=y\\nCONFIG_B=n", "CONFIG_A=m\\n# CONFIG_B is not set")
    ['CONFIG_A=y']
    """
    have = dict(re.findall(r"^(CONFIG_\w+)=(.*)$", config, re.MULTILINE))
    return [
        f"{name}={value}"
        for name, value in re.findall(r"^(CONFIG_\w+)=(.*)$", wanted, re.MULTILINE)
        if have.get(name, "n") != value
    ]
