"""A proxy in pure Python: enough of one to test plugins and supervision without the core.

It keeps modes, holds, latch, rejects and a ring, but compares no arms: tests
promote it with `force`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlproxy.errors import ProxyError
from mlproxy.proxy.types import (
    Arm,
    Decision,
    Evidence,
    Mode,
    ProxyConfig,
    Reason,
    Recommendation,
    RecordType,
    Reject,
    Snapshot,
)

__all__ = ("RECORD", "FakeProxy")

RECORD = np.dtype(
    [
        ("seq", "<u8"),
        ("time", "<u8"),
        ("unit", "<u8"),
        ("cost", "<i8"),
        ("aux", "<i8"),
        ("model_version", "<u4"),
        ("type", "u1"),
        ("arm", "u1"),
        ("mode", "u1"),
        ("stream", "u1"),
        ("default_action", "<i4"),
        ("action", "<i4"),
        ("flags", "<u4"),
        ("nr_features", "<u4"),
        ("features", "<i4", (16,)),
    ]
)
"""struct mlp_record of kmod/uapi/mlproxy.h."""


class FakeProxy:
    """Implements `mlproxy.proxy.types.Proxy` without arms or tests.

    Args:
        config: as for a real proxy.
        capacity: of the ring, in records.

    Example:
        >>> from mlproxy.proxy.types import Kind
        >>> proxy = FakeProxy(ProxyConfig("demo", Kind.CHOICE))
        >>> proxy.start(0)
        >>> proxy.snapshot(1).mode.name
        'LEARNING'
    """

    guard = "in-process"

    def __init__(self, config: ProxyConfig, capacity: int = 256) -> None:
        self._config = config
        self._ring = np.zeros(capacity, RECORD)
        self._head = self._tail = self._lost = 0
        self._mode, self._reason = Mode.EMERGENCY, Reason.NONE
        self._since = self._mode_seq = self._trips = 0
        self._times = [0, 0, 0, 0]
        self._decisions = [0, 0]
        self._fallbacks = self._accepted = 0
        self._rejected = dict.fromkeys(Reject, 0)
        self._heartbeat = self._last_seq = self._cooldown = 0
        self._last: Recommendation | None = None
        self._started = self._hold = self._latched = self._critical = False

    @property
    def config(self) -> ProxyConfig:
        """What it was made with."""
        return self._config

    def start(self, now: int) -> None:
        """Emergency -> learning.

        Raises:
            ProxyError: `proxy.started`, it runs already.
        """
        if self._started:
            raise ProxyError("started already", code="proxy.started", proxy=self._config.name)
        self._started = True
        self._heartbeat = now
        self._change(Mode.LEARNING, Reason.START, now)

    def stop(self, now: int, reason: Reason = Reason.AGENT_GONE) -> None:
        """To emergency, for good (until started again)."""
        self._change(Mode.EMERGENCY, reason, now)
        self._started = False
        self._last = None

    def close(self) -> None:
        """Stop, if it has not been stopped."""
        if self._started:
            self.stop(self._since)

    def submit(self, recommendation: Recommendation, now: int) -> Reject:
        """Take a recommendation or refuse it, as the core does."""
        verdict = self._verdict(recommendation, now)
        if verdict is Reject.NONE:
            self._accepted += 1
            self._last_seq = recommendation.seq
            self._last = recommendation
        else:
            self._rejected[verdict] += 1
        return verdict

    def _verdict(self, r: Recommendation, now: int) -> Reject:
        in_range = self._config.min <= r.value <= self._config.max
        checks = (
            (not self._started, Reject.STATE),
            (r.kind != self._config.kind, Reject.KIND),
            (r.seq <= self._last_seq, Reject.REPLAY),
            (r.expiry <= now, Reject.EXPIRED),
            (r.expiry - now > self._config.max_expiry, Reject.EXPIRY),
            (r.program is None and not r.ids and not in_range, Reject.RANGE),
        )
        return next((reject for bad, reject in checks if bad), Reject.NONE)

    def decide(self, default_action: int, unit: int, now: int) -> Decision:
        """Whether model or default acts; the share of the mode is taken from the unit."""
        share = {
            Mode.EMERGENCY: 0,
            Mode.LEARNING: self._config.share_learning,
            Mode.COLLABORATION: self._config.share_collaboration,
            Mode.TRUSTED: self._config.share_trusted,
        }[self._mode]
        models_turn = unit * 7919 % 1_000_000 < share
        valid = self._last is not None and self._last.expiry > now
        if models_turn and not valid:
            self._fallbacks += 1
        arm = Arm.MODEL if models_turn and valid else Arm.DEFAULT
        self._decisions[arm] += 1
        if arm is Arm.DEFAULT or self._last is None:
            return Decision(Arm.DEFAULT, default_action, 0, 0)
        return Decision(arm, self._last.value, self._last.model_version, self._last.confidence)

    def heartbeat(self, now: int) -> None:
        """The agent is alive."""
        self._heartbeat = now

    def tick(self, now: int) -> None:
        """Fall to emergency when the heartbeat is missed."""
        limit = self._config.heartbeat_limit
        if self._started and limit and now - self._heartbeat > limit:
            self._change(Mode.EMERGENCY, Reason.HEARTBEAT, now)

    def critical(self, on: bool, now: int) -> None:
        """The subsystem is in need: default only; or no longer (without a cooldown)."""
        self._critical = on
        if on:
            self._change(Mode.EMERGENCY, Reason.CRITICAL, now)
        elif self._started and not self._hold and not self._latched:
            self._change(Mode.LEARNING, Reason.COOLDOWN, now)

    def set_mode(self, mode: Mode, reason: Reason, now: int) -> None:
        """Change the mode, unless the proxy is stopped, held or latched."""
        if mode is Mode.EMERGENCY or (self._started and not self._hold and not self._latched):
            self._change(mode, reason, now)

    def force(self, mode: Mode, reason: Reason, now: int) -> None:
        """For tests: change the mode whatever the state is."""
        self._change(mode, reason, now)

    def operator_emergency(self, on: bool, now: int) -> None:
        """Hold in emergency, or release (which clears the latch)."""
        self._hold = on
        if on:
            self._change(Mode.EMERGENCY, Reason.OPERATOR, now)
        else:
            self._latched = False
            if self._started and not self._critical:
                self._change(Mode.LEARNING, Reason.OPERATOR, now)

    def _change(self, mode: Mode, reason: Reason, now: int) -> None:
        if mode is self._mode:
            return
        self._times[self._mode] += max(0, now - self._since)
        self.publish(
            type=RecordType.MODE, time=now, mode=mode, stream=self._mode, default_action=reason
        )
        if mode is Mode.EMERGENCY and self._started and reason is not Reason.AGENT_GONE:
            self._trips += 1
        self._mode, self._reason, self._since = mode, reason, now
        self._mode_seq += 1

    def publish(self, **fields: int) -> None:
        """Put a record into the ring."""
        self._head += 1
        if self._head - self._tail > len(self._ring):
            self._tail += 1
            self._lost += 1
        row = self._ring[(self._head - 1) % len(self._ring)]
        row["seq"] = self._head
        for name, value in fields.items():
            row[name] = int(value)

    def snapshot(self, now: int) -> Snapshot:
        """Everything about the proxy."""
        times = list(self._times)
        times[self._mode] += max(0, now - self._since)
        last = self._last
        return Snapshot(
            now=now,
            mode=self._mode,
            reason=self._reason,
            mode_since=self._since,
            mode_seq=self._mode_seq,
            latched=self._latched,
            operator_hold=self._hold,
            trips=self._trips,
            mode_time=(times[0], times[1], times[2], times[3]),
            decisions=(self._decisions[0], self._decisions[1]),
            fallbacks=self._fallbacks,
            accepted=self._accepted,
            rejected={r: n for r, n in self._rejected.items() if r is not Reject.NONE},
            last_heartbeat=self._heartbeat,
            last_seq=self._last_seq,
            model_id=last.model_id if last else 0,
            model_version=last.model_version if last else 0,
            trial=Evidence(),
            twin=Evidence(),
            ring_head=self._head,
            ring_lost=self._lost,
            budget_used=0,
            cooldown_until=self._cooldown,
        )

    def peek(self) -> Sequence[npt.NDArray[np.void]]:
        """Unread records: one or two views."""
        first, last = self._tail % len(self._ring), self._head % len(self._ring)
        if self._head == self._tail:
            return []
        if first < last:
            return [self._ring[first:last]]
        return [part for part in (self._ring[first:], self._ring[:last]) if len(part)]

    def consume(self, count: int) -> int:
        """Mark records as read."""
        self._tail = min(self._head, self._tail + count)
        return 0
