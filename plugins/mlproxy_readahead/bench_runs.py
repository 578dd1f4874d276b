"""Runs of the bench: fixed settings, and the daemon, over the same phases."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mlproxy.app.client import ControlClient
from mlproxy.errors import ControlError
from mlproxy_readahead.bench_streams import STREAMS, Files
from mlproxy_readahead.device import BlockDevice
from mlproxy_readahead.options import PROXY

__all__ = ("Plan", "run")

Row = dict[str, Any]
START_SECONDS: Final = 900.0
TRIAL_OPERATIONS: Final = 24


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        device: name in /sys/block.
        folder: on a file system of it, mounted.
        settings_kb: fixed settings, and what the plugin may choose.
        request_kb: price of a request.
        phase_seconds: about how long a phase takes; it is so many operations.
        pause_seconds: between operations: programs do not keep a machine busy all the
            time, and on a slow processor the daemon would not get its turn.
        training: rounds of all streams before those that count.
        rounds: that count.
        repeats: of everything, each with a daemon that has learned nothing.
        fixed_share: part of a phase's operations that fixed settings do.
        seed: of the streams.
        guard: `daemon.guard`.
        options: more for the daemon, KEY=VALUE.
    """

    device: str
    folder: Path
    settings_kb: Sequence[int]
    request_kb: int = 64
    phase_seconds: float = 60.0
    pause_seconds: float = 0.2
    training: int = 3
    rounds: int = 2
    repeats: int = 3
    fixed_share: float = 0.06
    seed: int = 1
    guard: str = "kernel"
    options: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class _Meter:
    """Does operations and counts what they cost the device."""

    device: BlockDevice
    files: Files
    pause: float

    def operations(self, stream: str, count: int, seed: str) -> Row:
        rng = random.Random(seed)
        operation = STREAMS[stream]
        before, began = self.device.counters(), time.monotonic()
        asked = 0
        for _ in range(count):
            asked += operation(self.files, rng)
            time.sleep(self.pause)
        seconds = time.monotonic() - began
        after = self.device.counters()
        return {
            "stream": stream,
            "operations": count,
            "asked_bytes": asked,
            "read_bytes": after.read_bytes - before.read_bytes,
            "read_requests": after.requests - before.requests,
            "seconds": round(seconds, 3),
        }


def run(plan: Plan, say: Callable[[str], None]) -> list[Row]:
    """All repeats.

    Args:
        plan: what to measure.
        say: hears how far it is.

    Returns:
        A row per phase and way: `way` is `fixed` (with `setting_kb`) or `mlproxy`,
        with counts, and for mlproxy the mode before and after.

    Raises:
        DeviceError: no such device.
        ControlError: the daemon does not come up.
    """
    device = BlockDevice(plan.device)
    meter = _Meter(device, Files(plan.folder), plan.pause_seconds)
    default = device.read_ahead_kb()
    rows: list[Row] = []
    meter.files.make()
    try:
        counts = _phase_operations(meter, plan)
        say(f"operations of a phase: {counts}; default {default} KiB")
        for repeat in range(plan.repeats):
            rows.extend(_fixed(meter, plan, counts, repeat, default))
            say(f"repeat {repeat}: fixed settings done")
            for row in _daemon(meter, plan, counts, repeat):
                rows.append(row)
                say(_told(row))
            if device.read_ahead_kb() != default:
                raise ControlError(
                    f"the default {default} was not put back: {device.read_ahead_kb()}",
                    code="control.bad_reply",
                )
    finally:
        meter.files.remove()
        device.knob.write_text(str(default), encoding="ascii")
    return rows


def _told(row: Row) -> str:
    cost = row["read_bytes"] / row["asked_bytes"], row["read_requests"] * 2**20 / row["asked_bytes"]
    return (
        f"repeat {row['repeat']} round {row['round']} {row['stream']}: {row['before']} ->"
        f" {row['after']} ({row['reason']}), {row['champion']}, {row['pairs']} pairs,"
        f" {row['steps']} steps in {row['seconds']:.0f} s, {cost[0]:.2f} bytes per byte,"
        f" {cost[1]:.1f} requests per MiB"
    )


