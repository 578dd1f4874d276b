"""Commands inside a Debian tree of the cache, which they cannot change."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from .host import run

# All mounts live in a namespace of their own and vanish with it. What a command
# writes goes to a tmpfs over the tree, except below the folders bound into it.
_SCRIPT = """
set -eu
mount --make-rprivate /
mount -t tmpfs -o size=75% layer "$1"
mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/up,workdir=$1/work" tree "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
{binds}
exec chroot "$1/root" /usr/bin/env -i HOME=/root TERM=dumb LC_ALL=C.UTF-8 \\
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -euc "$3"
"""


def chroot(
    tree: Path,
    script: str,
    *,
    log: Path,
    what: str,
    binds: Mapping[str, Path] | None = None,
) -> str:
    """Run a shell script in a tree; returns its output, which is also in `log`.

    Args:
        tree: the root folder of the tree; is not changed.
        script: for `sh -eu`; ends with the first command that fails.
        log: where the output goes.
        what: for the message when it fails.
        binds: path in the tree -> folder of this machine, writable.

    Raises:
        HarnessError: when the script fails.
    """
    lines = []
    for inside, outside in (binds or {}).items():
        target = shlex.quote(inside)
        lines.append(f'mkdir -p "$1/root"{target}')
        lines.append(f'mount --bind {shlex.quote(str(outside))} "$1/root"{target}')
    mount_point = log.parent / f".{log.stem}.mnt"
    mount_point.mkdir(parents=True, exist_ok=True)
    try:
        return run(
            [
                *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
                *("sh", "-c", _SCRIPT.format(binds="\n".join(lines)), "chroot"),
                *(mount_point, tree, script),
            ],
            log=log,
            what=what,
        )
    finally:
        mount_point.rmdir()
