"""Cut the power of a guest while it cleans a file system, again and again on the same disk.

    python tests/vm/powerfail.py nilfs [--kernel 6.12] [--count 20] [--seed 1]

Each boot runs tests/vm/powerfail/test_NAME.py: it first verifies what the last cut left, then
writes and cleans until QEMU is killed at a random moment while the model cleans. What the guest
was promised (by fsync) is told to the host before, and must be there after. Status 1 when
anything was lost or the kernel complained. docs/how-to/test-in-the-vm.md says more.
"""

import argparse
import random
import sys
import time
from typing import Any

from harness import kernels, kmod, stage
from harness.host import OUT, HarnessError, missing, phase, say
from harness.images import guest_root
from harness.qemu import Guest, Machine

SILENCE = 300.0
DISK_MIB = 64
AGAIN = 3
"""An emulated processor now and then dies before anything of this project runs."""


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument(
        "--kernel", dest="kernel_name", choices=sorted(kernels.KERNELS), default="6.12"
    )
    parser.add_argument("--count", type=int, default=20, help="cuts")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    options = parser.parse_args()
    reason = missing()
    if reason is not None:
        say(f"skipped: {reason}")
        return 2
    try:
        return Cuts(options.name, options.kernel_name, options.seed).run(options.count)
    except HarnessError as error:
        say(f"the harness failed: {error}")
        return 2


class Cuts:
    """The disk, and what must be on it."""

    def __init__(self, name: str, kernel_name: str, seed: int) -> None:
        self._name = name
        self._kernel = kernels.KERNELS[kernel_name]()
        self._rng = random.Random(seed)
        self._out = OUT / f"powerfail-{name}-{kernel_name}"
        self._out.mkdir(parents=True, exist_ok=True)
        with phase("copying and compiling the sources"):
            stage.sources()
            self._modules, _ = kmod.build(self._kernel, self._out)
        self._disk = self._out / "disk.raw"
        with self._disk.open("wb") as file:
            file.truncate(DISK_MIB << 20)
        self._promised: dict[str, int] = {}
        self._verified = 0

    def run(self, count: int) -> int:
        """Cut so many times; gives the exit status."""
        for number in range(count + 1):
            if not any(self._boot(number, last=number == count) for _ in range(AGAIN)):
                return 1
        say(f"{count} cuts, {self._verified} verified")
        return 0 if self._verified == count else 1

    def _boot(self, number: int, *, last: bool) -> bool:
        """One boot; False when it must be tried again.

        Raises:
            SystemExit: something was lost.
        """
        request = {
            "release": self._kernel.release,
            "select": "",
            "timeout": 3600,
            "slow": self._kernel.slow,
            "paths": [f"tests/vm/powerfail/test_{self._name}.py"],
            "first": number == 0,
            "last": last,
            "seed": self._rng.getrandbits(32),
            "promised": self._promised,
        }
        work = stage.work_layer(self._kernel, self._modules, request, self._out)
        machine = Machine(
            self._kernel.image,
            self._kernel.initramfs,
            (guest_root(), self._kernel.modules, work),
            self._kernel.memory_mib,
            cpus=1,
            writable=(self._disk,),
        )
        begun = False
        cut: float | None = None
        with Guest(machine, self._out / f"boot-{number}") as guest:
            try:
                for event in guest.events([SILENCE]):
                    if event["event"] == "begin":
                        begun = True
                    elif event["event"] == "result":
                        self._hear(number, event["name"], event["document"])
                        if event["name"] == "cleaning" and cut is None:
                            cut = time.monotonic() + self._rng.uniform(0.2, 6.0)
                    elif event["event"] == "end" and event["outcome"] != "passed":
                        say(f"{event['reason']}\n{event['text']}")
                        raise SystemExit(1)
                    if cut is not None and time.monotonic() > cut:
                        return True  # and QEMU is killed
            except HarnessError as error:
                if begun:
                    raise
                say(f"  boot {number} died early: {error}")
                return False
        return last

    def _hear(self, number: int, name: str, document: dict[str, Any]) -> None:
        if name == "promised":
            self._promised.update(document)
        elif name == "verified":
            self._verified += 1
            say(f"  cut {number}: verified {document}")


if __name__ == "__main__":
    sys.exit(main())
