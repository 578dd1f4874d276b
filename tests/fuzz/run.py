"""Fuzz the core's API and the simulated store natively and every parser in Python.

    python tests/fuzz/run.py --seconds 60 [--seed N] [--only NAME]

Half of the time goes to tests/native/fuzz_api.c and store_fuzz.c under ASan and
UBSan, half to the targets, whose seeds are mutated until it is over. A target is a file in
tests/fuzz/targets/ with `SEEDS: list[bytes]` and `fuzz_one(data)`, which raises
only on a bug. On a finding the input is written
to out/fuzz/<target>-<n>.bin and how to repeat it is printed.
"""

import argparse
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

TARGETS = Path(__file__).resolve().parent / "targets"
NATIVE = TARGETS.parents[1] / "native"
DRIVERS = ("fuzz_api", "store_fuzz")
FINDINGS = Path("out/fuzz")
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 2**32 - 1)
LONGEST = 1 << 16


def mutate(data: bytes, seeds: list[bytes], rng: random.Random) -> bytes:
    """Change a few things: bits, numbers, spans cut, doubled, swapped between seeds."""
    out = bytearray(data)
    for _ in range(1 << rng.randrange(4)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(8):
            case 0 | 1 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 2 if out:
                out[at % len(out)] = rng.randrange(256)
            case 3:
                width = rng.choice((1, 2, 4, 8))
                value = (rng.choice(INTERESTING) + rng.randrange(-1, 2)) % (1 << 8 * width)
                out[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
            case 4:
                del out[at : at + 1 + rng.randrange(16)]
            case 5:
                out[at:at] = rng.randbytes(1 + rng.randrange(16))
            case 6:
                del out[at:]
            case _:
                other = rng.choice(seeds)
                begin = rng.randrange(len(other) + 1)
                out[at:at] = other[begin : begin + 1 + rng.randrange(64)]
    return bytes(out[:LONGEST])


def load(path: Path) -> ModuleType:
    """Import one target file."""
    spec = importlib.util.spec_from_file_location(f"fuzz_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fuzz(
    name: str, seeds: list[bytes], fuzz_one: Callable[[bytes], None], seconds: float, seed: int
) -> tuple[int, bytes | None]:
    """Run one target; return how many inputs it saw and the first that failed."""
    rng = random.Random(f"{name}:{seed}")
    end = time.monotonic() + seconds
    count = 0
    while count < len(seeds) or time.monotonic() < end:
        data = seeds[count] if count < len(seeds) else mutate(rng.choice(seeds), seeds, rng)
        count += 1
        try:
            fuzz_one(data)
        except Exception:  # noqa: BLE001 - any exception at all is the finding
            traceback.print_exc()
            return count, data
    return count, None


def fuzz_native(seconds: float, seed: int) -> int:
    """Walk the core's API and the store's under sanitisers; returns 1 on a finding."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for driver in DRIVERS:
            binary = load(NATIVE / "build.py").build(driver, Path(folder) / driver)
            share = max(1, round(seconds / len(DRIVERS)))
            done = subprocess.run([binary, str(share), str(seed)], check=False)
            sys.stdout.write(f"native {driver}: {'FAILED' if done.returncode else 'ok'}\n")
            sys.stdout.flush()
            failed |= done.returncode != 0
    return int(failed)


def main() -> int:
    """Command line; status 1 on a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for everything together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one target by name; `native`: the C drivers")
    parser.add_argument("--input", type=Path, help="with --only: run this one input and stop")
    options = parser.parse_args()
    paths = [p for p in sorted(TARGETS.glob("*.py")) if options.only in (None, p.stem)]
    failed = 0
    if options.only in (None, "native"):
        share = options.seconds / (2 if paths else 1)
        failed += fuzz_native(share, options.seed)
    if not paths and options.only != "native":
        parser.error(f"no target {options.only!r} in {TARGETS}")
    if options.input:
        load(paths[0]).fuzz_one(options.input.read_bytes())
        return 0
    share = options.seconds / max(len(paths), 1) / (1 if options.only else 2)
    for path in paths:
        target = load(path)
        count, bad = fuzz(path.stem, target.SEEDS, target.fuzz_one, share, options.seed)
        sys.stdout.write(f"{path.stem}: {count} inputs, {'FAILED' if bad is not None else 'ok'}\n")
        sys.stdout.flush()
        if bad is not None:
            failed += 1
            FINDINGS.mkdir(parents=True, exist_ok=True)
            kept = FINDINGS / f"{path.stem}-{options.seed}-{count}.bin"
            kept.write_bytes(bad)
            sys.stdout.write(f"  repeat: python {__file__} --only {path.stem} --input {kept}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
