"""A git repository at work; arguments: FOLDER COMMITS.

Files of source-like text are edited (zipf-skewed), added and removed, and
committed; every 25 commits `git repack -a -d`, every 120 `git gc --prune=now`.
Automatic gc is off, so that it does not depend on the clock when it runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from mlproxy_lfs.recordings.generate.drivers import zipf_keys

FILES = 2500
EDITS = 40
WORDS = 4000


def text(rng: np.random.Generator, words: list[str], lines: int) -> list[str]:
    """Lines of made-up source text."""
    picks = rng.integers(0, len(words), (lines, 8))
    return [" ".join(words[i] for i in row) for row in picks.tolist()]


def main(folder: Path, commits: int, seed: int) -> None:
    """Make the repository and work in it."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz_"))
    words = ["".join(letters[rng.integers(0, 27, n)]) for n in rng.integers(3, 12, WORDS)]
    repo = folder / "repo"
    env = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        **{
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "driver"), ("EMAIL", "driver@example.org"))
        },
    }

    def git(*arguments: str, step: int = 0) -> None:
        when = f"{1_700_000_000 + 60 * step} +0000"
        subprocess.run(
            ["git", *arguments],
            cwd=repo,
            env={**env, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when},
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    repo.mkdir()
    git("init", "-q")
    git("config", "gc.auto", "0")
    git("config", "pack.threads", "1")
    paths = [repo / f"dir{n % 40:02d}" / f"file{n:05d}.c" for n in range(FILES)]
    content: dict[Path, list[str]] = {}
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        content[path] = text(rng, words, int(min(rng.lognormal(4.7, 1.0), 3000)))
        path.write_text("\n".join(content[path]))
    git("add", "-A")
    git("commit", "-q", "-m", "start")
    chosen = zipf_keys(commits * EDITS, FILES, 0.8, rng).reshape(commits, EDITS)
    for step, row in enumerate(chosen.tolist(), start=1):
        for n in row:
            path = paths[n]
            lines = content.setdefault(path, [])
            if lines and rng.random() < 0.02:
                path.unlink(missing_ok=True)
                del content[path]
                continue
            at = int(rng.integers(0, len(lines) + 1))
            lines[at : at + 5] = text(rng, words, int(rng.integers(1, 12)))
            path.write_text("\n".join(lines))
        git("add", "-A", step=step)
        git("commit", "-q", "--allow-empty", "-m", f"change {step}", step=step)
        if step % 120 == 0:
            git("gc", "-q", "--prune=now", step=step)
        elif step % 25 == 0:
            git("repack", "-q", "-a", "-d", step=step)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), 20261123)
