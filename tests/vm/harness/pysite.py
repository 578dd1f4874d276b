"""The Python packages of the guest, for the guest's Python."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from .chroot import chroot
from .host import ROOT, key_of, once, run
from .trees import trixie

INSIDE = "/opt/mlproxy/site"
BENCH_INSIDE = "/opt/mlproxy/bench"
VERSION = "3.13"  # of trixie
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# Of the group `dev`, what cases use and what compiles the native parts.
_TESTING = ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "jsonschema", "setuptools")


def requirements(pyproject: str) -> list[str]:
    """What the guest needs of a pyproject.toml: run time and testing."""
    document = tomllib.loads(pyproject)
    dev = document["dependency-groups"]["dev"]
    named = [r for r in dev if isinstance(r, str) and _name(r) in _TESTING]
    return [*document["project"]["dependencies"], *named]


def _name(requirement: str) -> str:
    return re.split(r"[<>=\[~!; ]", requirement, maxsplit=1)[0]


def site() -> Path:
    """A folder for PYTHONPATH. This machine's pip fetches it, as it is set up here."""
    return _site("site", requirements((ROOT / "pyproject.toml").read_text(encoding="utf-8")))


def bench_site() -> Path:
    """A folder with what only benches use beside that: the group `recordings`."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return _site("benchsite", document["dependency-groups"]["recordings"])


def _site(name: str, wanted: list[str]) -> Path:
    def make(folder: Path) -> None:
        run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--no-compile", "--target", folder / "site", "--only-binary=:all:"),
                *("--python-version", VERSION, "--implementation", "cp"),
                *(f"--platform={platform}" for platform in _PLATFORMS),
                *wanted,
            ],
            log=folder / "pip.log",
            what="fetching the guest's Python packages",
        )
        chroot(
            trixie(),
            f"python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash {INSIDE}",
            log=folder / "compile.log",
            what="compiling the guest's Python packages",
            binds={INSIDE: folder / "site"},
        )

    return once(f"{name}-{key_of(VERSION, *wanted)}", make) / "site"
