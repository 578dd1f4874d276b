"""A check of every update before it acts: does it still tell short from long?

Measured cost decides who is trusted, but it comes late: what a program spoils
today is paid when the blocks are cleaned. So an update of a model is first run
over the latest labels, beside that model's last one, stream by stream. If in
one of them it orders the labels far worse, and by more than chance, it is
refused; its predecessor stays. How well the predecessor does in itself does not
matter: low predictability is no reason to fall back
(docs/reference/arbitration.md).

One refusal is no proof of anything: an honest model changes its mind, and what
is drawn at random is right now and then. `Doubts` counts over a while.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from mlproxy.proxy import Program, RecordType, eval_program

__all__ = ("Canary", "Doubts")

_Rows = npt.NDArray[np.int32]
_Ranks = Callable[[int, npt.NDArray[np.int32]], npt.NDArray[np.int32]]


def _as_they_are(stream: int, actions: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    del stream
    return actions


class Canary:
    """Compares an update with what it replaces on recent labels.

    Args:
        nr_features: features of a record that programs see.
        window: labels kept per stream.
        least: labels of a stream before it is judged.
        agreement: an update that agrees with its predecessor on less than this share of
            a stream's labelled decisions has turned.
        tolerance: an update is refused when in one stream its correlation with the
            labels is below this share of its predecessor's, by more than chance ...
        turned: ... or below this share, when it has turned.
        floor: a predecessor's correlation below this says nothing, unless the update
            has turned.
        ranks: (stream, actions) -> actions in the order of the label, for actions
            that are not numbered so.

    >>> canary = Canary(nr_features=1)
    >>> canary.refuses("htr", {})
    False
    """

    def __init__(
        self,
        nr_features: int,
        *,
        window: int = 512,
        least: int = 64,
        agreement: float = 0.5,
        tolerance: float = 0.5,
        turned: float = 0.7,
        floor: float = 0.1,
        ranks: _Ranks = _as_they_are,
    ) -> None:
        self._nr_features = nr_features
        self._window, self._least = window, least
        self._agreement = agreement
        self._tolerance, self._turned, self._floor = tolerance, turned, floor
        self._ranks = ranks
        self._rows: dict[int, _Rows] = {}
        self._labels: dict[int, npt.NDArray[np.float64]] = {}
        self._accepted: dict[str, dict[int, Program]] = {}

    def observe(self, records: npt.NDArray[np.void]) -> None:
        """Keep the latest LABEL records; others are ignored."""
        labels = records[records["type"] == RecordType.LABEL]
        for stream in np.unique(labels["stream"]).tolist():
            of = labels[labels["stream"] == stream]
            rows = np.ascontiguousarray(of["features"][:, : self._nr_features])
            costs = of["cost"].astype(np.float64)
            if stream in self._rows:
                rows = np.concatenate([self._rows[stream], rows])
                costs = np.concatenate([self._labels[stream], costs])
            self._rows[stream] = rows[-self._window :]
            self._labels[stream] = costs[-self._window :]

    def accept(self, name: str, programs: Mapping[int, Program]) -> None:
        """Let an update (stream -> program) be what the candidate's next ones are judged by."""
        self._accepted.setdefault(name, {}).update(programs)

    def refuses(
        self, name: str, programs: Mapping[int, Program], *, hand_written: bool = False
    ) -> bool:
        """Judge an update (stream -> program) of a candidate by its last accepted one.

        A stream that has no accepted program or is short of labels is not judged.

        Args:
            name: of the candidate; each is compared with itself.
            programs: the update.
            hand_written: a rule of fixed form, which may shift a threshold but has no
                reason to decide most of a stream otherwise, whatever the labels say.
        """
        accepted = self._accepted.get(name, {})
        return any(
            self._worse(stream, accepted[stream], program, hand_written)
            for stream, program in programs.items()
            if stream in accepted and len(self._labels.get(stream, ())) >= self._least
        )

    def _worse(self, stream: int, old: Program, new: Program, hand_written: bool) -> bool:
        rows = self._rows[stream]
        was, now = eval_program(old, rows), eval_program(new, rows)
        before, after = self._order(stream, was), self._order(stream, now)
        turned = float(np.mean(was == now)) < self._agreement
        if turned and hand_written:
            return True
        if not turned and before <= self._floor:
            return False
        # About the standard error of the difference between two correlations.
        by_chance = math.sqrt(2 / len(rows))
        least = (self._turned if turned else self._tolerance) * before
        return after < min(least, before - by_chance)

    def _order(self, stream: int, decided: npt.NDArray[np.int32]) -> float:
        """Correlation of actions with the labels; 0 when either is constant."""
        actions = self._ranks(stream, decided)
        labels = self._labels[stream]
        if np.ptp(actions) == 0 or np.ptp(labels) == 0:
            return 0.0
        return float(np.corrcoef(actions, labels)[0, 1])


class Doubts:
    """Counts refusals among the last verdicts, so that one lucky update clears nothing.

    Args:
        most: so many refusals are too many ...
        of: ... among so many verdicts.

    >>> doubts = Doubts(most=2, of=3)
    >>> [doubts.add(refused=refused) for refused in (True, False, True)]
    [False, False, True]
    """

    def __init__(self, *, most: int, of: int) -> None:
        self._most = most
        self._verdicts: deque[bool] = deque(maxlen=of)

    def add(self, *, refused: bool) -> bool:
        """Note a verdict; return whether there are too many refusals now."""
        self._verdicts.append(refused)
        return sum(self._verdicts) >= self._most

    def clear(self) -> None:
        """Forget all verdicts."""
        self._verdicts.clear()
