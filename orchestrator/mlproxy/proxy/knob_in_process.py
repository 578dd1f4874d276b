"""A proxy that holds tunables without the kernel: core and files in this process."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from mlproxy import _core
from mlproxy.errors import ProxyError
from mlproxy.proxy.in_process import InProcessProxy
from mlproxy.proxy.knob import Knob, KnobStatus
from mlproxy.proxy.knob_held import HeldKnobs
from mlproxy.proxy.knob_rules import check_range, check_shape, settings_of
from mlproxy.proxy.recommendation import encode_recommendation
from mlproxy.proxy.refusal import failure
from mlproxy.proxy.types import Arm, Mode, ProxyConfig, Reason, Recommendation, Reject, Snapshot

__all__ = ("InProcessKnobProxy",)

ffi = _core.ffi
lib = _core.lib

T = TypeVar("T")
_GATED: Final = int(lib.MLP_STATE_GATED)
_LEARNING: Final = int(lib.MLP_STATE_LEARNING)
_STOPPED: Final = int(lib.MLP_STATE_STOPPED)
_SECOND: Final = 1_000_000_000


class InProcessKnobProxy:
    """Tunables held by this process (`mlproxy.proxy.knob.KnobProxy`).

    The model's setting is written for a model's epoch and the default put back
    in all other times, on emergency and on `close`; a thread of its own sees to
    that, so a plugin that hangs is noticed by its silence. A process that dies
    leaves what is in force; the journal says to the next one what to put back
    (`mlproxy.proxy.knob_restore`). A value that somebody else has written is left
    alone and is an operator's word, as in the kernel.

    Any thread may call it.

    Args:
        config: what is fixed for its life; kind VALUE (one knob) or CHOICE, trial
            SWITCHBACK, times in nanoseconds.
        knobs: the tunables.
        settings: CHOICE: per choice one value per knob that is no trigger, shape
            [config.max + 1, knobs].
        default_action: what samples give as the default's action.
        capacity: records in the ring, a power of two; 0: no ring.
        journal_dir: directory of the journals; None: none is kept.
        clock: nanoseconds that never go back.
        timer: False: no thread, `tick` lets time pass (tests).

    Raises:
        ProxyError: `proxy.config` naming the field, `proxy.exists`; `knob.open`,
            `knob.range`, `knob.restore`, `knob.busy`, `knob.settings`, `knob.journal`.
            From every method: `proxy.closed` after `close`.
    """

    guard: Final = "in-process"

    def __init__(
        self,
        config: ProxyConfig,
        knobs: Sequence[Knob],
        *,
        settings: Sequence[Sequence[int]] = (),
        default_action: int = 0,
        capacity: int = 65536,
        journal_dir: str | Path | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        timer: bool = True,
    ) -> None:
        self._knobs: HeldKnobs | None = None
        self._wake = threading.Event()
        self._lock = threading.RLock()
        self._clock = clock
        check_shape(config)
        rows = settings_of(config, knobs, settings)
        if not knobs:
            raise ProxyError(
                f"{config.name!r} has no knobs", code="knob.settings", hint="give at least one"
            )
        check_range(config, knobs, rows)
        self._core = InProcessProxy(config, capacity=capacity, now=clock())
        self._native = ffi.cast("struct mlp_proxy *", self._core.pointer)
        self._default_action = default_action
        self._epoch = -1
        self._arm, self._action = Arm.DEFAULT, default_action
        self._knobs = HeldKnobs(
            config.name,
            knobs,
            rows,
            journal_dir,
            failed=self._write_failed,
            overridden=self._overridden,
            clock=clock,
        )
        if timer:
            threading.Thread(
                target=_mind, args=(weakref.ref(self), self._wake), name=f"knobs-{config.name}",
                daemon=True,
            ).start()  # fmt: skip

    # -- coming and going -------------------------------------------------------

    def close(self) -> None:
        """Stop, put the defaults back, let the knobs go; a second time is harmless."""
        with self._lock:
            if self._knobs is not None:
                self._core.stop(self._clock(), Reason.AGENT_GONE)
                self._knobs.close()
                self._knobs = None
        self._wake.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    @property
    def config(self) -> ProxyConfig:
        """What the proxy was made with."""
        return self._core.config

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._knobs is None

    def now(self) -> int:
        """Return the proxy's time, nanoseconds."""
        return self._clock()

    # -- calls ------------------------------------------------------------------

    def _do(self, what: str, call: Callable[[int], T]) -> T:
        """Call the core; what that does to the mode, the knobs follow at once."""
        with self._lock:
            self._held(what)
            now = self._clock()
            result = call(now)
            self._follow(now)
        self._wake.set()
        return result

    def _held(self, what: str) -> HeldKnobs:
        if self._knobs is None:
            raise failure(errno.ENOTCONN, what, self._core.config.name)
        return self._knobs

    def start(self, now: int) -> None:  # noqa: ARG002 - its own clock
        """Let the agent begin: stopped -> learning.

        Raises:
            ProxyError: `proxy.state` when it has been started already.
        """
        self._do("start", self._core.start)

    def stop(self, now: int, reason: Reason = Reason.AGENT_GONE) -> None:  # noqa: ARG002
        """Stop; the knobs have their defaults when this returns."""
        self._do("stop", lambda at: self._core.stop(at, reason))

    def heartbeat(self, now: int) -> None:  # noqa: ARG002
        """Say that the agent is alive."""
        self._do("heartbeat", self._core.heartbeat)

    def tick(self, now: int) -> None:  # noqa: ARG002
        """Let time pass; its thread does that itself."""
        self._do("tick", self._core.tick)

    def critical(self, on: bool, now: int) -> None:  # noqa: ARG002
        """Say that the subsystem is in need (watermark, pressure), or no longer."""
        self._do("critical", lambda at: self._core.critical(on, at))

    def set_mode(self, mode: Mode, reason: Reason, now: int) -> None:  # noqa: ARG002
        """Set the mode by hand.

        Raises:
            ProxyError: `proxy.state` when stopped or while a hold is on.
        """
        self._do("set_mode", lambda at: self._core.set_mode(mode, reason, at))

    def operator_emergency(self, on: bool, now: int) -> None:  # noqa: ARG002
        """Force the default logic until taken back; off also clears the latch."""
        self._do("operator", lambda at: self._core.operator_emergency(on, at))

    def submit(self, recommendation: Recommendation, now: int) -> Reject:
        """Hand a recommendation in; return why it was refused, or `Reject.NONE`."""
        return self.submit_bytes(encode_recommendation(recommendation), now)

    def submit_bytes(self, data: bytes, now: int) -> Reject:  # noqa: ARG002
        """Hand in an encoded recommendation."""
        return self._do("submit", lambda at: self._core.submit_bytes(data, at))

    def report(self, arm: Arm, unit: int, cost: int, now: int) -> None:  # noqa: ARG002
        """Report what a scored window of one arm cost (fixed point, lower is better)."""
        self._do("report", lambda at: self._core.report(arm, unit, cost, at))

    def report_twin(self, cost_default: int, cost_model: int, now: int) -> None:  # noqa: ARG002
        """Report what one window cost each arm on the twin."""
        self._do("report_twin", lambda at: self._core.report_twin(cost_default, cost_model, at))

    def publish(self, record: npt.NDArray[np.void] | np.void) -> None:
        """Put one LABEL record (RECORD_DTYPE) into the ring."""
        with self._lock:
            self._held("publish")
            self._core.publish(record)

    def peek(self) -> tuple[npt.NDArray[np.void], ...]:
        """Return the unread records: up to two read-only views into the ring."""
        with self._lock:
            self._held("peek")
            return self._core.peek()

    def consume(self, count: int) -> int:
        """Mark the first `count` records of the last `peek` as read.

        Returns:
            How many of them were overwritten since that peek.

        Raises:
            ProxyError: `proxy.consume` for more records than there are.
        """
        with self._lock:
            self._held("consume")
            return self._core.consume(count)

    def snapshot(self, now: int) -> Snapshot:  # noqa: ARG002
        """Return everything a person or a feed wants to know."""
        with self._lock:
            self._held("snapshot")
            return self._core.snapshot(self._clock())

    def knob_status(self) -> KnobStatus:
        """Return what is in force."""
        with self._lock:
            return self._held("knobs").status()

    # -- what the kernel's work does (kmod/module/agent.c, knob.c) ------------------

    def look_after(self) -> float | None:
        """Let time pass, see to the knobs; return seconds until the next time.

        None: nothing will happen until somebody calls.
        """
        with self._lock:
            if self._knobs is None:
                return None
            now = self._clock()
            snapshot = self._core.snapshot(now)
            if snapshot.state == _STOPPED:
                self._knobs.restore()  # what was refused for a moment
                return 1.0 if self._knobs.applied else None
            self._core.tick(now)
            rest = self._follow(now)
            after = self._core.snapshot(now)
            due = [now + rest, now + _SECOND]
            if self.config.heartbeat_limit and after.state >= _GATED:
                due.append(after.last_heartbeat + self.config.heartbeat_limit + 1)
            if after.cooldown_until > now:
                due.append(after.cooldown_until)
            return max(0.001, (min(due) - now) / _SECOND)

    def _follow(self, now: int) -> int:
        """Bring the knobs to what the core wants now; return what is left of the epoch."""
        knobs = self._held("knobs")
        snapshot = self._core.snapshot(now)
        if knobs.overridden is not None and not snapshot.operator_hold:
            knobs.adopt()
        epoch, passed = divmod(now, self.config.epoch)
        if snapshot.state < _LEARNING:
            self._epoch, self._arm = -1, Arm.DEFAULT
        elif self._epoch != epoch:
            decision = self._core.decide((), epoch, self._default_action, now)
            self._epoch, self._arm, self._action = epoch, decision.arm, decision.action
        elif not lib.mlp_valid(self._native, 0, now):
            self._arm = Arm.DEFAULT
        if self._arm is Arm.MODEL:
            knobs.apply(self._action)
            # Refused, or somebody else's: that was an emergency.
            if self._core.snapshot(now).state < _LEARNING:
                knobs.restore()
        else:
            knobs.restore()
        return self.config.epoch - passed

    def _write_failed(self) -> None:
        # Refused while stopped or held: then it is in emergency anyway.
        with contextlib.suppress(ProxyError):
            self._core.set_mode(Mode.EMERGENCY, Reason.WRITE_FAILED, self._clock())

    def _overridden(self) -> None:
        lib.mlp_override(self._native, self._clock())


def _mind(held: weakref.ref[InProcessKnobProxy], wake: threading.Event) -> None:
    """The thread: it does not keep the proxy alive."""
    pause: float | None = None
    while True:
        wake.wait(pause)
        wake.clear()
        proxy: Any = held()
        if proxy is None or proxy.closed:
            return
        pause = proxy.look_after()
        del proxy
