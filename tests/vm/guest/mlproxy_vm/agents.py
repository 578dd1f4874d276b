"""Agents in processes of their own, to be stopped and killed, and tunables for them to hold."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, Self

from mlproxy.proxy import Kind, Knob, Mode, ProxyConfig, Reason, Recommendation, Trial
from mlproxy.proxy.knob import KnobProxy

MS = 1_000_000
SECOND = 1_000 * MS
SLOW = float(os.environ.get("MLPROXY_VM_SLOW", "1"))
# An emulated guest on a busy host stands still now and then. How long something took is
# measured and published; what is asserted only tells that it happens from that it does not.
STALL = round(10 * SLOW * SECOND)
SWAPPINESS = Path("/proc/sys/vm/swappiness")
OPS = Path("/sys/kernel/debug/mlproxy_example/ops")


def read_ahead() -> Path:
    """The tunable read_ahead_kb of the first virtio disk."""
    return next(iter(sorted(Path("/sys/block").glob("vd*/queue/read_ahead_kb"))))


@contextlib.contextmanager
def memory_high() -> Iterator[Path]:
    """The tunable memory.high of a control group made for it."""
    root = Path("/sys/fs/cgroup")
    (root / "cgroup.subtree_control").write_text("+memory")
    group = root / "mlproxy-case"
    group.mkdir()
    try:
        yield group / "memory.high"
    finally:
        group.rmdir()


def shown(proxy: str, attribute: str) -> str:
    """An attribute of a proxy in sysfs."""
    return Path("/sys/class/mlproxy", proxy, attribute).read_text().strip()


def moment(condition: Callable[[], bool], seconds: float = 20.0) -> int:
    """When a condition came to hold: CLOCK_MONOTONIC, nanoseconds. It is asked without pause."""
    end = time.monotonic_ns() + round(seconds * SLOW * SECOND)
    while not condition():
        if time.monotonic_ns() > end:
            raise AssertionError(f"did not come to hold within {seconds * SLOW:g} s")
    return time.monotonic_ns()


def reads(values: dict[Path, str]) -> Callable[[], bool]:
    """Whether tunables read as given."""
    return lambda: all(path.read_text().strip() == text for path, text in values.items())


class Trace:
    """Events of the kernel, in a tracing instance of their own; CLOCK_MONOTONIC."""

    FOLDER = Path("/sys/kernel/tracing/instances/mlproxy-case")

    def __init__(self, *events: str) -> None:
        self._events = events

    def __enter__(self) -> Self:
        self.FOLDER.mkdir()
        (self.FOLDER / "trace_clock").write_text("mono")
        for event in self._events:
            (self.FOLDER / "events" / event / "enable").write_text("1")
        return self

    def __exit__(self, *_: object) -> None:
        self.FOLDER.rmdir()

    def times(self, event: str, pid: int) -> list[int]:
        """When a process came by an event, nanoseconds (to a microsecond)."""
        pattern = rf"-{pid} +\[.* (\d+)\.(\d{{6}}): {event}: "
        found = re.findall(pattern, (self.FOLDER / "trace").read_text())
        return [int(seconds) * SECOND + int(micro) * 1000 for seconds, micro in found]


def knob_config(name: str, **changes: object) -> ProxyConfig:
    """A knob proxy of which all epochs but one in a million are the model's, once trusted."""
    values: dict[str, object] = {
        "kind": Kind.CHOICE,
        "trial": Trial.SWITCHBACK,
        "max": 1,
        "epoch": 100 * MS,
        "share_trusted": 999_999,
        "cooldown": SECOND,
        "cooldown_max": SECOND,
        "trip_limit": 100,
    }
    return ProxyConfig(name, **{**values, **changes})  # type: ignore[arg-type]


def knobs_of(values: dict[Path, int]) -> tuple[list[Knob], list[list[int]]]:
    """Knobs, and settings of which choice 1 is `values`."""
    knobs = [Knob(str(path), 0, 1 << 40) for path in values]
    return knobs, [list(values.values())] * 2


def trust(proxy: KnobProxy, *, seq: int = 1, value: int = 1) -> None:
    """Let the model act from the next epoch on; CHOICE."""
    proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 0)
    expiry = time.monotonic_ns() + 3600 * SECOND
    proxy.submit(Recommendation(Kind.CHOICE, seq, expiry, 1, 1, value=value), 0)


class Agent:
    """A forked process that runs `body`; it reports by a pipe that it is ready, or its error.

    Args:
        body: runs in the child; calls its argument when it is ready, then may go on.
    """

    def __init__(self, body: Callable[[Callable[[], None]], None]) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(reader)
            _run(body, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read(1)
            if said != b"!":
                self.end()
                raise AssertionError((said + pipe.read()).decode() or "the agent died")

    def signal(self, number: signal.Signals) -> int:
        """Send a signal; return when, CLOCK_MONOTONIC in nanoseconds."""
        now = time.monotonic_ns()
        os.kill(self.pid, number)
        return now

    def end(self) -> None:
        """Kill it, if it lives, and collect it."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _run(body: Callable[[Callable[[], None]], None], pipe: int) -> NoReturn:
    try:
        body(lambda: _ready(pipe))
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the parent tells of it
        with contextlib.suppress(OSError):
            os.write(pipe, traceback.format_exc().encode())
        os._exit(1)


def _ready(pipe: int) -> None:
    os.write(pipe, b"!")
    os.close(pipe)


def forever() -> NoReturn:
    """Wait for the end."""
    while True:
        signal.pause()


def beat(proxy: KnobProxy, milliseconds: int) -> NoReturn:
    """Send heartbeats until killed."""
    while True:
        proxy.heartbeat(0)
        time.sleep(milliseconds / 1000)


def drop_capability(number: int) -> None:
    """Give up one of this process's capabilities (21: CAP_SYS_ADMIN)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    for call in ("capget", "capset"):
        if getattr(libc, call)(header, data):
            raise OSError(ctypes.get_errno(), call)
        if call == "capget":
            # effective, permitted, inheritable of the lower half, then of the upper
            for field in range(3):
                data[(number // 32) * 3 + field] &= ~(1 << number % 32) & 0xFFFFFFFF
