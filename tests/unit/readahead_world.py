"""A machine in a directory: a block device whose read-ahead matters, and programs that read.

What requests and bytes a stream costs under each setting was measured once on
Linux 6.12 (per byte asked; null_blk, max_sectors_kb 124).
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlproxy.proxy import InProcessKnobProxy, Knob, ProxyConfig

# setting in KiB -> (requests per MiB asked, bytes read per byte asked)
COSTS = {
    "sequential": {4: (64, 1), 16: (64, 1), 64: (16.1, 1), 128: (16.1, 1), 256: (13, 1),
                   1024: (9.6, 1), 4096: (9.1, 1)},
    "random": {4: (256, 1), 16: (253, 3.9), 64: (228, 13.9), 128: (369, 24.3), 256: (430, 38),
               1024: (520, 57), 4096: (551, 63.9)},
    "runs": {4: (234, 1), 16: (69, 1.01), 64: (32.5, 1.32), 128: (34.5, 1.67), 256: (38, 2.3),
             1024: (40, 2.9), 4096: (37.2, 2.76)},
}  # fmt: skip


ACCESSES = 4
"""In 10 ms."""


class World:
    """Time, a device below a root directory, and one program that reads."""

    def __init__(self, root: Path, found: int = 128) -> None:
        self.root = root
        self.now = 1_000_000_000
        self.rng = random.Random(7)
        self.stream = "sequential"
        self.asked = self.requests = self.read = 0.0
        self.position = 0
        self.knob = root / "sys/block/sda/queue/read_ahead_kb"
        self.knob.parent.mkdir(parents=True)
        self.knob.write_text(f"{found}\n")
        (root / "sys/block/sda/dev").write_text("8:0\n")
        part = root / "sys/block/sda/sda1"
        part.mkdir()
        (part / "partition").write_text("1\n")
        (part / "dev").write_text("8:1\n")
        tracing = root / "sys/kernel/tracing"
        self.instance = tracing / "instances/mlproxy-readahead-sda"
        for event in ("get_pages", "fault", "map_pages"):
            (tracing / f"events/filemap/mm_filemap_{event}").mkdir(parents=True)
            (self.instance / f"events/filemap/mm_filemap_{event}").mkdir(parents=True)
        self.pipe = self.instance / "trace_pipe"
        self.pipe.write_text("")
        self.proxy: InProcessKnobProxy | None = None
        self._lines: list[str] = []
        # Opened once: opening is what would take most of a test's time.
        self._knob = os.open(self.knob, os.O_RDONLY)
        self._pipe = os.open(self.pipe, os.O_WRONLY | os.O_APPEND)
        self.show()

    def clock(self) -> int:
        return self.now

    def close(self) -> None:
        for fd in (self._knob, self._pipe):
            os.close(fd)

    def show(self) -> None:
        """Bring the files to what has happened."""
        sectors = round(self.read / 512)
        (self.root / "sys/block/sda/stat").write_text(
            f"{round(self.requests)} 0 {sectors} 0 0 0 0 0 0 0 0\n"
        )
        os.write(self._pipe, "".join(self._lines).encode())
        self._lines.clear()

    def setting(self) -> int:
        return int(os.pread(self._knob, 16, 0))

    def _line(self, event: str, ofs: str) -> str:
        at = self.now / 1e9
        return f"  cat-17  [000] ..... {at:.6f}: mm_filemap_{event}: dev=8:1 ino=2a ofs={ofs}\n"

    def work(self) -> None:
        """What the program does in 10 ms."""
        lines = self._lines
        for _ in range(ACCESSES):
            if self.stream == "random":
                page = self.rng.randrange(100_000)
                lines.append(self._line("fault", str(page * 4096)))
                window = page // 16 * 65536
                lines.append(self._line("map_pages", f"{window}-{window + 65535}"))
                asked = 4096
            else:
                size, run = (16384, 8 << 20) if self.stream == "sequential" else (4096, 256 << 10)
                if self.position % run == 0:
                    self.position = self.rng.randrange(1000) * run
                lines.append(self._line("get_pages", f"{self.position}-{self.position + size - 1}"))
                self.position += size
                asked = size
            self._charge(asked)

    def _charge(self, asked: int) -> None:
        requests, read = COSTS[self.stream][self.setting()]
        noise = self.rng.uniform(0.9, 1.1)
        self.asked += asked
        self.requests += requests * asked / (1 << 20) * noise
        self.read += read * asked * noise

    def knob_proxy(
        self, config: ProxyConfig, knobs: Sequence[Knob], **more: Any
    ) -> InProcessKnobProxy:
        """As SubsystemContext has it, with this world's time."""
        self.proxy = InProcessKnobProxy(config, knobs, clock=self.clock, timer=False, **more)
        return self.proxy

    def pass_time(self, seconds: float, step: Any) -> None:
        """Let programs work; the daemon steps every 50 ms."""
        for tick in range(round(seconds * 100)):
            self.now += 10_000_000
            if self.proxy is not None:
                self.proxy.look_after()
            self.work()
            if tick % 5 == 4:
                self.show()
                step()
