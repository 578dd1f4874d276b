"""Which setting the model recommends now: what is predicted to be cheapest, or a try."""

from __future__ import annotations

import random
from collections.abc import Sequence

from mlproxy.learn import Learner
from mlproxy_readahead.decision import Context, row_of
from mlproxy_readahead.models import CellTable

__all__ = ("Chooser",)

TRIES = 2
"""Windows of a setting in a cell of the context before it is judged."""
HOPELESS = 1.3
"""So many times the best cost on the way there; beyond such a setting lies nothing better."""
NEIGHBOUR = 1 / 48
"""Share of the epochs that try a neighbour of the best setting, for times change ..."""
KNOWN = 8
"""... and four times as many until a neighbour is known by so many windows: two may deceive."""


class Chooser:
    """Chooses among settings.

    Tries go from the default outward, in both directions, and stop in each where
    it has become clearly worse: cost over read-ahead has one valley. That bounds
    what learning costs.

    Args:
        learner: whose champion predicts.
        settings: values in KiB, ascending.
        default: index of the default.
        seed: of the tries.
    """

    def __init__(self, learner: Learner, settings: Sequence[int], default: int, seed: int) -> None:
        self._learner = learner
        self._settings = settings
        self._default = default
        self._seed = seed
        self._table = CellTable()

    def learn(self, context: Context, setting_kb: int, cost: float) -> None:
        """Take note of a window, for what must still be tried."""
        self._table.add(self._table.cell(*context), setting_kb, cost)

    def choose(self, context: Context, epoch: int) -> int:
        """Index of the setting for an epoch; the same for the same epoch and knowledge."""
        untried = self._untried(context)
        if untried is not None:
            return untried
        best = self._cheapest(context)
        rng = random.Random(self._seed ^ epoch)
        neighbour = min(max(best + rng.choice((-1, 1)), 0), len(self._settings) - 1)
        count = self._table.count(self._table.cell(*context), self._settings[neighbour])
        share = NEIGHBOUR if count >= KNOWN else 4 * NEIGHBOUR
        return neighbour if rng.random() < share else best

    def _untried(self, context: Context) -> int | None:
        cell = self._table.cell(*context)
        count, cost = self._table.count, self._table.cost
        if count(cell, self._settings[self._default]) < TRIES:
            return self._default
        above = range(self._default + 1, len(self._settings))
        below = range(self._default - 1, -1, -1)
        for direction in (above, below):
            best = cost(cell, self._settings[self._default]) or 0.0
            for index in direction:
                kb = self._settings[index]
                so_far = cost(cell, kb)
                if so_far is not None and so_far > best * HOPELESS:
                    break
                if so_far is None or count(cell, kb) < TRIES:
                    return index
                best = min(best, so_far)
        return None

    def _cheapest(self, context: Context) -> int:
        rows = [row_of(context, kb) for kb in self._settings]
        predicted = self._learner.predict(rows)
        if predicted is None:
            return self._default
        return min(range(len(rows)), key=lambda index: (predicted[index], index))
