"""The kernel's source, as Debian packages it: for checkpatch and the debug kernel."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from .host import HarnessError, cache, key_of, once, run
from .mirrors import keyring, mirrors

VERSION = "6.12"
PACKAGE = f"linux-source-{VERSION}"
_SCRIPTS = ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")


def unpack(into: Path, *members: str) -> None:
    """Unpack the source, or only some members of it, into a folder.

    Raises:
        HarnessError: when the package cannot be had.
    """
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".source.") as folder:
        tree = Path(folder) / "tree"
        run(
            [
                *("mmdebstrap", "--mode=root", "--variant=extract", "--format=directory"),
                f"--include={PACKAGE}",
                *keyring(),
                *("trixie", tree),
                *mirrors("trixie"),
            ],
            log=Path(folder) / "mmdebstrap.log",
            what=f"fetching {PACKAGE}",
        )
        archives = list((tree / "usr/src").glob("linux-source-*.tar.xz"))
        if len(archives) != 1:
            raise HarnessError(f"{PACKAGE} brought {[a.name for a in archives]}, not one archive")
        run(
            [
                *("tar", "-xf", archives[0], "-C", into, "--strip-components=1", "--no-same-owner"),
                *(("--occurrence=1", "--wildcards", *members) if members else ()),
            ],
            log=Path(folder) / "tar.log",
            what=f"unpacking {archives[0].name}",
        )


def checkpatch() -> Path:
    """The kernel's style checker, `checkpatch.pl`, with its word lists beside it."""

    def make(folder: Path) -> None:
        unpack(folder, *(f"*/scripts/{name}" for name in _SCRIPTS))
        for name in _SCRIPTS:
            shutil.move(folder / "scripts" / name, folder / name)
        (folder / "scripts").rmdir()

    return once(f"checkpatch-{key_of(PACKAGE, *_SCRIPTS)}", make) / "checkpatch.pl"
