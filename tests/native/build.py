"""Compile a native driver together with the core.

python tests/native/build.py fuzz_api out/fuzz_api [--plain]
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SANITISE = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
PLAIN = ("-O2",)
# What a driver needs beside the core.
EXTRA = {"store_fuzz": "plugins/mlproxy_lfs/csrc/*.c"}


def build(driver: str, target: Path, *, sanitise: bool = True) -> Path:
    """Compile tests/native/<driver>.c with every file of the core; warnings are errors."""
    sources = sorted((ROOT / "kmod/core").glob("*.c"))
    if driver in EXTRA:
        sources += sorted(ROOT.glob(EXTRA[driver]))
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *os.environ.get("CC", "cc").split(),
            *(SANITISE if sanitise else PLAIN),
            *("-std=gnu11", "-Wall", "-Wextra", "-Werror"),
            *("-I", str(ROOT / "kmod/core"), "-I", str(ROOT / "kmod/uapi")),
            *("-o", str(target), str(ROOT / f"tests/native/{driver}.c"), *map(str, sources)),
            "-lm",
            "-lpthread",
        ],
        check=True,
    )
    return target


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("driver")
    parser.add_argument("target", type=Path)
    parser.add_argument("--plain", action="store_true", help="without sanitisers")
    options = parser.parse_args()
    sys.stdout.write(f"{build(options.driver, options.target, sanitise=not options.plain)}\n")
