"""All cases on one kernel: builds, boots, boots again after a crash."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import kmod, source, stage
from .case import Case
from .host import OUT, ROOT, HarnessError, phase, say
from .images import guest_root
from .kernels import Kernel
from .qemu import Guest, Machine

_BOOTS = 6
_OURS = "[mlproxy]"
"""In a trace: code of the module."""
_FINE = (0, 1, 2)  # pytest's status: passed, failed, stopped before the end


@dataclass(frozen=True, slots=True)
class Suite:
    """What a guest runs.

    Attributes:
        paths: files and folders for pytest.
        checks: whether the module's build is checked too.
        timeout: seconds per case on a plain kernel under emulation.
        silence: seconds that a guest may add to that, or take to boot.
        without: pytest's `-k` of what is left out.
    """

    paths: tuple[str, ...]
    checks: bool = True
    timeout: float = 300
    silence: float = 180
    without: str = ""

    def select(self, wanted: str) -> str:
        """Pytest's `-k` for what is wanted of it."""
        parts = [f"({wanted})"] if wanted else []
        parts += [f"not ({self.without})"] if self.without else []
        return " and ".join(parts)


def contracts() -> list[str]:
    """The host's tests that the guest repeats with the kernel's proxy: the fixture's users."""
    return [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests/contract").glob("test_*.py"))
        if "transport" in path.read_text(encoding="utf-8")
    ]


ALL = Suite(("tests/vm/cases", *contracts()))
# That the harness notices what it is there to notice.
SELFTEST = Suite(("tests/vm/selftest",), checks=False, timeout=60, silence=60)


def run(kernel: Kernel, select: str, suite: Suite = ALL) -> Iterator[Case]:
    """Run the cases on a kernel, and give each as soon as it is known.

    Args:
        kernel: from `kernels`.
        select: pytest's `-k`; empty runs all, and the checks of the build.
        suite: what is run.

    Raises:
        HarnessError: when an image cannot be made or QEMU does not start.
    """
    out = OUT / kernel.name
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        with phase(f"building the module for {kernel.release}"):
            modules, said = kmod.build(kernel, out)
    except HarnessError as error:
        yield Case(kernel.name, "build", "failed", "does not build", text=str(error))
        return
    if suite.checks and not select:
        sizes = kmod.sizes(kernel, modules, out)
        yield _check(kernel, "build with W=1 and sparse", said, began, sizes)
        yield from _checks(kernel, out)
    request = {
        "release": kernel.release,
        "select": suite.select(select),
        "timeout": round(suite.timeout * kernel.slow),
        "slow": kernel.slow,
        "paths": suite.paths,
    }
    work = stage.work_layer(kernel, modules, request, out)
    disks = (guest_root(), kernel.modules, work)
    done = 0
    dead = False
    tried = ""
    for boot in range(_BOOTS):
        machine = Machine(
            kernel.image, kernel.initramfs, disks, kernel.memory_mib, f"VMTEST_FIRST={done}"
        )
        with Guest(machine, out / f"boot-{boot}") as guest:
            one = _Boot(kernel, guest, suite.silence * kernel.slow, dead, tried)
            yield from one.cases()
        done += one.ended
        if one.complete or not (one.planned[done:] or one.early):
            return
        dead = dead or one.early
        tried = one.again_for or tried
    yield from (
        Case(kernel.name, name, "failed", f"not run: the guest had to boot {_BOOTS} times")
        for name in one.planned[done:]
    )


def _checks(kernel: Kernel, out: Path) -> Iterator[Case]:
    if kernel.release.startswith(source.VERSION):  # whose checkpatch it is; once is enough
        began = time.monotonic()
        yield _check(kernel, "checkpatch", kmod.checkpatch(kernel, out), began)
    began = time.monotonic()
    if kernel.packaged:
        yield _check(kernel, "DKMS builds and installs it", kmod.dkms(kernel, out), began)
    else:
        yield Case(kernel.name, "DKMS builds and installs it", "skipped", "not Debian's kernel")


def _check(
    kernel: Kernel,
    name: str,
    complaints: Sequence[str],
    began: float,
    measures: dict[str, float] | None = None,
) -> Case:
    seconds = time.monotonic() - began
    if not complaints:
        return Case(kernel.name, name, "passed", "", seconds, measures or {})
    reason = f"{len(complaints)} complaints, the first: {complaints[0]}"
    return Case(kernel.name, name, "failed", reason, seconds, text="\n".join(complaints))


@dataclass(slots=True)
class _Boot:
    """One boot, from its first event to its last.

    Attributes:
        kernel: what is booted.
        guest: where.
        silence: seconds that it may say nothing, beside a case's own limit.
        last_try: an earlier boot died before anything of this project ran. An emulated
            processor does that now and then while the kernel patches its own code.
        tried: a case in which a guest died before, with nothing of the module in the
            trace, if any: for the same reason it is run once more.
        planned: all cases, as pytest found them.
        ended: how many of them this boot saw the end of.
        complete: nothing is left to do.
        again: it ended itself, to be followed by another.
        early: it died before anything of this project ran, and is forgiven.
        again_for: the case in which it died and which must be run once more.
    """

    kernel: Kernel
    guest: Guest
    silence: float
    last_try: bool = False
    tried: str = ""
    planned: list[str] = field(default_factory=list)
    ended: int = 0
    complete: bool = False
    again: bool = False
    early: bool = False
    again_for: str = ""

    def cases(self) -> Iterator[Case]:
        began = time.monotonic()
        booted = False
        running: str | None = None
        limit: list[float] = [self.silence]
        died = "the guest ended without a word"
        crashed = True
        try:
            for event in self.guest.events(limit):
                match event["event"]:
                    case "boot":
                        booted = True
                        say(f"  booted: {time.monotonic() - began:.0f} s")
                    case "plan":
                        self.planned = event["cases"]
                    case "begin":
                        running = event["case"]
                        limit[0] = event["timeout"] + self.silence
                    case "end":
                        running = None
                        self.ended += event["case"] in self.planned
                        yield _case(self.kernel, event)
                    case "again":
                        self.again = True
                    case "done":
                        # A boot that ends itself early is followed by another.
                        self.complete = not self.again
                        if event["status"] not in _FINE:
                            died = f"pytest ended with status {event['status']}"
                            running = "pytest"
        except HarnessError as error:
            died, crashed = str(error), False
        if not booted and not self.last_try:
            self.early = True
            say(f"  died before any case ran, booted again: {died}; {self.guest.console}")
        elif running is not None or not (self.complete or self.again):
            text = f"{self.guest.console_tail()}\n(console: {self.guest.console})"
            if crashed and running in self.planned and self._forgives(running, text):
                return
            self.ended += running in self.planned
            yield Case(self.kernel.name, running or "boot", "failed", died, text=text)

    def _forgives(self, running: str, text: str) -> bool:
        """Whether a case is run again in which the guest died; says so."""
        if self.complete or self.tried or _OURS in text:
            return False
        self.again_for = running
        said = "\n".join(f"    | {line}" for line in text.splitlines())
        say(f"  {self.kernel.name} died in {running}, which is run again:\n{said}")
        return True


def _case(kernel: Kernel, event: dict[str, Any]) -> Case:
    return Case(
        kernel=kernel.name,
        name=event["case"],
        outcome=event["outcome"],
        reason=event["reason"],
        seconds=event["seconds"],
        measures=event["measures"],
        text=event["text"],
    )
