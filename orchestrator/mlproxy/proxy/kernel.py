"""A proxy in the kernel, through /dev/mlproxy (kmod/uapi/mlproxy_ioctl.h)."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from mlproxy import _core
from mlproxy.errors import ProxyError
from mlproxy.proxy.device import DEVICE
from mlproxy.proxy.kernel_make import KernelClock, Made, attach, create
from mlproxy.proxy.knob import Knob, KnobStatus
from mlproxy.proxy.native import (
    decision_of,
    feature_row,
    native_config,
    native_record,
    refused_config,
    snapshot_of,
)
from mlproxy.proxy.recommendation import encode_recommendation
from mlproxy.proxy.refusal import failure
from mlproxy.proxy.ring import RingReader
from mlproxy.proxy.types import (
    Arm,
    Decision,
    Mode,
    ProxyConfig,
    Reason,
    Recommendation,
    Reject,
    Snapshot,
)

__all__ = ("KernelClock", "KernelProxy")

ffi = _core.ffi
lib = _core.lib

_MAX_RANK: Final = int(lib.MLP_MAX_RANK)


class KernelProxy:
    """One decision's proxy in the kernel (`mlproxy.proxy.types.Proxy`).

    Made by `create` (it ends with this object's file) or `attach` (an in-kernel
    user's). The kernel ends this agent's part when the file is closed, however
    that comes about. Every method takes `now` as the protocol has it; only a
    proxy on the caller's clock looks at it.

    Several threads may call it, but only one at a time `peek`, `consume`, `close`.

    Raises:
        ProxyError: from every method: `proxy.closed` after `close`, `proxy.gone`
            when the kernel's side is gone, `kernel.call` for a refusal that has
            no meaning here.
    """

    guard: Final = "kernel"

    def __init__(self, made: Made) -> None:
        self._file = made.file
        self._config = made.config
        self._clock = made.clock
        self._rights = made.rights
        self._reader = RingReader(made.file.memory, made.capacity)

    # -- coming and going -------------------------------------------------------

    @classmethod
    def create(
        cls,
        config: ProxyConfig,
        *,
        capacity: int = 65536,
        clock: KernelClock = KernelClock.MONOTONIC,
        knobs: Sequence[Knob] = (),
        settings: Sequence[Sequence[int]] = (),
        default_action: int = 0,
        device: str = DEVICE,
    ) -> Self:
        """Make a proxy that lives as long as this object's file.

        Args:
            config: what is fixed for its life.
            capacity: records in the ring, a power of two, at least 1.
            clock: MONOTONIC (nanoseconds), or CALLER: what each call says.
            knobs: tunables that the kernel writes in the model's epochs and puts
                back in all other times; kind VALUE (one) or CHOICE, trial SWITCHBACK.
            settings: CHOICE with knobs: per choice one value per knob that is no
                trigger, shape [config.max + 1, knobs].
            default_action: with knobs: what samples give as the default's action.
            device: where the module is.

        Raises:
            ProxyError: `kernel.no_module`, `kernel.permission`, `kernel.version`;
                `proxy.config` naming the field, `proxy.exists`; `knob.open`,
                `knob.permission`, `knob.not_writable`, `knob.file`, `knob.range`,
                `knob.restore`, `knob.busy`, `knob.settings`.
        """
        return cls(create(config, capacity, clock, knobs, settings, default_action, device))

    @classmethod
    def attach(cls, name: str, *, watchdog_ns: int = 0, device: str = DEVICE) -> Self:
        """Become the agent of an in-kernel user's proxy.

        Args:
            name: of the proxy, as in /sys/class/mlproxy.
            watchdog_ns: real time without a heartbeat until emergency, for proxies
                whose own clock says nothing about that; 0: none.
            device: where the module is.

        Raises:
            ProxyError: `kernel.no_module`, `kernel.permission`, `kernel.version`;
                `proxy.unknown`, `proxy.busy`, `proxy.config` (a name too long).
        """
        return cls(attach(name, watchdog_ns, device))

    def close(self) -> None:
        """Stop and let the proxy go; a second time is harmless.

        Record views that were kept stay readable, as zeros.
        """
        # Stopping comes first so that knobs are back when this returns, and is
        # not needed: the kernel would do it on the close.
        with contextlib.suppress(ProxyError):
            self.stop(self.snapshot(0).mode_since)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- what it is ---------------------------------------------------------------

    @property
    def config(self) -> ProxyConfig:
        """What the proxy was made with."""
        return self._config

    @property
    def clock(self) -> KernelClock:
        """Whose time it lives in."""
        return self._clock

    @property
    def rights(self) -> int:
        """What this agent may do beside steering (MLP_AGENT_*)."""
        return self._rights

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._file.fileno() < 0

    def now(self) -> int:
        """Return the proxy's time: nanoseconds, or the owner's unit.

        A proxy on the caller's clock has none: 0.
        """
        if self._clock is KernelClock.MONOTONIC:
            return time.monotonic_ns()
        return self.snapshot(0).now if self._clock is KernelClock.OWNER else 0

    def _time(self, now: int) -> int:
        return now if self._clock is KernelClock.CALLER else 0

    # -- life and mode --------------------------------------------------------------

    def _at(self, request: int, now: int, what: str) -> None:
        argument = ffi.new("struct mlp_ioc_time *", {"now": self._time(now)})
        self._file.call(request, argument, what)

    def start(self, now: int) -> None:
        """Let the agent begin: stopped -> learning.

        Raises:
            ProxyError: `proxy.state` when it has been started already.
        """
        self._at(lib.MLP_IOC_START, now, "start")

    def stop(self, now: int, reason: Reason = Reason.AGENT_GONE) -> None:
        """Stop: the default acts from now on. Stopping twice is harmless."""
        argument = ffi.new("struct mlp_ioc_mode *", {"reason": int(reason), "now": self._time(now)})
        self._file.call(lib.MLP_IOC_STOP, argument, "stop")

    def reinit(self, config: ProxyConfig, now: int) -> None:
        """Begin anew with another configuration; only while stopped.

        Raises:
            ProxyError: `proxy.config` for a field that is not allowed or may not
                change, `proxy.state` while it runs.
        """
        argument = ffi.new("struct mlp_ioc_reinit *", {"now": self._time(now)})
        argument.config = native_config(config)[0]
        error = self._file.try_call(lib.MLP_IOC_REINIT, argument)
        bad = ffi.string(argument.bad).decode(errors="replace")
        if error == -errno.EINVAL and bad:
            raise refused_config(config, bad)
        if error < 0:
            raise failure(-error, "reinit", self._config.name)
        self._config = config

    def heartbeat(self, now: int) -> None:
        """Say that the agent is alive."""
        self._at(lib.MLP_IOC_HEARTBEAT, now, "heartbeat")

    def tick(self, now: int) -> None:
        """Let time pass; the kernel does that itself but on the caller's clock."""
        if self._clock is KernelClock.CALLER:
            self._at(lib.MLP_IOC_TICK, now, "tick")

    def _switch(self, request: int, on: bool, now: int, what: str) -> None:
        argument = ffi.new("struct mlp_ioc_switch *", {"on": int(on), "now": self._time(now)})
        self._file.call(request, argument, what)

    def critical(self, on: bool, now: int) -> None:
        """Say that the subsystem is in need (watermark, pressure), or no longer."""
        self._switch(lib.MLP_IOC_CRITICAL, on, now, "critical")

    def operator_emergency(self, on: bool, now: int) -> None:
        """Force the default logic until taken back; off also clears the latch.

        Raises:
            ProxyError: `proxy.permission`, off takes CAP_SYS_ADMIN.
        """
        self._switch(lib.MLP_IOC_OPERATOR, on, now, "operator")

    def set_mode(self, mode: Mode, reason: Reason, now: int) -> None:
        """Set the mode by hand.

        Raises:
            ProxyError: `proxy.state` when stopped or while a hold is on,
                `proxy.permission`: a higher mode takes CAP_SYS_ADMIN.
        """
        argument = ffi.new(
            "struct mlp_ioc_mode *",
            {"mode": int(mode), "reason": int(reason), "now": self._time(now)},
        )
        self._file.call(lib.MLP_IOC_SET_MODE, argument, "set_mode")

    # -- recommendations --------------------------------------------------------------

    def submit(self, recommendation: Recommendation, now: int) -> Reject:
        """Hand a recommendation in; return why it was refused, or `Reject.NONE`."""
        return self.submit_bytes(encode_recommendation(recommendation), now)

    def submit_bytes(self, data: bytes, now: int) -> Reject:
        """Hand in an encoded recommendation."""
        body = ffi.from_buffer(data)
        argument = ffi.new("struct mlp_ioc_submit *")
        argument.data = int(ffi.cast("uintptr_t", body))
        argument.length = len(data)
        argument.now = self._time(now)
        error = self._file.try_call(lib.MLP_IOC_SUBMIT, argument)
        if error < 0 and not argument.reject:
            raise failure(-error, "submit", self._config.name)
        return Reject(argument.reject)

    # -- operations of the agent's own ----------------------------------------------

    def decide(
        self,
        features: npt.ArrayLike,
        unit: int,
        default_action: int,
        now: int,
        *,
        stream: int = 0,
    ) -> Decision:
        """Decide one operation of this process (in-kernel users do that in the kernel).

        Args:
            features: quantised, int32, `config.nr_features` of them.
            unit: trial unit (whose operations stay with one arm).
            default_action: what the default logic would do.
            now: proxy time.
            stream: which feature stream.

        Raises:
            ProxyError: `proxy.features` when the number of features is wrong,
                `proxy.permission` when the operations are not this agent's.
        """
        row = feature_row(self._config, features)
        argument = ffi.new("struct mlp_ioc_decide *")
        argument.unit, argument.now = unit, self._time(now)
        argument.stream, argument.default_action = stream, default_action
        ffi.memmove(argument.features, ffi.from_buffer(row), row.nbytes)
        self._file.call(lib.MLP_IOC_DECIDE, argument, "decide")
        return decision_of(argument.decision)

    def decide_rank(self, unit: int, now: int, *, limit: int = _MAX_RANK) -> tuple[int, ...]:
        """Return the ids the model prefers, best first; empty: the default acts."""
        argument = ffi.new("struct mlp_ioc_rank *")
        argument.unit, argument.now = unit, self._time(now)
        argument.max = min(limit, _MAX_RANK)
        self._file.call(lib.MLP_IOC_RANK, argument, "decide_rank")
        return tuple(argument.ids[0 : argument.nr])

    def report(self, arm: Arm, unit: int, cost: int, now: int) -> None:
        """Report what a scored window of one arm cost (fixed point, lower is better).

        Raises:
            ProxyError: `proxy.permission` when the owner measures it itself.
        """
        argument = ffi.new(
            "struct mlp_ioc_report *",
            {"arm": int(arm), "unit": unit, "cost": cost, "now": self._time(now)},
        )
        self._file.call(lib.MLP_IOC_REPORT, argument, "report")

    def report_twin(self, cost_default: int, cost_model: int, now: int) -> None:
        """Report what one window cost each arm on the twin.

        Raises:
            ProxyError: `proxy.permission` when the owner runs the twins.
        """
        argument = ffi.new(
            "struct mlp_ioc_twin *",
            {"cost_default": cost_default, "cost_model": cost_model, "now": self._time(now)},
        )
        self._file.call(lib.MLP_IOC_REPORT_TWIN, argument, "report_twin")

    def publish(self, record: npt.NDArray[np.void] | np.void) -> None:
        """Put one record (RECORD_DTYPE) into the ring: a label, or a sample of one's own."""
        argument = ffi.new("struct mlp_ioc_publish *")
        argument.record = native_record(record)[0]
        self._file.call(lib.MLP_IOC_PUBLISH, argument, "publish")

    # -- ring ---------------------------------------------------------------------------

    def peek(self) -> tuple[npt.NDArray[np.void], ...]:
        """Return the unread records: up to two read-only views into the kernel's ring."""
        self._file.still_open("peek")
        return self._reader.peek()

    def consume(self, count: int) -> int:
        """Mark the first `count` records of the last `peek` as read.

        Returns:
            How many of them were overwritten since that peek: do not trust
            the first that many.

        Raises:
            ProxyError: `proxy.consume` for more records than there are.
        """
        if count < 0:
            raise failure(errno.EINVAL, "consume", self._config.name, count=count)
        overwritten = self._reader.overwritten(count)
        argument = ffi.new("struct mlp_ioc_consume *", {"upto": self._reader.upto(count)})
        self._file.call(lib.MLP_IOC_CONSUME, argument, "consume")
        self._reader.consumed(count)
        return overwritten

    def fileno(self) -> int:
        """Return the file, for select, poll and event loops; -1 when closed.

        Readable: the watermark is reached or the mode has changed since the last
        `consume`. Hang-up: the kernel's side is gone.
        """
        return self._file.fileno()

    def set_watermark(self, records: int) -> None:
        """Let `wait` return at so many unread records (1 at first)."""
        argument = ffi.new("struct mlp_ioc_watermark *", {"records": records})
        self._file.call(lib.MLP_IOC_WATERMARK, argument, "watermark")

    def wait(self, seconds: float) -> bool:
        """Wait for records, a mode change or the end of the kernel's side.

        Returns:
            False when the time passed without any.
        """
        return self._file.wait(seconds)

    async def wait_async(self, seconds: float | None = None) -> bool:
        """Like `wait`, in an event loop; None: without an end."""
        return await self._file.wait_async(seconds)

    # -- looking ------------------------------------------------------------------------

    def snapshot(self, now: int) -> Snapshot:
        """Return everything a person or a feed wants to know."""
        argument = ffi.new("struct mlp_ioc_snapshot *", {"now": self._time(now)})
        self._file.call(lib.MLP_IOC_SNAPSHOT, argument, "snapshot")
        return snapshot_of(argument.snapshot)

    def knob_status(self) -> KnobStatus:
        """Return what is in force.

        Raises:
            ProxyError: `knob.none`.
        """
        out = ffi.new("struct mlp_ioc_knobs *")
        self._file.call(lib.MLP_IOC_KNOBS, out, "knobs")
        return KnobStatus(
            applied=bool(out.applied),
            overridden=out.overridden - 1 if out.overridden else None,
            setting=out.setting,
            writes=out.writes,
            restores=out.restores,
            failures=out.failures,
            since=out.since,
        )
