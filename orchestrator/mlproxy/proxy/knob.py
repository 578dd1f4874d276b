"""Knobs: tunables of the kernel that a proxy holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from mlproxy import _core
from mlproxy.errors import ProxyError
from mlproxy.proxy.knob_file import open_to_write
from mlproxy.proxy.types import Arm, Proxy

__all__ = ("MAX_KNOBS", "Knob", "KnobProxy", "KnobStatus", "open_knob")

MAX_KNOBS: Final = int(_core.lib.MLP_MAX_KNOBS)
TEXT_BYTES: Final = int(_core.lib.MLP_KNOB_TEXT)


@dataclass(frozen=True, slots=True)
class Knob:
    """One tunable, such as /sys/block/sda/queue/read_ahead_kb.

    Attributes:
        path: its file, in sysfs, cgroup2 or /proc/sys.
        minimum: least value that may be written.
        maximum: largest.
        restore: what is written to put the default back; None: what the file says
            when the proxy is made.
        trigger: not empty: no tunable of its own but a file that makes what was
            written to the others count ("commit"). It is written after each change
            of theirs, and `restore`, which must be given, when the proxy ends, last
            of all; minimum and maximum are 0, and it has no column in the settings.
    """

    path: str
    minimum: int = 0
    maximum: int = 0
    restore: str | None = None
    trigger: str = ""


@dataclass(frozen=True, slots=True)
class KnobStatus:
    """What a knob proxy does now (struct mlp_ioc_knobs).

    Attributes:
        applied: whether a model's setting is in force.
        overridden: index of the knob that somebody else has changed, or None.
        setting: the value or choice in force, when applied.
        writes: of model settings.
        restores: of defaults.
        failures: writes that a knob did not take.
        since: CLOCK_MONOTONIC time of the last change, nanoseconds; 0: never.
    """

    applied: bool
    overridden: int | None
    setting: int
    writes: int
    restores: int
    failures: int
    since: int


class KnobProxy(Proxy, Protocol):
    """A proxy that holds tunables: one decision per epoch, which it writes itself.

    Implemented by `KernelProxy` and `InProcessKnobProxy`. Its time is
    CLOCK_MONOTONIC in nanoseconds; no method looks at `now`.
    """

    def report(self, arm: Arm, unit: int, cost: int, now: int) -> None:
        """Report what a scored window of one arm cost (fixed point, lower is better)."""

    def report_twin(self, cost_default: int, cost_model: int, now: int) -> None:
        """Report what one window cost each arm on the twin."""

    def publish(self, record: npt.NDArray[np.void] | np.void) -> None:
        """Put one LABEL record (RECORD_DTYPE) into the ring."""

    def knob_status(self) -> KnobStatus:
        """Return what is in force."""


def open_knob(knob: Knob) -> tuple[int, str]:
    """Open a knob's file, for reading too where that is allowed.

    Returns:
        The file descriptor (closed on exec), and the text that puts the default back.

    Raises:
        ProxyError: `knob.open` when the file cannot be opened or read, `knob.restore`
            when the restore text cannot be known or is too long, `knob.range`,
            `knob.settings` for a trigger that cannot be one.
    """
    if len(knob.trigger.encode()) >= TEXT_BYTES or "\0" in knob.trigger:
        raise ProxyError(
            f"{knob.path}: {knob.trigger!r} cannot be written as a trigger",
            code="knob.settings",
            hint=f"a text of 1 to {TEXT_BYTES - 1} bytes",
            knob=knob.path,
        )
    if knob.trigger and (knob.minimum or knob.maximum or knob.restore is None):
        raise ProxyError(
            f"{knob.path}: a trigger has restore, and no minimum or maximum",
            code="knob.settings",
            hint="restore is what is written when the proxy ends",
            knob=knob.path,
        )
    if knob.minimum > knob.maximum:
        raise ProxyError(
            f"{knob.path}: minimum {knob.minimum} lies above maximum {knob.maximum}",
            code="knob.range",
            hint="correct the range",
            knob=knob.path,
        )
    try:
        fd, readable = open_to_write(knob.path)
    except OSError as e:
        raise ProxyError(
            f"{knob.path} cannot be opened for writing: {e.strerror}",
            code="knob.open",
            hint="does it exist on this kernel, and may this user write it?",
            knob=knob.path,
        ) from e
    try:
        return fd, _restore_text(knob, fd, readable=readable)
    except BaseException:
        os.close(fd)
        raise


def _restore_text(knob: Knob, fd: int, *, readable: bool) -> str:
    text = _present(knob, fd, readable=readable) if knob.restore is None else knob.restore
    if not text or "\0" in text or len(text.encode()) >= TEXT_BYTES:
        raise ProxyError(
            f"{knob.path}: {text!r} cannot serve to put the default back",
            code="knob.restore",
            hint=f"give restore, 1 to {TEXT_BYTES - 1} bytes",
            knob=knob.path,
        )
    return text


def _present(knob: Knob, fd: int, *, readable: bool) -> str:
    if not readable:
        raise ProxyError(
            f"{knob.path} cannot be read, so its default is not known",
            code="knob.restore",
            hint="give restore",
            knob=knob.path,
        )
    try:
        return os.pread(fd, 4096, 0).decode(errors="replace").strip()
    except OSError as e:
        raise ProxyError(
            f"{knob.path} cannot be read: {e.strerror}",
            code="knob.open",
            hint="give restore",
            knob=knob.path,
        ) from e
