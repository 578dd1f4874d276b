"""One guest: starts it, hands out its results as they come, notices its death."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from .host import HarnessError, tool_path

# A panic instead of a limping kernel, and the end of QEMU instead of a reboot.
_COMMAND_LINE = (
    "console=ttyS0 quiet loglevel=4 oops=panic panic=-1 nokaslr tsc=reliable mitigations=off "
    "hung_task_panic=1 sysctl.kernel.hung_task_timeout_secs=240 log_buf_len=4M"
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What is booted.

    Attributes:
        kernel: the image.
        initramfs: the archive with `init`.
        disks: read-only images, in the order of /dev/vda, vdb, ...
        memory_mib: of the guest.
        arguments: more for the kernel's command line.
        cpus: how many.
        icount: time of the guest runs by instructions executed, 2**icount ns each,
            and waiting takes no time: what is measured does not depend on how
            busy the host is. One processor, emulated.
        writable: disks that the guest may write to, after the read-only ones.
    """

    kernel: Path
    initramfs: Path
    disks: Sequence[Path]
    memory_mib: int = 2048
    arguments: str = ""
    cpus: int = 2
    icount: int | None = None
    writable: Sequence[Path] = ()


@dataclass(slots=True)
class Guest:
    """A running guest; `with` ends it whatever happens.

    Attributes:
        machine: what is booted.
        folder: where console, output and results of this boot are kept.
    """

    machine: Machine
    folder: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def console(self) -> Path:
        """What the kernel and the init scripts printed."""
        return self.folder / "console.log"

    @property
    def output(self) -> Path:
        """What pytest printed."""
        return self.folder / "pytest.log"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("console.log", "pytest.log", "results.jsonl"):
            (self.folder / name).write_bytes(b"")
        with (self.folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": tool_path()},
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _command(self) -> list[str]:
        m = self.machine
        command = ["qemu-system-x86_64", "-M", "q35"]
        if m.icount is None:
            command += [*accelerator(), "-smp", str(m.cpus)]
        else:
            command += ["-accel", "tcg,thread=single,tb-size=1024", "-cpu", "Nehalem", "-smp", "1"]
            command += ["-icount", f"shift={m.icount},sleep=off"]
        command += ["-m", str(m.memory_mib), "-nodefaults", "-no-user-config"]
        command += ["-display", "none", "-no-reboot"]
        command += ["-kernel", str(m.kernel), "-initrd", str(m.initramfs)]
        command += ["-append", f"{_COMMAND_LINE} {m.arguments}".strip()]
        command += ["-serial", f"file:{self.console}", "-device", "virtio-rng-pci"]
        for number, disk in enumerate(m.disks):
            drive = f"if=none,id=d{number},file={disk},format=raw,readonly=on,file.locking=off"
            command += ["-drive", drive, "-device", f"virtio-blk-pci,drive=d{number}"]
        for number, disk in enumerate(m.writable, start=len(m.disks)):
            command += ["-drive", f"if=none,id=d{number},file={disk},format=raw"]
            command += ["-device", f"virtio-blk-pci,drive=d{number}"]
        command += ["-device", "virtio-serial-pci"]
        for port, path in (("output", self.output), ("results", self.folder / "results.jsonl")):
            command += ["-chardev", f"file,id={port},path={path}"]
            command += ["-device", f"virtserialport,chardev={port},name={port}"]
        return command

    def events(self, silence: Sequence[float]) -> Iterator[dict[str, Any]]:
        """What the guest reports, until it has ended.

        Args:
            silence: one number, looked up anew each time: seconds without a
                word after which it counts as hung.

        Raises:
            HarnessError: when it hung, or QEMU could not start.
        """
        assert self._process is not None
        heard = time.monotonic()
        rest = b""
        with (self.folder / "results.jsonl").open("rb") as stream:
            while True:
                ended = self._process.poll() is not None
                new = stream.read()
                if new:
                    heard = time.monotonic()
                    *lines, rest = (rest + new).split(b"\n")
                    for line in lines:
                        yield json.loads(line)
                elif ended:
                    break
                elif time.monotonic() - heard > silence[0]:
                    raise HarnessError(f"the guest said nothing for {silence[0]:.0f} s")
                else:
                    time.sleep(0.1)
        if self._process.returncode:
            said = (self.folder / "qemu.log").read_text(encoding="utf-8", errors="replace")
            raise HarnessError(f"QEMU ended with status {self._process.returncode}: {said.strip()}")

    def console_tail(self, lines: int = 40) -> str:
        """The end of the console, from the first sign of a crash if there is one."""
        text = self.console.read_text(encoding="utf-8", errors="replace").splitlines()
        signs = ("BUG:", "Oops", "Kernel panic", "general protection")
        first = next((n for n, line in enumerate(text) if any(s in line for s in signs)), None)
        return "\n".join(text[-lines:] if first is None else text[first : first + lines])


def accelerator() -> list[str]:
    """QEMU's arguments for the processor; `MLPROXY_VM_ACCEL=kvm` for a machine that has it."""
    if os.environ.get("MLPROXY_VM_ACCEL") == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "Nehalem"]
