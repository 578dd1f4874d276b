"""The subsystem: watches a device, learns what its read-ahead costs, recommends."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mlproxy import StepResult, SubsystemContext, mode_events_from_records
from mlproxy.learn import Learner
from mlproxy.proxy import (
    RECORD_DTYPE,
    Kind,
    Knob,
    KnobProxy,
    Proxy,
    Recommendation,
    RecordType,
)
from mlproxy_readahead.accesses import AccessTrace
from mlproxy_readahead.chooser import Chooser
from mlproxy_readahead.decision import (
    SECOND,
    SPEC,
    Context,
    context_of,
    cost_of,
    proxy_config,
    row_of,
)
from mlproxy_readahead.demand import Demand, DemandMeter
from mlproxy_readahead.device import BlockDevice
from mlproxy_readahead.models import POLICY, UsualCost, recipes
from mlproxy_readahead.options import COST_UNIT, LARGEST_KB, PROXY, ReadaheadOptions
from mlproxy_readahead.window import Outcome, Window

__all__ = ("ReadaheadSubsystem",)

PERIOD = 0.05
LEAST_BYTES = 64 * 1024
"""A window in which less was asked for says nothing."""
RECENT = 3
"""Steps whose accesses are the present context; more when there were few."""
ENOUGH = 16
"""Accesses that make a context."""
VALID_EPOCHS = 3
BEST_WINDOW = 0.75


class ReadaheadSubsystem:
    """Steers `read_ahead_kb` of one device.

    Args:
        root: where /sys is found; for tests.
        clock: nanoseconds of the proxy's time (CLOCK_MONOTONIC); for tests.
    """

    name = "readahead"
    period_seconds = PERIOD

    def __init__(self, root: str = "/", clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._root = root
        self._clock = clock
        self._closing: list[Callable[[], None]] = []

    # -- life -------------------------------------------------------------------

    def start(self, context: SubsystemContext) -> Sequence[Proxy]:
        """Find the device, take its knob, begin to trace.

        Raises:
            DeviceError: `readahead.no_device`.
            TraceError: `readahead.no_trace`, `readahead.no_tracepoints`.
            ProxyError: the knob cannot be had.
        """
        options: ReadaheadOptions = context.options
        self._request_bytes = options.request_kb * 1024
        self._device = device = BlockDevice(options.device, root=self._root)
        self._closing.append(device.close)
        default = device.read_ahead_kb()
        self._settings = settings = sorted({*options.settings_kb, default})
        config = context.proxy_config(
            proxy_config(context.seed, len(settings), options.epoch_seconds)
        )
        self._epoch, self._settle = config.epoch, config.epoch * config.epoch_settle // 1_000_000
        self._learner = Learner(SPEC, recipes(), POLICY, seed=context.seed, proxy=PROXY)
        self._chooser = Chooser(self._learner, settings, settings.index(default), context.seed)
        self._usual = UsualCost()
        self._default_kb = default
        self._meter = DemandMeter()
        self._recent: deque[Demand] = deque([Demand()], maxlen=40)
        self._window: Window | None = None
        self._closed = -1  # epoch whose window is over
        self._stepped = self._clock()
        self._gap = PERIOD * 1e9
        self._sent: tuple[int, int] = (-1, 0)  # choice, time
        self._seq = self._labels = 0
        self._report = self._learner.report()
        self._totals = {"asked_bytes": 0.0, "read_bytes": 0.0, "read_requests": 0.0}
        self._last = device.counters()
        self._trace = AccessTrace(device.name, device.numbers(), options.trace_kb, root=self._root)
        self._closing.append(self._trace.close)
        self._proxy: KnobProxy = context.knob_proxy(
            config,
            [Knob(str(device.knob), 0, LARGEST_KB)],
            settings=[[kb] for kb in settings],
            default_action=settings.index(default),
        )
        self._proxy.start(self._clock())
        return [self._proxy]

    def stop(self) -> None:
        """End the tracing; mlproxy closes the proxy, which gives the knob back."""
        while self._closing:
            self._closing.pop()()

    def now(self, proxy: str) -> int:  # noqa: ARG002 - there is one
        """Nanoseconds of CLOCK_MONOTONIC."""
        return self._clock()

    # -- one step -----------------------------------------------------------------

    def step(self) -> StepResult:
        """Look, learn when a window is over, recommend for the next epoch.

        Raises:
            DeviceError: `readahead.device_gone`.
        """
        now = self._clock()
        elapsed, self._stepped = now - self._stepped, now
        self._gap += (elapsed - self._gap) / 8
        self._proxy.heartbeat(now)
        demand = self._meter.add(*self._trace.read(elapsed / SECOND))
        self._recent.append(demand)
        self._totals["asked_bytes"] += demand.asked_bytes
        if self._window is not None:
            self._window.demand += demand
        self._mind_window(now)
        self._recommend(now)
        self._proxy.tick(now)
        records = self._proxy.peek()
        events = mode_events_from_records(self._proxy.config, records, COST_UNIT)
        self._proxy.consume(sum(len(part) for part in records))
        return StepResult(
            worked=False,
            metrics={PROXY: self._metrics()},
            models={PROXY: self._report},
            events=[*events, *self._learner.take_events()],
        )

    def _mind_window(self, now: int) -> None:
        """Begin a window when an epoch has settled, end it before the epoch ends."""
        epoch, passed = divmod(now, self._epoch)
        window = self._window
        if window is not None and window.epoch != epoch:
            window = self._window = None  # this step came too late to report on it
        if window is None:
            if passed >= self._settle and epoch != self._closed:
                self._window = Window(
                    epoch,
                    self._device.counters(),
                    self._proxy.knob_status(),
                    self._device.read_ahead_kb(),
                )
        elif passed + 1.5 * self._gap >= self._epoch:
            self._window, self._closed = None, epoch
            outcome = window.close(self._device.counters(), self._proxy.knob_status())
            if outcome is not None and outcome.demand.asked_bytes >= LEAST_BYTES:
                self._learn(outcome, epoch)

    def _learn(self, outcome: Outcome, epoch: int) -> None:
        cost = cost_of(outcome.spent, outcome.demand, self._request_bytes)
        now = self._clock()
        context = context_of(outcome.demand)
        usual = self._usual.cost(context)
        if usual:
            # Compared is what a window costs over what the default costs in such a
            # context: else a trial would see the programs' phases, not the arms. No
            # window counts as a great success: trust comes from many better ones.
            relative = max(cost / usual, BEST_WINDOW)
            self._proxy.report(outcome.arm, epoch, round(relative * COST_UNIT), now)
        if outcome.setting_kb == self._default_kb:
            self._usual.add(context, cost)
        # The context is what the window turned out to be, not what was known before it: when
        # the work changes, whichever setting was in force would be blamed for the change.
        self._chooser.learn(context, outcome.setting_kb, cost)
        self._labels += self._learner.observe(_record(context, outcome.setting_kb, cost, now))
        self._report = self._learner.report()

    def _recommend(self, now: int) -> None:
        context = self._context()
        if context is None:
            return
        following = now // self._epoch + 1
        choice = self._chooser.choose(context, following)
        if choice == self._sent[0] and now - self._sent[1] < self._epoch:
            return
        self._sent = (choice, now)
        self._seq += 1
        self._proxy.submit(
            Recommendation(
                kind=Kind.CHOICE,
                seq=self._seq,
                expiry=now + VALID_EPOCHS * self._epoch,
                model_id=1,
                model_version=1 + self._labels,
                value=choice,
            ),
            now,
        )

    def _context(self) -> Context | None:
        """The shape of the latest accesses; None while nothing happens."""
        recent = Demand()
        for number, demand in enumerate(reversed(self._recent)):
            recent += demand
            if number + 1 >= RECENT and recent.accesses >= ENOUGH:
                return context_of(recent)
        return None

    def _metrics(self) -> dict[str, float]:
        counters = self._device.counters()
        self._totals["read_bytes"] += counters.read_bytes - self._last.read_bytes
        self._totals["read_requests"] += counters.requests - self._last.requests
        self._last = counters
        return {f"{key}_total": value for key, value in self._totals.items()}


def _record(context: Context, setting_kb: int, label: float, now: int) -> npt.NDArray[np.void]:
    """A LABEL record, as the learner takes it."""
    row = row_of(context, setting_kb)
    record = np.zeros(1, RECORD_DTYPE)
    record["type"] = int(RecordType.LABEL)
    record["time"] = now
    record["cost"] = round(label * SPEC.label_scale)
    record["nr_features"] = len(row)
    record["features"][0, : len(row)] = list(row.values())
    return record
