"""The subsystem: follows the file system, learns, recommends, and cleans."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlproxy import StepResult, SubsystemContext, mode_events_from_records
from mlproxy.events.types import FeedEvent
from mlproxy.learn import Doubts
from mlproxy.proxy import Arm, Kind, Mode, Proxy, Reason, Recommendation
from mlproxy_nilfs.brain import Brain
from mlproxy_nilfs.cleaner import Cleaner, Pace
from mlproxy_nilfs.decision import proxy_config
from mlproxy_nilfs.errors import NilfsError
from mlproxy_nilfs.gclib import GcLibrary, semaphore_file
from mlproxy_nilfs.lease import Lease, cleanerds, lock_path
from mlproxy_nilfs.options import COST_UNIT, PROXY
from mlproxy_nilfs.pool import Floats, Pool
from mlproxy_nilfs.tracker import Tracker, Written
from mlproxy_nilfs.twin import TwinShape
from mlproxy_nilfs.volume import ACTIVE, SegmentStat, Volume

if TYPE_CHECKING:
    from mlproxy.proxy import InProcessProxy, KernelProxy

__all__ = ("NilfsSubsystem",)

PERIOD: Final = 0.5
REFUSALS, VERDICTS = 6, 10
CLAIM_TRIES: Final = 10
_LEAST_SLOTS: Final = 8


class NilfsSubsystem:
    """Cleans one file system.

    Args:
        clock: seconds, for the time between cleanings.
    """

    name = "nilfs"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.period_seconds = PERIOD
        self._clock = clock
        self._closing: list[Callable[[], None]] = []

    # -- life -------------------------------------------------------------------

    def start(self, context: SubsystemContext) -> Sequence[Proxy]:
        """Claim the file system, read what is on it, make twins and proxy.

        Raises:
            NilfsError: `nilfs.not_mounted`, `nilfs.claimed`, `nilfs.cleanerd`, ...
            ProxyError: the proxy cannot be had.
        """
        self._options = options = context.options
        self._seed = context.seed
        self._volume = volume = Volume(options.device)
        self._closing.append(volume.close)
        self._claim = Lease(lock_path(options.lock_dir, options.device, "claim"))
        self._closing.append(self._claim.close)
        # The stand-by looks at the claim by taking it, for a moment.
        for _ in range(CLAIM_TRIES):
            if self._claim.take():
                break
            time.sleep(0.1)
        else:
            raise NilfsError(
                f"another mlproxy cleans {options.device}",
                code="nilfs.claimed",
                hint=f"stop it; {self._claim.path} is its lock",
            )
        self._claim.beat()
        self._active = Lease(lock_path(options.lock_dir, options.device, "active"))
        self._closing.append(self._active.close)
        self._cleaner: Cleaner | None = None
        self._brain: Brain | None = None
        self._rng = random.Random(context.seed)
        self._tracker = tracker = Tracker(volume)
        tracker.follow()
        self._unit = 0
        self._seq = 0
        self._due = 0.0
        self._doubts = Doubts(most=REFUSALS, of=VERDICTS)
        self._waiting = False
        self._arms = [0, 0]
        self._acted: Counter[str] = Counter()
        self._capacity = max(1, volume.geometry.segments * self._slots())
        config = context.proxy_config(
            proxy_config(context.seed, self._capacity, volume.geometry.segments)
        )
        self._proxy: InProcessProxy | KernelProxy = context.proxy(config)
        self._begun = self._now()
        self._proxy.start(self._now())
        if options.learn:
            self._brain = Brain(
                tracker,
                options.default,
                self._shape(),
                context.seed,
                self._worsen if options.poison in ("inverted", "random") else None,
            )
        return [self._proxy]

    def stop(self) -> None:
        """Let the stand-by clean; mlproxy closes the proxy."""
        while self._closing:
            self._closing.pop()()

    def now(self, proxy: str) -> int:  # noqa: ARG002 - there is one
        """Blocks that were written, by anything but cleaning, since the start."""
        return self._now()

    def _now(self) -> int:
        return self._tracker.blocks.clock

    def _slots(self) -> int:
        """Blocks that a segment holds in the mean: summaries take some, too."""
        pool = self._tracker.pool
        filled = [len(pool.places(segment)[0]) for segment in pool.used]
        usual = round(float(np.mean(filled))) if filled else pool.slots
        return max(_LEAST_SLOTS, min(usual, pool.slots))

    def _shape(self) -> TwinShape:
        options, shape = self._options, self._volume.geometry
        slots = self._slots()
        spare = round(shape.segments * options.min_clean_percent / 100) + shape.reserved_segments
        return TwinShape(
            shape.segments,
            slots,
            min(spare, shape.segments // 2),
            options.segments_per_clean_low,
            max(1, round(slots * options.min_reclaimable_percent_low / 100)),
        )

    # -- one step -----------------------------------------------------------------

    def step(self) -> StepResult:
        """Follow the disk, learn, and clean when it is time.

        Raises:
            NilfsError: `nilfs.ioctl`, `nilfs.reclaim`, ...
        """
        self._claim.beat()
        self._follow()
        worked = False
        if self._may_clean():
            worked = self._clean()
        now = self._now()
        self._proxy.heartbeat(now)
        self._proxy.tick(now)
        records = self._proxy.peek()
        events: list[FeedEvent] = list(
            mode_events_from_records(self._proxy.config, records, COST_UNIT)
        )
        self._proxy.consume(sum(len(part) for part in records))
        if self._brain is not None:
            events += self._brain.take_events()
        return StepResult(
            worked=worked,
            metrics={PROXY: self._metrics()},
            models={PROXY: self._brain.learner.report()} if self._brain is not None else {},
            events=events,
        )

    def _follow(self) -> None:
        brain = self._brain
        if brain is None:
            self._tracker.follow()
            self._tracker.refresh_some(2)
            return

        def visit(written: Written) -> None:
            brain.write(written.user)
            brain.kill(written.dead)
            # As many segments as were written are looked through for deleted files.
            brain.kill(self._tracker.refresh_some(4))
            if brain.window_due():
                brain.window(self._proxy, self._now())

        self._tracker.follow(visit)

    def _may_clean(self) -> bool:
        """Whether nobody else cleans; the stand-by stops when it sees our claim."""
        if self._cleaner is not None:
            return True
        if not self._active.take():
            self._waiting = True
            return False
        running = cleanerds(self._options.device)
        if running:
            raise NilfsError(
                f"nilfs_cleanerd (process {running[0]}) cleans {self._options.device}",
                code="nilfs.cleanerd",
                hint="stop it, and mount with the option nogc, so that mount starts none",
            )
        # Nobody cleans: a semaphore that is taken was left by one who died.
        semaphore_file(self._options.device).unlink(missing_ok=True)
        library = GcLibrary(self._volume.device, self._volume.folder)
        self._closing.append(library.close)
        self._cleaner = Cleaner(self._volume, library, self._tracker, self._options)
        self._waiting = False
        return True

    def _clean(self) -> bool:
        cleaner = self._cleaner
        assert cleaner is not None
        stat = self._volume.stat()
        self._proxy.critical(cleaner.critical(stat), self._now())
        pace = cleaner.pace(stat)
        if not pace.clean:
            self.period_seconds = PERIOD
            return False
        passed = self._clock()
        if passed < self._due:
            self.period_seconds = min(PERIOD, self._due - passed)
            return False
        self._due = passed + pace.seconds
        chosen, arm = self._choose(cleaner, stat, pace)
        if not chosen:
            cleaner.unstick(done=False)
            return False
        done = cleaner.clean(chosen, stat, pace)
        cleaner.unstick(done=done.cleaned + done.deferred > 0)
        if done.cleaned:
            blocks = done.cleaned * self._volume.geometry.segment_blocks
            cost = 0.02 + done.live / blocks
            self._proxy.report(arm, self._unit, round(cost * COST_UNIT), self._now())
            self._arms[arm] += done.cleaned
            acting = self._brain.acting if self._brain is not None else None
            self._acted[(acting or "") if arm == Arm.MODEL else self._options.default] += (
                done.cleaned
            )
        self.period_seconds = min(PERIOD, pace.seconds)
        return True

    def _choose(self, cleaner: Cleaner, stat: SegmentStat, pace: Pace) -> tuple[Sequence[int], Arm]:
        """What to clean, and whose choice that is."""
        self._unit += 1
        now = self._now()
        self._recommend(cleaner, stat, pace, now)
        ranked = self._proxy.decide_rank(self._unit, now, limit=pace.segments)
        if ranked:
            # Looked at again: a rank may be older than what is on the disk.
            if cleaner.refuses(ranked, stat) is None:
                return ranked, Arm.MODEL
            self._refused()
        return cleaner.by_default(stat, pace.segments), Arm.DEFAULT

    def _recommend(self, cleaner: Cleaner, stat: SegmentStat, pace: Pace, now: int) -> None:
        brain = self._brain
        if brain is None or brain.acting is None:
            return
        mode = self._proxy.snapshot(now)
        if mode.mode == Mode.EMERGENCY:
            return

        def score(pool: Pool, live: Floats) -> Floats:
            found = brain.scores(pool, live)
            assert found is not None
            return found

        ranked = cleaner.by_score(stat, pace.segments, score)
        if self._poisoned() == "invalid":
            ranked = self._invalid()
        if not ranked:
            return
        refused = cleaner.refuses(ranked, stat) is not None
        if refused:
            self._refused()
            return
        self._doubts.add(refused=False)
        self._seq += 1
        self._proxy.submit(
            Recommendation(
                kind=Kind.RANK,
                seq=self._seq,
                expiry=now + self._capacity // 16,
                model_id=brain.version[0],
                model_version=brain.version[1],
                ids=tuple(ranked),
            ),
            now,
        )

    def _refused(self) -> None:
        """A recommendation that must not be followed; too many are an emergency."""
        if self._doubts.add(refused=True):
            self._doubts.clear()
            self._proxy.set_mode(Mode.EMERGENCY, Reason.REJECTS, self._now())

    # -- demonstrations -------------------------------------------------------------

    def _poisoned(self) -> str | None:
        late = self._now() - self._begun >= self._options.poison_at * self._capacity
        return self._options.poison if late else None

    def _worsen(self, found: Floats) -> Floats:
        match self._poisoned():
            case "inverted":
                return -found
            case "random":
                return np.array([self._rng.random() for _ in found])
            case _:
                return found

    def _invalid(self) -> list[int]:
        flags = self._tracker.usage["flags"]
        kinds: list[list[int]] = [
            np.flatnonzero(flags & ACTIVE).tolist(),
            np.flatnonzero(flags == 0).tolist(),
            [len(flags) + 7],
        ]
        return [self._rng.choice(self._rng.choice([kind for kind in kinds if kind]))]

    def told(self) -> dict[str, Any]:
        """Mode, its reason, what acts, segments by what chose them; for the bench."""
        shown = self._proxy.snapshot(self._now())
        acting = (self._brain.acting or "") if self._brain is not None else ""
        return {
            "mode": shown.mode.name.lower(),
            "reason": shown.reason.name.lower(),
            "acting": acting,
            "chosen_by": dict(self._acted),
            "guard": self._proxy.guard,
        }

    # -- telling --------------------------------------------------------------------

    def _metrics(self) -> dict[str, float]:
        found = {
            "written_blocks": float(self._now()),
            "written_capacities": (self._now() - self._begun) / self._capacity,
            "waiting_ratio": float(self._waiting),
        }
        if self._cleaner is not None:
            totals = self._cleaner.totals
            found |= {
                "reclaimed_segments": float(totals.segments),
                "reclaimed_by_model_segments": float(self._arms[1]),
                "copied_blocks": float(totals.copied),
                "deferred_segments": float(totals.deferred),
                "reclaims_total": float(totals.reclaims),
            }
            for kind in ("current", "pinned", "free", "out-of-range", "twice", "bad"):
                found[f"refused_{kind.replace('-', '_')}_total"] = float(totals.refused[kind])
        if self._brain is not None:
            for name, cost in self._brain.costs.items():
                found[f"twin_{name.replace('-', '_')}_ratio"] = cost
        return found
