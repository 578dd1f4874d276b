"""The proxy core inside this process, through cffi: the code that the kernel runs."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from mlproxy import _core
from mlproxy.errors import ProxyError
from mlproxy.proxy.native import (
    decision_of,
    feature_row,
    native_config,
    native_record,
    snapshot_of,
)
from mlproxy.proxy.recommendation import encode_recommendation
from mlproxy.proxy.ring import RingReader, ring_bytes
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

__all__ = ("InProcessProxy", "core_functions")

ffi = _core.ffi
lib = _core.lib

_CACHE_LINE: Final = 64


def core_functions() -> dict[str, int]:
    """Return addresses of the core's functions for other native extensions.

    Keys are the C names (`mlp_decide`, ...), types as in mlproxy_core.h; they
    stay valid as long as the process lives.
    """
    functions = ffi.new("struct mlpy_functions *")
    lib.mlpy_functions(functions)
    names = [name for name, _ in ffi.typeof("struct mlpy_functions").fields]
    return {f"mlp_{name}": int(ffi.cast("uintptr_t", getattr(functions, name))) for name in names}


class InProcessProxy:
    """One decision's proxy in this process (`mlproxy.proxy.types.Proxy`).

    Not thread-safe: one thread at a time may call it or the native functions
    on its pointer.

    Args:
        config: what is fixed for its life.
        capacity: records in the ring, a power of two; 0: no ring.
        now: proxy time at which it comes into being.

    Raises:
        ProxyError: `proxy.config`, naming the field.

    Example:
        >>> from mlproxy.proxy.types import Kind
        >>> proxy = InProcessProxy(ProxyConfig(name="demo", kind=Kind.CHOICE, max=1), capacity=64)
        >>> proxy.start(0)
        >>> proxy.set_mode(Mode.TRUSTED, Reason.OPERATOR, 1)
        >>> proxy.submit(Recommendation(Kind.CHOICE, 1, 99, 7, 1, value=1), 2).name
        'NONE'
        >>> sum(proxy.decide([], unit, 0, 3).action for unit in range(1000))
        946
    """

    guard: Final = "in-process"

    def __init__(self, config: ProxyConfig, *, capacity: int = 65536, now: int = 0) -> None:
        self._config = config
        self._cfg = native_config(config)
        if capacity < 0 or capacity >= 1 << 31 or capacity & (capacity - 1):
            raise ProxyError(
                f"ring capacity {capacity} is not a power of two",
                code="proxy.config",
                field="capacity",
            )
        self._memory = np.zeros(lib.mlp_proxy_size() + _CACHE_LINE, dtype=np.uint8)
        self._p = ffi.cast("struct mlp_proxy *", self._aligned(self._memory))
        slots = lib.mlp_slots_size(self._cfg)
        self._slots = np.zeros(slots + _CACHE_LINE, dtype=np.uint8)
        ring = ring_bytes(capacity)
        self._ring = np.zeros(ring + _CACHE_LINE, dtype=np.uint8)
        offset = self._aligned(self._ring) - self._ring.ctypes.data
        self._reader = RingReader(self._ring[offset : offset + ring], capacity)
        self._capacity = capacity
        self._decision = ffi.new("struct mlp_decision *")
        error = lib.mlp_init(
            self._p,
            self._cfg,
            ffi.cast("void *", self._aligned(self._slots)) if slots else ffi.NULL,
            ffi.cast("void *", self._aligned(self._ring)) if capacity else ffi.NULL,
            capacity,
            now,
        )
        self._refuse(error, "init")

    @staticmethod
    def _aligned(memory: npt.NDArray[np.uint8]) -> int:
        address: int = memory.ctypes.data
        return (address + _CACHE_LINE - 1) & ~(_CACHE_LINE - 1)

    @staticmethod
    def _refuse(error: int, call: str) -> None:
        if error:
            raise ProxyError(
                f"{call} is not possible in the proxy's present state",
                code="proxy.state",
                hint="`mlproxy status` shows the mode, its reason and what holds it",
                call=call,
            )

    @property
    def config(self) -> ProxyConfig:
        """What the proxy was made with."""
        return self._config

    @property
    def pointer(self) -> int:
        """Address of the struct mlp_proxy; valid as long as this object lives."""
        return int(ffi.cast("uintptr_t", self._p))

    def start(self, now: int) -> None:
        """Let the agent begin: stopped -> learning.

        Raises:
            ProxyError: `proxy.state` when it has been started already.
        """
        self._refuse(lib.mlp_start(self._p, now), "start")

    def stop(self, now: int, reason: Reason = Reason.AGENT_GONE) -> None:
        """Stop: the default acts from now on. Stopping twice is harmless."""
        self._refuse(lib.mlp_stop(self._p, now, reason), "stop")

    def close(self) -> None:
        """Stop, if it has not been stopped. The memory goes with the object."""
        self.stop(self.snapshot(0).mode_since)

    def submit(self, recommendation: Recommendation, now: int) -> Reject:
        """Hand a recommendation in; return why it was refused, or `Reject.NONE`."""
        return self.submit_bytes(encode_recommendation(recommendation), now)

    def submit_bytes(self, data: bytes, now: int) -> Reject:
        """Hand in an encoded recommendation."""
        return Reject(-lib.mlp_submit(self._p, ffi.from_buffer(data), len(data), now))

    def heartbeat(self, now: int) -> None:
        """Say that the agent is alive."""
        lib.mlp_heartbeat(self._p, now)

    def tick(self, now: int) -> None:
        """Let time pass: heartbeat limit, cooldown."""
        lib.mlp_tick(self._p, now)

    def critical(self, on: bool, now: int) -> None:
        """Say that the subsystem is in need (watermark, pressure), or no longer."""
        lib.mlp_critical(self._p, on, now)

    def set_mode(self, mode: Mode, reason: Reason, now: int) -> None:
        """Set the mode by hand.

        Raises:
            ProxyError: `proxy.state` when stopped or while a hold is on.
        """
        self._refuse(lib.mlp_set_mode(self._p, mode, reason, now), "set_mode")

    def operator_emergency(self, on: bool, now: int) -> None:
        """Force the default logic until taken back; off also clears the latch."""
        lib.mlp_operator(self._p, on, now)

    def decide(
        self,
        features: npt.ArrayLike,
        unit: int,
        default_action: int,
        now: int,
        *,
        stream: int = 0,
    ) -> Decision:
        """Decide one operation; native callers use `core_functions` instead.

        Args:
            features: quantised, int32, `config.nr_features` of them.
            unit: trial unit (whose operations stay with one arm).
            default_action: what the default logic would do.
            now: proxy time.
            stream: which feature stream.

        Raises:
            ProxyError: `proxy.features` when the number of features is wrong.
        """
        row = feature_row(self._config, features)
        native = ffi.cast("__s32 *", ffi.from_buffer(row)) if row.size else ffi.NULL
        out = self._decision
        lib.mlp_decide(self._p, stream, native, unit, default_action, now, out)
        return decision_of(out)

    def decide_rank(self, unit: int, now: int, *, limit: int = 64) -> tuple[int, ...]:
        """Return the ids the model prefers, best first; empty: the default acts."""
        ids = ffi.new("__u64[]", limit)
        return tuple(ids[0 : lib.mlp_decide_rank(self._p, unit, now, ids, limit)])

    def arm_of(self, unit: int, now: int) -> Arm:
        """Return the arm that the trial gives a unit."""
        return Arm(lib.mlp_arm_of(self._p, unit, now))

    def report(self, arm: Arm, unit: int, cost: int, now: int) -> None:
        """Report what a scored window of one arm cost (fixed point, lower is better)."""
        lib.mlp_report(self._p, arm, unit, cost, now)

    def report_twin(self, cost_default: int, cost_model: int, now: int) -> None:
        """Report what one window cost each arm on the twin."""
        lib.mlp_report_twin(self._p, cost_default, cost_model, now)

    def publish(self, record: npt.NDArray[np.void] | np.void) -> None:
        """Put one record (RECORD_DTYPE) into the ring; its seq is assigned there."""
        lib.mlp_publish(self._p, native_record(record))

    def peek(self) -> tuple[npt.NDArray[np.void], ...]:
        """Return the unread records: up to two read-only views into the ring."""
        return self._reader.peek()

    def consume(self, count: int) -> int:
        """Mark the first `count` records of the last `peek` as read.

        Returns:
            How many of them were overwritten since that peek: do not trust
            the first that many.

        Raises:
            ProxyError: `proxy.consume` for more records than there are.
        """
        if not self._capacity and not count:
            return 0
        overwritten = self._reader.overwritten(count)
        if count < 0 or lib.mlp_consume(self._p, self._reader.upto(count)):
            raise ProxyError(f"there are no {count} records to consume", code="proxy.consume")
        self._reader.consumed(count)
        return overwritten

    def snapshot(self, now: int) -> Snapshot:
        """Return everything a person or a feed wants to know."""
        s = ffi.new("struct mlp_snapshot *")
        lib.mlp_snapshot(self._p, s, now)
        return snapshot_of(s)
