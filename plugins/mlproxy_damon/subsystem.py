"""The subsystem: watches a program, learns what taking its memory costs, recommends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from mlproxy import StepResult, SubsystemContext, mode_events_from_records
from mlproxy.events import PluginEvent
from mlproxy.learn import Learner
from mlproxy.proxy import (
    RECORD_DTYPE,
    Arm,
    Kind,
    Knob,
    KnobProxy,
    Proxy,
    Recommendation,
    RecordType,
)
from mlproxy_damon.budget import FaultBudget
from mlproxy_damon.chooser import Chooser, Outcome
from mlproxy_damon.decision import (
    MEMORY,
    MOST_LABEL,
    SECOND,
    SPEC,
    STRAIN,
    Context,
    ladder,
    proxy_config,
    row_of,
)
from mlproxy_damon.defaults import RECLAIM_BYTES, aggregations, default_age, default_scheme
from mlproxy_damon.diary import Diary, words
from mlproxy_damon.kdamond import NEVER, Kdamond, Monitoring
from mlproxy_damon.meter import CpuMeter, adjusted
from mlproxy_damon.models import POLICY, recipes
from mlproxy_damon.options import COST_UNIT, PROXY, DamonOptions
from mlproxy_damon.processes import ProcessTable, finder
from mlproxy_damon.records import RecordFile
from mlproxy_damon.regions import RegionTrace
from mlproxy_damon.tally import Tally, Totals
from mlproxy_damon.watch import Change, Watch
from mlproxy_damon.window import Window, stretch

__all__ = ("DamonSubsystem",)

PERIOD: Final = 0.25
VALID_EPOCHS: Final = 3
FOLLOW: Final = 5
"""Seconds between two looks at what a program has mapped."""
COMMIT: Final = 0.2
"""Seconds beyond an aggregation that a commit may take."""
MARGIN: Final = 0.45
"""Seconds before the end of an epoch in which nothing is begun."""


class DamonSubsystem:
    """Steers the scheme of one kdamond.

    Args:
        root: where /sys and /proc are found; for tests.
        clock: nanoseconds of the proxy's time (CLOCK_MONOTONIC); for tests.
    """

    name = "damon"
    period_seconds = PERIOD

    def __init__(self, root: str = "/", clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._root = root
        self._clock = clock
        self._closing: list[Callable[[], None]] = []

    # -- life -------------------------------------------------------------------

    def start(self, context: SubsystemContext) -> Sequence[Proxy]:
        """Take DAMON, make the scheme, hold its knobs.

        Raises:
            DamonError: `damon.unsupported`, `damon.foreign`, `damon.refused`,
                `damon.no_trace`, `damon.records`.
            ProxyError: the knobs cannot be had.
        """
        options: DamonOptions = context.options
        self._options = options
        state = Path(context.state_dir)
        self._table = ProcessTable(self._root)
        self._kdamond = Kdamond(state / "kdamond.json", root=self._root)
        self._kdamond.acquire()
        self._closing.append(self._kdamond.release)
        self._monitoring = Monitoring(
            "fvaddr" if options.operations == "vaddr" else options.operations,
            options.sample_ms[0] * 1000,
            options.aggregation_ms * 1000,
            (options.regions[0], options.regions[1]),
        )
        self._kdamond.configure(self._monitoring, default_scheme(options))
        self._rungs = ladder(options.min_age_seconds, options.quota_mib << 20, options.quota_shares)
        records = Path(options.records) if options.records else state / "records.jsonl"
        file = RecordFile(records, options.records_mib << 20)
        self._closing.append(file.close)
        self._diary = Diary(file, options.record_seconds)
        trace = RegionTrace(root=self._root)
        self._closing.append(trace.close)
        self._make_proxy(context)
        self._learn_from_nothing(context.seed)
        machine = options.operations == "paddr"
        find = None if machine else finder(
            self._table,
            pid=options.pid,
            pid_file=options.pid_file,
            process=options.process,
            cgroup=options.cgroup,
        )  # fmt: skip
        self._watch = Watch(options, self._kdamond, self._table, find, trace)
        self._closing.append(self._watch.close)
        self._tally = Tally(
            self._table, cgroup=options.cgroup, work_file=options.work_file, machine=machine
        )
        self._events: list[PluginEvent] = []
        self._diary.note("start", self._clock(), options=options.model_dump(mode="json"))
        self._mind_target(self._clock())
        return [self._proxy]

    def _make_proxy(self, context: SubsystemContext) -> None:
        options = self._options
        settle = options.aggregation_ms / 1000 + COMMIT
        config = context.proxy_config(
            proxy_config(context.seed, len(self._rungs), options.epoch_seconds, settle)
        )
        self._epoch, self._settle = config.epoch, config.epoch * config.epoch_settle // 1_000_000
        most = max(options.quota_mib << 20, RECLAIM_BYTES)
        self._proxy: KnobProxy = context.knob_proxy(
            config,
            [
                Knob(str(self._kdamond.min_age_file), 1, NEVER),
                Knob(str(self._kdamond.quota_file), 4096, most),
                # Written last of all when the proxy ends: no scheme is left behind.
                Knob(str(self._kdamond.state_file), restore="off", trigger="commit"),
            ],
            settings=[[aggregations(options, r.min_age), r.quota_bytes] for r in self._rungs],
            default_action=0,
        )
        self._closing.append(self._proxy.close)

    def _learn_from_nothing(self, seed: int) -> None:
        options = self._options
        self._learner = Learner(SPEC, recipes(), POLICY, seed=seed, proxy=PROXY)
        self._chooser = Chooser(
            self._learner, self._rungs, options.min_age_seconds, options.epoch_seconds
        )
        self._budget = FaultBudget(
            options.more_faults, options.faults_per_work, options.refaults_percent_per_minute
        )
        self._report = self._learner.report()
        self._meter = CpuMeter()
        self._seq = self._labels = 0
        self._begin_again()

    def _begin_again(self) -> None:
        """Nothing is known of the present processes."""
        self._baseline_left = self._options.baseline_seconds
        self._window: Window | None = None
        self._closed = -1  # epoch whose window is over
        # Epoch, and what was known before it: the one that comes, and the present one.
        self._decided: tuple[int, Context | None] = (-1, None)
        self._before: tuple[int, Context | None] = (-1, None)
        self._sent: tuple[int, int] = (-1, 0)  # choice, time
        self._strain = 0.0
        self._looked: tuple[int, Totals] | None = None
        self._considered = 0
        self._choice = -1
        self._adjust = False
        self._next_follow = 0

    def stop(self) -> None:
        """Put the defaults back, switch DAMON off, take the kdamond away."""
        while self._closing:
            self._closing.pop()()

    def now(self, proxy: str) -> int:  # noqa: ARG002 - there is one
        """Nanoseconds of CLOCK_MONOTONIC."""
        return self._clock()

    # -- one step -----------------------------------------------------------------

    def step(self) -> StepResult:
        """Look, learn when a window is over, recommend for the next epoch.

        Raises:
            DamonError: `damon.gone`, `damon.foreign`, `damon.refused`.
        """
        now = self._clock()
        self._proxy.heartbeat(now)
        self._mind_target(now)
        if self._watch.on:
            pictured = self._watch.picture(
                now / SECOND,
                reclaiming=self._reclaiming(),
                samples=self._monitoring.aggregation_us / self._monitoring.sample_us,
            )
            totals = self._tally.update(self._watch.processes)
            if pictured:
                self._diary.pictures(now, self._watch.pictures)
            self._mind_window(now, totals)
            self._recommend(now, totals)
            self._mind_cpu(now)
        self._proxy.tick(now)
        records = self._proxy.peek()
        events = mode_events_from_records(self._proxy.config, records, COST_UNIT)
        self._proxy.consume(sum(len(part) for part in records))
        told, self._events = self._events, []
        return StepResult(
            worked=False,
            metrics={PROXY: self._metrics()},
            models={PROXY: self._report},
            events=[*told, *events, *self._learner.take_events()],
        )

    # -- the program ----------------------------------------------------------------

    def _quiet(self, now: int, seconds: float) -> bool:
        """Whether so much is left of this epoch: the proxy writes at its beginning."""
        passed = now % self._epoch
        return passed >= self._settle and self._epoch - passed >= (seconds + MARGIN) * SECOND

    def _mind_target(self, now: int) -> None:
        may_change = not self._watch.on or self._quiet(now, COMMIT)
        snapshot = self._proxy.snapshot(now)
        for change in self._watch.look(
            now / SECOND, may_change=may_change and not snapshot.operator_hold
        ):
            self._tell(change)
            self._diary.note(
                "target",
                now,
                what=change.what,
                message=change.message,
                pids=[p.pid for p in self._watch.processes],
            )
            if change.what in ("target-found", "target-changed"):
                self._begin_again()
                self._budget.credit(*self._tally.faults_and_pages(self._watch.processes))
                if change.what == "target-found":
                    self._proxy.start(now)
            else:
                if change.what == "kdamond-stopped":
                    # An operator's word: until `mlproxy emergency off`.
                    self._proxy.operator_emergency(True, now)
                    self._watch.resume(now / SECOND)
                if change.what != "target-missing":
                    self._proxy.stop(now)

    def _tell(self, change: Change) -> None:
        self._events.append(
            PluginEvent(proxy=PROXY, what=change.what, code=change.code, message=change.message)
        )

    # -- learning ---------------------------------------------------------------------

    def _mind_window(self, now: int, totals: Totals) -> None:
        """Account for what passed; begin a window when a setting counts, end it in time."""
        last, self._looked = self._looked, (now, totals)
        if last is None:
            self._accounted = (now, totals)
            return
        epoch, passed = divmod(now, self._epoch)
        window = self._window
        if window is not None and window.epoch != epoch:
            window = self._window = None  # this step came too late
        if window is None:
            if passed >= self._settle and epoch != self._closed:
                known = self._before[1] if self._before[0] == epoch else None
                self._window = Window(epoch, known, totals, self._proxy.knob_status())
        elif self._epoch - passed <= MARGIN * SECOND:
            self._window, self._closed = None, epoch
            self._close(window, totals, now)

    def _close(self, window: Window, totals: Totals, now: int) -> None:
        # Faults of the whole time since the last window count, whoever acted in between:
        # nothing escapes the account.
        since, before = self._accounted
        part = stretch(before, totals, (now - since) / SECOND)
        self._accounted = (now, totals)
        if self._baseline_left > 0:
            self._baseline_left -= part.seconds
            self._budget.baseline(part)
            self._note_window(now, totals, "baseline", 0, (0.0, 0.0))
            return
        excess, allowed = self._budget.add(part)
        self._strain = excess / max(allowed, 1.0)
        debt = self._budget.headroom < 0
        whose = window.whose(self._proxy.knob_status())
        arm, rung = ("mixed", 0) if whose is None else (whose[0].name.lower(), whose[1])
        self._note_window(now, totals, arm, rung, (excess, allowed))
        self._chooser.pass_window()
        if whose is None:
            return
        acted, choice = whose
        self._proxy.report(
            acted, window.epoch, round(COST_UNIT * self._cost(acted, totals, excess)), now
        )
        taken = (totals.whole - totals.resident) - (window.totals.whole - window.totals.resident)
        self._chooser.learn(Outcome(choice, taken, excess, allowed), window.context, debt=debt)
        if window.context is None:
            return
        row = row_of(
            window.context,
            self._rungs[choice],
            self._options.min_age_seconds,
            self._options.epoch_seconds,
        )
        labels = (
            (MEMORY, MOST_LABEL * totals.resident / max(1, totals.whole)),
            (STRAIN, min(MOST_LABEL, self._strain)),
        )
        for stream, label in labels:
            self._labels += self._learner.observe(_record(stream, row, label, now))
        self._report = self._learner.report()

    def _note_window(
        self, now: int, totals: Totals, arm: str, rung: int, paid: tuple[float, float]
    ) -> None:
        self._diary.window(now, totals, arm, self._rungs[rung], paid, self._budget, self._meter)

    def _reclaiming(self) -> float:
        """Age in seconds from which memory is taken now; infinite: none is."""
        status = self._proxy.knob_status()
        if status.applied:
            return self._rungs[status.setting].min_age
        return default_age(self._options)

    def _cost(self, arm: Arm, totals: Totals, excess: float) -> float:
        """Memory in use over what it would be, and faults beyond those allowed.

        What is taken out stays out when the default acts: that is the model's doing, in
        whichever epoch it shows. The default's cost is what it would have left resident
        by itself.
        """
        if arm is Arm.MODEL:
            return totals.resident / max(1, totals.whole) + self._budget.penalty(excess)
        age = default_age(self._options)
        return 1.0 if math.isinf(age) else max(0.01, 1.0 - self._watch.idle([age])[0])

    def _recommend(self, now: int, totals: Totals) -> None:
        following = now // self._epoch + 1
        if self._decided[0] == following and now - self._considered < SECOND:
            return
        self._considered = now
        context = self._context(totals)
        if self._decided[0] != following:
            self._before = self._decided
        self._decided = (following, context)
        if context is None or self._baseline_left > 0:
            return
        choice = self._chooser.choose(context, self._budget)
        if choice == self._sent[0] and now - self._sent[1] < self._epoch:
            return
        if choice != self._choice:
            self._choice = choice
            self._diary.note("setting", now, **words(self._rungs[choice]))
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

    def _context(self, totals: Totals) -> Context | None:
        if not totals.whole or not self._watch.pictures:
            return None
        return Context(
            whole=totals.whole,
            out=1.0 - totals.resident / totals.whole,
            idle=self._watch.idle(self._options.min_age_seconds),
            strain=self._strain,
            reuse=self._watch.reuse(),
            allowed=self._budget.spendable,
        )

    # -- what it takes -----------------------------------------------------------------

    def _mind_cpu(self, now: int) -> None:
        thread = self._kdamond.thread
        used = self._table.thread_seconds(thread) if thread else None
        if self._meter.update(now / SECOND, used):
            wanted = adjusted(self._monitoring, self._meter.kdamond, self._options)
            self._adjust = wanted != self._monitoring
        room = self._options.aggregation_ms / 1000 + COMMIT
        if not self._quiet(now, room):
            return
        if now >= self._next_follow:
            self._next_follow = now + FOLLOW * SECOND
            if self._watch.follow():
                self._kdamond.commit()
        elif self._adjust:
            self._adjust = False
            self._monitoring = adjusted(self._monitoring, self._meter.kdamond, self._options)
            self._kdamond.set_monitoring(self._monitoring)
            self._kdamond.commit()
            self._diary.note(
                "monitoring",
                now,
                sample_us=self._monitoring.sample_us,
                regions=self._monitoring.regions[1],
                kdamond_cpu=round(self._meter.kdamond, 4),
            )

    # -- what is told --------------------------------------------------------------------

    def _metrics(self) -> dict[str, float]:
        totals = self._looked[1] if self._looked is not None else None
        found = self._diary.metrics(self._budget, self._meter, self._monitoring, totals)
        targets = float(len(self._watch.processes)) if self._watch.on else 0.0
        return found | {"targets": targets} | words(self._rungs[max(0, self._choice)])


def _record(stream: int, row: dict[int, int], label: float, now: int) -> npt.NDArray[np.void]:
    """A LABEL record, as the learner takes it."""
    record = np.zeros(1, RECORD_DTYPE)
    record["type"] = int(RecordType.LABEL)
    record["stream"] = stream
    record["time"] = now
    record["cost"] = round(label * SPEC.label_scale)
    record["nr_features"] = len(row)
    record["features"][0, : len(row)] = list(row.values())
    return record
