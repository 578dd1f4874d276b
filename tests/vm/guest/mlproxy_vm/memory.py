"""Programs with memory that they use and memory that they do not, and swap for it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlproxy_vm.blockdev import modprobe

_CODE = """
import mmap, os, random, sys, time
hot, cold, group, ready = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if group:
    open(group + "/cgroup.procs", "w").write("0")
memory = mmap.mmap(-1, (hot + cold) << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
rng = random.Random(1)
page = rng.randbytes(2048) + bytes(2048)
for at in range(0, len(memory), 4096):
    memory[at : at + 4096] = page
work = open(ready, "w")
done = 0
while True:
    for at in range(0, hot << 20, 4096):
        memory[at] = 1
    done += 1
    work.seek(0)
    work.write(f"{done:020}")
    work.flush()
    time.sleep(0.02)
"""


STORM = Path("/sys/fs/cgroup/storm")
"""The control group of `storm`."""


@contextmanager
def storm() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Gives what starts a program that stalls for memory, in a control group of its own."""
    (STORM.parent / "cgroup.subtree_control").write_text("+memory")
    STORM.mkdir()
    (STORM / "memory.high").write_text(str(8 << 20))
    raging: list[subprocess.Popen[bytes]] = []

    def rage() -> subprocess.Popen[bytes]:
        code = (
            f"open('{STORM}/cgroup.procs', 'w').write('0')\n"
            "while True:\n    b = bytearray(48 << 20)\n"
            "    for at in range(0, len(b), 4096): b[at] = 1\n"
        )
        raging.append(subprocess.Popen([sys.executable, "-c", code]))
        return raging[0]

    yield rage
    for process in raging:
        process.kill()
        process.wait()
    end = time.monotonic() + 240
    while "populated 0" not in (STORM / "cgroup.events").read_text() and time.monotonic() < end:
        time.sleep(0.1)
    STORM.rmdir()


@contextmanager
def zram_swap(mib: int) -> Iterator[None]:
    """Swap in compressed memory."""
    modprobe("zram", "num_devices=1")
    Path("/sys/block/zram0/disksize").write_text(str(mib << 20))
    subprocess.run(["mkswap", "/dev/zram0"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["swapon", "/dev/zram0"], check=True)
    try:
        yield
    finally:
        subprocess.run(["swapoff", "/dev/zram0"], check=True)
        Path("/sys/block/zram0/reset").write_text("1")
        subprocess.run(["modprobe", "-r", "zram"], check=True)


class Program:
    """A process that goes on using its hot memory, and never its cold one.

    Args:
        work: file to which it writes how often it went round.
        hot: MiB.
        cold: MiB.
        group: directory of the control group it enters; empty: stays where it is.
    """

    def __init__(self, work: Path, *, hot: int = 8, cold: int = 56, group: str = "") -> None:
        work.write_text("")
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", _CODE, str(hot), str(cold), group, str(work)]
        )
        end = time.monotonic() + 120
        while not work.read_text() and time.monotonic() < end:
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    def resident_mib(self) -> float:
        """What it has in memory."""
        text = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii")
        return int(text.split()[1]) * 4096 / (1 << 20)

    def end(self) -> None:
        """Kill it; a second time is harmless."""
        self.process.kill()
        self.process.wait()
