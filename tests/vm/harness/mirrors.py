"""Where Debian's packages come from: the mirrors that this machine's own apt is set up with."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from .host import tool_path

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_FORMAT = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
_RELEASE = re.compile(
    r"(?:bullseye|bookworm|trixie|forky|duke|sid|unstable|testing|stable|oldstable)(-security|-updates)?"
)


def keyring() -> list[str]:
    """mmdebstrap's option for Debian's keys, where this machine has them."""
    return [f"--keyring={_KEYRING}"] if _KEYRING.is_file() else []


def mirrors(suite: str) -> list[str]:
    """mmdebstrap's sources for a suite; empty, for its own default, when apt knows no Debian."""
    done = subprocess.run(
        # Needs no lists, which images of containers come without.
        ["apt-get", "indextargets", "--no-release-info", "--format", _FORMAT],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": tool_path(), "LC_ALL": "C.UTF-8"},
    )
    return lines(suite, done.stdout)


def lines(suite: str, targets: str) -> list[str]:
    r"""Lines of a sources.list for a suite, with the mirrors of another one.

    Args:
        suite: `trixie`, for example.
        targets: a line with URI, suite and component for each index that apt is to fetch.

    >>> lines("trixie", "http://a/debian/ bookworm main\nhttp://b/sec/ bookworm-security main")
    ['deb http://a/debian/ trixie main', 'deb http://b/sec/ trixie-security main']
    >>> lines("trixie", "http://c/ nodistro main\nhttp://d/ubuntu/ noble main")
    []
    """
    found: dict[str, str] = {}
    for line in targets.splitlines():
        uri, release, component = line.split()
        debian = _RELEASE.fullmatch(release)
        if debian and component == "main":
            found.setdefault(debian[1] or "", uri)
    if "" not in found:
        return []
    return [f"deb {uri} {suite}{kind} main" for kind, uri in sorted(found.items())]
