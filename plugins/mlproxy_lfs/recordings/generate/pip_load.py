"""Virtual environments that come and go; arguments: FOLDER CACHE STEPS.

Wheels are fetched into CACHE first (not recorded). Then packages are installed,
reinstalled and uninstalled with pip in two virtual environments, and now and
then one environment is thrown away and made anew.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ENVIRONMENTS = 2
WHEELS = (
    "certifi==2025.1.31", "click==8.1.8", "docutils==0.21.2", "flask==3.1.0", "idna==3.10",
    "jinja2==3.1.5", "markupsafe==3.0.2", "openpyxl==3.1.5", "pygments==2.19.1", "pytz==2025.1",
    "requests==2.32.3", "rich==13.9.4", "setuptools==75.8.0", "tzdata==2025.1", "urllib3==2.3.0",
    "werkzeug==3.1.3",
)  # fmt: skip


def run(*command: str | Path) -> None:
    """Run a command quietly; its failure is ours."""
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)


def main(folder: Path, cache: Path, steps: int, seed: int) -> None:
    """Fetch the wheels, then install and uninstall."""
    rng = np.random.default_rng(seed)
    run(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check",
        "--no-deps", "--only-binary", ":all:", "-d", cache, *WHEELS)  # fmt: skip
    names = [wheel.partition("==")[0] for wheel in WHEELS]
    places = [folder / f"env{n}" for n in range(ENVIRONMENTS)]
    inside: list[set[str]] = [set() for _ in places]

    def pip(place: Path, *arguments: str) -> None:
        run(place / "bin" / "python", "-m", "pip", "-q", "--disable-pip-version-check",
            *arguments)  # fmt: skip

    def fresh(n: int) -> None:
        shutil.rmtree(places[n], ignore_errors=True)
        run(sys.executable, "-m", "venv", places[n])
        inside[n].clear()

    for n in range(ENVIRONMENTS):
        fresh(n)
    for _ in range(steps):
        n = int(rng.integers(0, ENVIRONMENTS))
        kind = rng.random()
        some = [names[i] for i in rng.choice(len(names), 6, replace=False)]
        if kind < 0.05:
            fresh(n)
        elif kind < 0.35 and len(inside[n]) > 4:
            out = sorted(inside[n])
            gone = [out[i] for i in rng.choice(len(out), 4, replace=False)]
            pip(places[n], "uninstall", "-y", *gone)
            inside[n].difference_update(gone)
        else:
            compiled = "--compile" if rng.random() < 0.25 else "--no-compile"
            pip(places[n], "install", "--no-index", "--find-links", str(cache), "--no-deps",
                "--force-reinstall", compiled, *some)  # fmt: skip
            inside[n].update(some)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), 20261123)
