"""The competitors: what takes memory from the bench's program, each started and stopped alike."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mlproxy.app.client import ControlClient
from mlproxy.errors import ControlError, MlproxyError

__all__ = ("ARMS", "Arm", "ArmError", "Helpers", "Target", "arm")

ADMIN: Final = Path("/sys/kernel/mm/damon/admin/kdamonds")
RECLAIM: Final = Path("/sys/module/damon_reclaim/parameters")
ARMS: Final = ("none", "reclaim", "hand", "psi", "mlproxy")
EVERYTHING: Final = 2**64 - 1
LONGEST: Final = 2**32 - 1
PSI_US: Final = 1000
"""Some-memory pressure that the goal tuner aims at in a second: 0.1%, what Senpai holds
(Weiner et al., TMO, ASPLOS 2022)."""


class ArmError(MlproxyError):
    """Raised when a competitor does not start."""


@dataclass(frozen=True, slots=True)
class Target:
    """The program.

    Attributes:
        pid: of it.
        work: file with the number of operations done.
        folder: for a competitor's own files; empty, and removed afterwards.
        seed: of the run.
    """

    pid: int
    work: Path
    folder: Path
    seed: int


@dataclass(slots=True)
class Helpers:
    """Processes whose CPU time is a competitor's cost.

    Attributes:
        kdamond: pid of the kernel's thread.
        daemon: pid of the daemon.
        status: asks the daemon for what it says of its proxy.
    """

    kdamond: int | None = None
    daemon: int | None = None
    status: Callable[[], dict[str, Any]] = field(default=dict)


Arm = Callable[[Target], AbstractContextManager[Helpers]]


def arm(name: str, *, hand_age: float, options: Sequence[str] = ()) -> Arm:
    """A competitor by name.

    Args:
        name: one of ARMS.
        hand_age: seconds without an access, for `hand`.
        options: more for the daemon of `mlproxy`, KEY=VALUE.
    """
    if name == "mlproxy":
        return lambda target: _daemon(target, options)
    if name == "hand":
        return lambda target: _sysfs(target, hand_scheme(hand_age))
    return {"none": _none, "reclaim": _reclaim, "psi": lambda t: _sysfs(t, psi_scheme())}[name]


@contextmanager
def _none(_: Target) -> Iterator[Helpers]:
    yield Helpers()


@contextmanager
def _reclaim(_: Target) -> Iterator[Helpers]:
    """DAMON_RECLAIM as it comes, over the whole machine."""
    switch = RECLAIM / "enabled"
    _write(switch, "Y")
    try:
        yield Helpers(kdamond=_number(RECLAIM / "kdamond_pid"))
    finally:
        _write(switch, "N")


@dataclass(frozen=True, slots=True)
class SysfsScheme:
    """A scheme `pageout` of one kdamond, on the memory of a program.

    Attributes:
        sample_us: sampling interval.
        aggregation_us: aggregation interval.
        regions: least and largest number.
        min_age: aggregations without an access.
        goal_psi_us: the quota is tuned towards so much pressure in a second; 0: no quota.
    """

    sample_us: int
    aggregation_us: int
    regions: tuple[int, int]
    min_age: int
    goal_psi_us: int = 0


def hand_scheme(age: float) -> SysfsScheme:
    """The hand-tuned scheme: intervals wide enough for what takes seconds.

    Args:
        age: seconds without an access.
    """
    return SysfsScheme(100_000, 1_000_000, (100, 1000), max(1, round(age)))


def psi_scheme() -> SysfsScheme:
    """The kernel's own goal tuner: DAMON's default intervals, whatever rested for 5 s."""
    return SysfsScheme(5_000, 100_000, (10, 1000), 50, PSI_US)


def settings(scheme: SysfsScheme, pid: int) -> list[tuple[str, str]]:
    """What is written, in this order, below the directory of all kdamonds.

    Args:
        scheme: what is wanted.
        pid: whose memory.
    """
    context = "0/contexts/0"
    intervals = f"{context}/monitoring_attrs/intervals"
    regions = f"{context}/monitoring_attrs/nr_regions"
    one = f"{context}/schemes/0"
    access = f"{one}/access_pattern"
    found: list[tuple[str, object]] = [
        ("nr_kdamonds", 1),
        ("0/contexts/nr_contexts", 1),
        (f"{context}/operations", "vaddr"),
        (f"{intervals}/sample_us", scheme.sample_us),
        (f"{intervals}/aggr_us", scheme.aggregation_us),
        (f"{intervals}/update_us", 1_000_000),
        (f"{regions}/min", scheme.regions[0]),
        (f"{regions}/max", scheme.regions[1]),
        (f"{context}/targets/nr_targets", 1),
        (f"{context}/targets/0/pid_target", pid),
        (f"{context}/schemes/nr_schemes", 1),
        (f"{one}/action", "pageout"),
        (f"{access}/sz/min", 4096),
        (f"{access}/sz/max", EVERYTHING),
        (f"{access}/nr_accesses/min", 0),
        (f"{access}/nr_accesses/max", 0),
        (f"{access}/age/min", scheme.min_age),
        (f"{access}/age/max", LONGEST),
    ]
    if scheme.goal_psi_us:
        goals = f"{one}/quotas/goals"
        found += [
            (f"{one}/quotas/reset_interval_ms", 1000),
            (f"{goals}/nr_goals", 1),
            (f"{goals}/0/target_metric", "some_mem_psi_us"),
            (f"{goals}/0/target_value", scheme.goal_psi_us),
        ]
    found.append(("0/state", "on"))
    return [(name, str(value)) for name, value in found]


@contextmanager
def _sysfs(target: Target, scheme: SysfsScheme) -> Iterator[Helpers]:
    if _number(ADMIN / "nr_kdamonds"):
        raise ArmError("DAMON is in use", code="damon.foreign", hint="stop who uses it")
    try:
        for name, value in settings(scheme, target.pid):
            _write(ADMIN / name, value)
        yield Helpers(kdamond=_number(ADMIN / "0/pid"))
    finally:
        with contextlib.suppress(ArmError):  # it ended by itself, with the program
            _write(ADMIN / "0/state", "off")
        _write(ADMIN / "nr_kdamonds", "0")


@contextmanager
def _daemon(target: Target, more: Sequence[str]) -> Iterator[Helpers]:
    """`mlproxy run` with the plugin, which knows nothing yet; it comes up while work goes on."""
    folder = target.folder
    socket = folder / "control.sock"
    options = [
        f"daemon.state_dir={folder}/state",
        f"daemon.socket={socket}",
        f"daemon.seed={target.seed}",
        "daemon.log_level=error",
        # Under emulation everything takes twenty times as long.
        "daemon.import_seconds=600.0",
        "daemon.start_seconds=600.0",
        "daemon.step_seconds=60.0",
        "feed.enabled=false",
        'plugins.allow=["damon"]',
        "subsystem.damon.enabled=true",
        f"subsystem.damon.pid={target.pid}",
        f'subsystem.damon.work_file="{target.work}"',
        *more,
    ]
    arguments = [part for option in options for part in ("-o", option)]
    process = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-m", "mlproxy", "run", *arguments],
        env=os.environ | {"MLPROXY_PLUGINS": "damon"},
    )

    def status() -> dict[str, Any]:
        if process.poll() is not None:
            raise ArmError(
                f"the daemon ended with status {process.returncode}",
                code="damon.bench_daemon",
                hint="its messages are above",
            )
        try:
            with ControlClient(str(socket), timeout=60) as client:
                found: dict[str, Any] = client.call("status")["subsystems"]["damon"]
        except ControlError:
            return {}
        if found["failure"]:
            raise ArmError(
                found["failure"]["message"], code=found["failure"]["code"], hint="see above"
            )
        return found

    try:
        yield Helpers(daemon=process.pid, status=status)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=600)


def _write(path: Path, value: str) -> None:
    """Write a knob of DAMON; it may be busy for a moment.

    Raises:
        ArmError: `damon.refused`.
    """
    for attempt in range(20):
        try:
            path.write_text(value, encoding="ascii")
        except OSError as error:
            if attempt == 19:
                raise ArmError(
                    f"{path}: {value!r} is refused: {error.strerror}", code="damon.refused"
                ) from error
            time.sleep(0.1)
        else:
            return


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
