"""What is learned: twins for every way to choose, models of how segments die, a champion."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlproxy.events.types import FeedEvent
from mlproxy.learn import DEFAULT, Learner
from mlproxy.proxy import RECORD_DTYPE, Proxy, RecordType, eval_program
from mlproxy_nilfs.arms import benefit, scores
from mlproxy_nilfs.decision import ARBITRATION, HAND_WRITTEN, LEARNED, SPEC, WINDOWS, recipes
from mlproxy_nilfs.options import COST_UNIT, PROXY
from mlproxy_nilfs.pool import FEATURES, Floats, Ids, Pool
from mlproxy_nilfs.tracker import Tracker
from mlproxy_nilfs.twin import Twin, TwinShape

__all__ = ("Brain",)

LABELS_PER_WINDOW: Final = 10
HORIZON: Final = 1 / 4
"""Share of the capacity that is written until a label is known."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A segment whose blocks' lives are being watched."""

    due: int
    row: npt.NDArray[np.int32]
    ids: Ids


class Brain:
    """Learns from the stream; says which segments the model would clean.

    Args:
        tracker: follows the disk.
        default: the default way to choose.
        shape: of the twins.
        seed: of models and samples.
        worsen: makes scores wrong, for demonstrations.
    """

    def __init__(
        self,
        tracker: Tracker,
        default: str,
        shape: TwinShape,
        seed: int,
        worsen: Callable[[Floats], Floats] | None = None,
    ) -> None:
        self._tracker = tracker
        self._rng = random.Random(seed)
        self._worsen = worsen
        self.learner = Learner(SPEC, recipes(), ARBITRATION, seed=seed, proxy=PROXY)
        self._twins = {
            DEFAULT: Twin(shape, tracker.blocks, lambda pool, live: scores(default, pool, live))
        }
        for name in (*HAND_WRITTEN, *LEARNED):
            self._twins[name] = Twin(shape, tracker.blocks, self._scorer(name))
        for twin in self._twins.values():
            twin.adopt(tracker.pool)
        self._before = dict.fromkeys(self._twins, (0, 0))
        self._pending: deque[_Pending] = deque()
        self._programs: dict[str, Any] = {}
        self.acting: str | None = None
        """The way that is recommended; None: none."""
        self.version = (0, 0)
        """Model id and version of what is recommended."""
        self._capacity = tracker.pool.segments * shape.slots
        self._next = tracker.blocks.clock + self._capacity // WINDOWS
        self.costs: dict[str, float] = {}
        """What each twin copied per segment cleaned in the last window, as a share of one."""

    def write(self, ids: Ids) -> None:
        """The stream's next blocks."""
        for twin in self._twins.values():
            twin.write(ids)

    def kill(self, ids: Ids) -> None:
        """Blocks that were deleted."""
        if len(ids):
            for twin in self._twins.values():
                twin.kill(ids)

    def _scorer(self, name: str) -> Callable[[Pool, Floats], Floats]:
        def score(pool: Pool, live: Floats) -> Floats:
            found = self._honest(name, pool, live)
            poisoned = self._worsen is not None and name == self.acting
            return self._worsen(found) if poisoned and self._worsen is not None else found

        return score

    def _honest(self, name: str, pool: Pool, live: Floats) -> Floats:
        if name in HAND_WRITTEN:
            return scores(name, pool, live)
        program = self._programs.get(name)
        if program is None:
            return scores("cost-benefit", pool, live)
        rows = np.ascontiguousarray(pool.features())
        lives = eval_program(program, rows).astype(np.float64) / SPEC.value_scale
        return benefit(live, pool.slots, np.exp2(np.clip(lives, 0, 40)))

    def scores(self, pool: Pool, live: Floats) -> Floats | None:
        """Scores of the disk's segments by what is recommended; None when nothing is."""
        return None if self.acting is None else self._scorer(self.acting)(pool, live)

    def window_due(self) -> bool:
        """Whether a window of the stream is over."""
        return self._tracker.blocks.clock >= self._next

    def window(self, proxy: Proxy, now: int) -> None:
        """Learn from a window: labels, what the twins copied, who is champion."""
        clock = self._tracker.blocks.clock
        self._next = clock + self._capacity // WINDOWS
        self._label(clock, now)
        self._sample(clock)
        costs = self._measure()
        for twin in self._twins.values():
            twin.pool.remember()
        self._tracker.pool.remember()
        if DEFAULT in costs:
            default = costs[DEFAULT]
            own = {name: costs[name] for name in LEARNED if name in costs}
            alive = set(self.learner.candidates)
            self.learner.observe_costs(
                {DEFAULT: default, **{n: c for n, c in own.items() if n in alive}}
            )
            for name in HAND_WRITTEN:
                if name in costs and "bandit" in alive:
                    self.learner.observe_costs(
                        {DEFAULT: default, "bandit": costs[name]}, policies={"bandit": name}
                    )
            if self.acting in costs:
                fixed = [max(1, round(cost * COST_UNIT)) for cost in (default, costs[self.acting])]
                proxy.report_twin(fixed[0], fixed[1], now)  # type: ignore[attr-defined]
        for name in LEARNED:
            self._programs[name] = self.learner.programs(name).get(0)
        self._choose(now)

    def _choose(self, now: int) -> None:
        proposal = self.learner.propose(now, now + self._capacity // 2)
        if proposal is not None:
            if proposal.candidate == "bandit":
                self.acting = HAND_WRITTEN[proposal.programs[0].nodes[0].value]
            else:
                self.acting = proposal.candidate
            self.version = (proposal.model_id, proposal.model_version)
        elif self.learner.champion is None:
            self.acting = None

    def _measure(self) -> dict[str, float]:
        costs: dict[str, float] = {}
        for name, twin in self._twins.items():
            copied, cleaned = self._before[name]
            self._before[name] = twin.copied, twin.cleaned
            if twin.cleaned > cleaned:
                share = (twin.copied - copied) / (twin.cleaned - cleaned) / twin.shape.slots
                # A little on top: a ratio to nothing is none.
                costs[name] = 0.02 + share
        self.costs = costs
        return costs

    def _sample(self, clock: int) -> None:
        pool = self._tracker.pool
        used = sorted(pool.used)
        rows = pool.features()
        due = clock + round(self._capacity * HORIZON)
        for segment in self._rng.sample(used, min(LABELS_PER_WINDOW, len(used))):
            ids = pool.living(segment)
            if len(ids):
                # What is watched are blocks, wherever cleaning puts them.
                self._pending.append(_Pending(due, rows[segment].copy(), ids))

    def _label(self, clock: int, now: int) -> None:
        records: list[npt.NDArray[np.void]] = []
        while self._pending and self._pending[0].due <= clock:
            one = self._pending.popleft()
            begun = one.due - round(self._capacity * HORIZON)
            passed = clock - begun
            same = self._tracker.pool.alive(one.ids) & (self._tracker.blocks.born[one.ids] <= begun)
            left = np.count_nonzero(same) / len(one.ids)
            # Exponential decay; at most a sixteenth of a block's share is uncertain.
            rate = -np.log(min(max(left, 1 / 64), 1 - 1 / (16 * len(one.ids)))) / passed
            records.append(_record(one.row, float(np.log2(1 / rate)), now))
        if records:
            self.learner.observe(np.concatenate(records))

    def take_events(self) -> Sequence[FeedEvent]:
        """What the learner has to tell."""
        return self.learner.take_events()


def _record(row: npt.NDArray[np.int32], label: float, now: int) -> npt.NDArray[np.void]:
    """A LABEL record, as the learner takes it."""
    record = np.zeros(1, RECORD_DTYPE)
    record["type"] = int(RecordType.LABEL)
    record["time"] = now
    record["cost"] = round(label * SPEC.label_scale)
    record["nr_features"] = len(FEATURES)
    record["features"][0, : len(FEATURES)] = row
    return record