def _phase_operations(meter: _Meter, plan: Plan) -> dict[str, int]:
    """How many operations take about a phase's time, with the default."""
    counts = {}
    for stream in STREAMS:
        meter.operations(stream, TRIAL_OPERATIONS // 4, "warm")
        row = meter.operations(stream, TRIAL_OPERATIONS, "trial")
        pace = row["seconds"] / TRIAL_OPERATIONS
        counts[stream] = max(TRIAL_OPERATIONS, round(plan.phase_seconds / pace))
    return counts


def _seed(plan: Plan, repeat: int, round_: int, stream: str) -> str:
    return f"{plan.seed}/{repeat}/{round_}/{stream}"


def _fixed(
    meter: _Meter, plan: Plan, counts: dict[str, int], repeat: int, default: int
) -> Iterator[Row]:
    """Every setting on a part of each phase that counts; settings take turns."""
    settings = sorted({*plan.settings_kb, default})
    for round_ in range(plan.training, plan.training + plan.rounds):
        for stream, count in counts.items():
            # Another one begins each time: nobody profits from what came before.
            turn = (repeat + round_) % len(settings)
            for kb in settings[turn:] + settings[:turn]:
                meter.device.knob.write_text(str(kb), encoding="ascii")
                part = max(TRIAL_OPERATIONS, round(count * plan.fixed_share))
                row = meter.operations(stream, part, _seed(plan, repeat, round_, stream))
                yield {"way": "fixed", "setting_kb": kb, "repeat": repeat, "round": round_} | row
    meter.device.knob.write_text(str(default), encoding="ascii")


def _daemon(meter: _Meter, plan: Plan, counts: dict[str, int], repeat: int) -> Iterator[Row]:
    """A daemon that knows nothing, over all rounds."""
    with _running(plan, repeat) as (socket, process):
        before, steps = _proxy(socket)
        for round_ in range(plan.training + plan.rounds):
            for stream, count in counts.items():
                cpu = _cpu_seconds(process.pid)
                row = meter.operations(stream, count, _seed(plan, repeat, round_, stream))
                done = steps
                after, steps = _proxy(socket)
                yield {
                    "way": "mlproxy",
                    "repeat": repeat,
                    "round": round_,
                    "counts": round_ >= plan.training,
                    "before": before["mode"],
                    "after": after["mode"],
                    "reason": after["reason"],
                    "champion": after["champion"],
                    "guard": after["guard"],
                    "decisions": after["decisions"],
                    "pairs": after["trial"]["pairs"],
                    "saving_ratio": after["trial"]["saving_ratio"],
                    "steps": steps - done,
                    "daemon_cpu_seconds": round(_cpu_seconds(process.pid) - cpu, 3),
                } | row
                before = after


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _proxy(socket: Path) -> tuple[dict[str, Any], int]:
    """What the daemon says of its proxy, and how many steps it has done."""
    with ControlClient(str(socket), timeout=60) as client:
        status: dict[str, Any] = client.call("status")["subsystems"]["readahead"]
    proxies: dict[str, Any] = status["proxies"]
    if PROXY not in proxies:
        failure = status["failure"] or {"code": "control.not_running", "message": status["state"]}
        raise ControlError(failure["message"], code=failure["code"])
    found: dict[str, Any] = proxies[PROXY]
    return found, status["steps"]


@contextmanager
def _running(plan: Plan, repeat: int) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    with tempfile.TemporaryDirectory(prefix="mlproxy-bench-") as folder:
        socket = Path(folder) / "control.sock"
        options = [
            f"daemon.state_dir={folder}",
            f"daemon.socket={socket}",
            f"daemon.seed={plan.seed + repeat}",
            f"daemon.guard={plan.guard}",
            "daemon.log_level=error",
            # Under emulation everything takes twenty times as long.
            "daemon.import_seconds=600.0",
            "daemon.start_seconds=600.0",
            "daemon.step_seconds=60.0",
            "feed.enabled=false",
            'plugins.allow=["readahead"]',
            "subsystem.readahead.enabled=true",
            f'subsystem.readahead.device="{plan.device}"',
            f"subsystem.readahead.settings_kb={list(plan.settings_kb)}",
            f"subsystem.readahead.request_kb={plan.request_kb}",
            *plan.options,
        ]
        arguments = [part for option in options for part in ("-o", option)]
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "mlproxy", "run", *arguments]
        )
        try:
            _wait_until_ready(process, socket)
            yield socket, process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)


def _wait_until_ready(process: subprocess.Popen[bytes], socket: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            with ControlClient(str(socket), timeout=60) as client:
                if client.call("status")["subsystems"]["readahead"]["proxies"]:
                    return
        except ControlError as error:
            if error.code != "control.not_running" or process.poll() is not None:
                raise
        if time.monotonic() > end or process.poll() is not None:
            raise ControlError(
                "the daemon of the bench did not come up",
                code="control.not_running",
                hint="its messages are above; `mlproxy run` with the same options",
            )
        time.sleep(0.2)
