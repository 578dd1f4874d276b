"""Run a bench in a guest and keep the numbers that it sends.

    python tests/vm/bench.py NAME OUTPUT.json [--kernel 6.12] [-- ARGUMENTS OF THE BENCH]

The bench is tests/vm/benches/test_NAME.py, which sends an event `result` with a document.
Time of the guest is instructions executed, 2**ICOUNT ns each, by one processor: what the host
does besides changes nothing, and waiting is free. `--live` leaves time to the host.
docs/how-to/run-the-benches.md says what becomes of it.
"""

import argparse
import json
import sys
from pathlib import Path

from harness import kernels, kmod, stage
from harness.host import OUT, HarnessError, missing, phase, say
from harness.images import guest_root, packages_layer
from harness.pysite import bench_site
from harness.qemu import Guest, Machine

HOURS = 6.0
PACKAGES = {"damon": ("redis-server", "memcached")}
"""What a bench needs beside the guests' tree: a disk of their files, mounted by the bench."""


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--kernel", dest="kernel_name", choices=sorted(kernels.KERNELS), default="6.12"
    )
    parser.add_argument("--icount", type=int, default=3, choices=range(11), help="default: 3")
    parser.add_argument(
        "--live", dest="icount", action="store_const", const=None, help="no --icount"
    )
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    reason = missing()
    if reason is not None:
        say(f"no bench: {reason}")
        return 2
    try:
        return run(**vars(options))
    except HarnessError as error:
        say(f"the harness failed: {error}")
        return 2


def run(
    *, name: str, output: Path, kernel_name: str, arguments: list[str], icount: int | None
) -> int:
    """One boot."""
    kernel = kernels.KERNELS[kernel_name]()
    out = OUT / f"bench-{name}" / output.stem
    out.mkdir(parents=True, exist_ok=True)
    with phase("copying and compiling the sources"):
        stage.sources()
        modules, _ = kmod.build(kernel, out)
    request = {
        "release": kernel.release,
        "select": "",
        "timeout": round(HOURS * 3600),
        "slow": kernel.slow,
        "paths": [f"tests/vm/benches/test_{name}.py"],
        "arguments": arguments,
    }
    work = stage.work_layer(kernel, modules, request, out, bench_site())
    disks = [guest_root(), kernel.modules, work]
    if name in PACKAGES:
        disks.append(packages_layer(PACKAGES[name]))
    machine = Machine(kernel.image, kernel.initramfs, disks, kernel.memory_mib, icount=icount)
    status = 1
    with phase(f"bench {name} on {kernel.release}"), Guest(machine, out / "boot") as guest:
        say(f"what it prints: {guest.output}")
        for event in guest.events([HOURS * 3600]):
            if event["event"] == "result":
                output.write_text(json.dumps(event["document"]) + "\n", encoding="utf-8")
                status = 0
            elif event["event"] == "end" and event["outcome"] != "passed":
                say(f"{event['case']}: {event['reason']}\n{event['text']}")
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
