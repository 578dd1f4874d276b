"""Which setting the model recommends: from the cautious end, as far as the bound allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mlproxy.learn import Learner
from mlproxy_damon.budget import FaultBudget, pages
from mlproxy_damon.decision import MEMORY, STRAIN, Context, Setting, reuse_of, row_of, takeable

__all__ = ("Chooser", "Outcome")

PRIOR_PAGES: Final = 200.0
"""Pages that are taken as seen not to come back."""
HORIZON: Final = 60.0
"""Seconds for which the bill of what was never used is made."""
GROWTH: Final = 1.5
"""At the next younger age pages are taken to come back so much more often."""
SPEND: Final = 0.5
"""Share of the headroom that one window may put at risk."""
STRAINED: Final = 1.0
TOUCHED: Final = 0.25
"""Share of a block's pages that are used again when it is, before it was seen ..."""
TOUCHED_PAGES: Final = 400.0
"""... on so many pages."""
SETTLED: Final = 2
"""Windows of a rung before the next one is tried."""
NOTHING: Final = 0.001
"""Share of the memory: less than that was not taken."""
FEW: Final = 2.0
"""Faults that say nothing yet."""
PENALTY: Final = 6
"""Windows for which a rung that broke the bound is left alone; doubled each time."""
MOST_PENALTY: Final = 384


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a window of the model's came to.

    Attributes:
        choice: rung that was in force.
        taken: bytes taken out, net of what came back.
        excess: faults that reclaim cost.
        allowed: faults that it was allowed.
    """

    choice: int
    taken: float
    excess: float
    allowed: float


@dataclass(slots=True)
class _Age:
    """What is known of taking pages of one age."""

    taken: float = 0.0
    returned: float = 0.0


class Chooser:
    """A ladder that is climbed by evidence.

    A rung is tried when the one below it has stood within the bound, and when what is used
    again after such a rest (`ReuseCurve`), taken or not, would stay within it. Of the rungs
    that are open, the one is chosen that leaves the least memory resident by prediction,
    whose strain is predicted within the bound and whose worst bill the account can pay. In
    debt nothing is reclaimed.

    Args:
        learner: whose champion predicts.
        rungs: as `ladder` makes them.
        ages: the grid.
        seconds: length of a window.
    """

    def __init__(
        self, learner: Learner, rungs: Sequence[Setting], ages: Sequence[float], seconds: float
    ) -> None:
        self._learner = learner
        self._rungs = rungs
        self._ages = list(ages)
        self._seconds = seconds
        self._known = {rung.min_age: _Age() for rung in rungs}
        self._windows = [0] * len(rungs)
        self._closed = [0] * len(rungs)
        """Windows left until a rung that broke the bound is open again."""
        self._penalty = [PENALTY] * len(rungs)
        self.frontier = 1
        """The most eager rung that is open."""
        self._indebted = False
        self._expected = self._met = 0.0

    # -- evidence -------------------------------------------------------------------

    def pass_window(self) -> None:
        """A window has passed, whoever acted."""
        self._closed = [max(0, left - 1) for left in self._closed]

    def learn(self, outcome: Outcome, context: Context | None, *, debt: bool) -> None:
        """Take note of a window.

        Args:
            outcome: of a window with a rung of the ladder in force.
            context: what was known before it; None: unknown.
            debt: whether the account is below zero.
        """
        choice = outcome.choice
        # What comes back now was taken by the most eager rung there was.
        charged = self._rungs[max(choice, self.frontier)].min_age
        known = self._known[charged]
        known.returned += outcome.excess
        if context is not None and math.isfinite(self._returning(context, charged)):
            # Only what is out can come back as a fault.
            idle = context.idle[self._ages.index(charged)]
            share = min(1.0, context.out / idle) if idle else 0.0
            self._expected += self._seconds * self._returning(context, charged) * share
            self._met += outcome.excess
        if debt and not self._indebted:
            self._retreat(max(choice, self.frontier))
        self._indebted = debt
        if not choice:
            return
        taken = pages(max(0.0, outcome.taken)) + outcome.excess
        self._known[self._rungs[choice].min_age].taken += taken
        self._windows[choice] += 1
        if outcome.excess > FEW and outcome.excess > STRAINED * outcome.allowed:
            if not debt:
                self._retreat(choice)
        elif choice >= self.frontier and not debt:
            nothing = context is None or outcome.taken < NOTHING * context.whole
            if nothing or self._windows[choice] >= SETTLED:
                self._advance(nothing=nothing)

    def _advance(self, *, nothing: bool) -> None:
        age = self._rungs[self.frontier].min_age
        following = self.frontier + 1
        if nothing:  # a larger quota would not take more of that age
            while following < len(self._rungs) and self._rungs[following].min_age == age:
                following += 1
        if following < len(self._rungs) and not self._closed[following]:
            self.frontier = following
            self._windows[following] = 0

    def _retreat(self, choice: int) -> None:
        """Close this rung and the more eager ones for a while."""
        age = self._rungs[choice].min_age
        below = choice - 1
        while below > 1 and self._rungs[below].min_age == age:
            below -= 1
        first = max(2, below + 1)
        for rung in range(first, len(self._rungs)):
            self._closed[rung] = max(self._closed[rung], self._penalty[first])
        if first < len(self._rungs):
            self._penalty[first] = min(2 * self._penalty[first], MOST_PENALTY)
        self.frontier = max(1, min(self.frontier, below))
        self._windows[self.frontier] = 0

    def return_ratio(self, age: float) -> float:
        """Share of the pages taken at an age that came back.

        What is known of an age holds for the next younger one too, a little worse.
        """
        worst = 0.0
        for one in sorted(self._known, reverse=True):
            known = self._known[one]
            worst = max(GROWTH * worst, known.returned / (known.taken + PRIOR_PAGES))
            if one <= age:
                break
        return min(1.0, worst)

    def _returning(self, context: Context, age: float) -> float:
        return reuse_of(context, Setting(age, 0), self._ages).rate

    @property
    def touched(self) -> float:
        """Share of the pages of a block that come back when it is used again, as far as seen."""
        return min(
            1.0,
            (self._met + TOUCHED * TOUCHED_PAGES) / (self._expected + TOUCHED_PAGES),
        )

    # -- choice -----------------------------------------------------------------------

    def bill(self, context: Context, rung: Setting) -> float:
        """Faults that a window of a rung may come to cost.

        What rested for longest is taken first: that was never used, and little of it will be.
        Of what was used once, so much comes back as came back before.
        """
        if math.isinf(rung.min_age):
            return 0.0
        taken = pages(takeable(context, rung, self._ages, self._seconds) * context.whole)
        known = reuse_of(context, rung, self._ages)
        # Some addresses hold nothing; what was used does.
        never = min(known.unused, pages(context.whole) - known.once)
        unused = min(taken, max(0.0, never - pages(context.out * context.whole)))
        expected = unused * min(1.0, known.hazard * HORIZON) * self.touched
        expected += (taken - unused) * known.back
        return max(expected, taken * self.return_ratio(rung.min_age))

    def _bearable(self, context: Context, index: int) -> bool:
        """Whether what is used after such a rest, taken or not, is no more than allowed.

        The smallest quota of an age is tried all the same, when it is known what may come of
        it: how much of what DAMON calls used comes back can only be seen of what is out.
        """
        rung = self._rungs[index]
        rate = self._returning(context, rung.min_age)
        first = self._rungs[index - 1].min_age != rung.min_age
        return math.isfinite(rate) and (first or rate * self.touched <= STRAINED * context.allowed)

    def _begin_where_known(self, context: Context) -> None:
        """Open the oldest age of which is known what its reuse comes to, if that is bearable.

        Nobody has to wait minutes to see what memory does that rests for minutes.
        """
        if any(self._bearable(context, i) for i in range(1, self.frontier + 1)):
            return
        for index in range(self.frontier + 1, len(self._rungs)):
            if self._bearable(context, index):
                self.frontier = index
                self._windows[index] = 0
                return

    def choose(self, context: Context, budget: FaultBudget) -> int:
        """The rung for the next epoch; 0: reclaim nothing."""
        if budget.headroom <= 0:
            return 0
        self._begin_where_known(context)
        open_rungs = [
            index
            for index in range(1, self.frontier + 1)
            if not self._closed[index]
            and self._bearable(context, index)
            and self.bill(context, self._rungs[index]) <= SPEND * budget.headroom
        ]
        if not open_rungs:
            return 0
        rows = [row_of(context, self._rungs[i], self._ages, self._seconds) for i in open_rungs]
        memory = self._learner.predict(rows, stream=MEMORY)
        strain = self._learner.predict(rows, stream=STRAIN)
        if memory is None or strain is None or not self._windows[open_rungs[-1]]:
            return open_rungs[-1]  # not tried yet: there is nothing to predict from
        fit = [n for n in range(len(open_rungs)) if strain[n] <= STRAINED] or [0]
        # To the eighth of a percent: among equals the more eager one goes on learning.
        best = min(fit, key=lambda n: (round(memory[n] * 100), -n))
        return open_rungs[best]
