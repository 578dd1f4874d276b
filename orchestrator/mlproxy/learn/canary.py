"""A check of every update before it acts: does it still tell short from long?

Measured cost decides who is trusted, but it comes late: what a program spoils
today is paid when the blocks are cleaned. So an update of a model is first run
over the latest labels, beside that model's last one. If it orders them far
worse, or decides most of them otherwise without ordering them better, it is
refused; its predecessor stays. How well the
predecessor does in itself does not matter: low predictability is no reason to
fall back (docs/reference/arbitration.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from mlproxy.proxy import Program, RecordType, eval_program

__all__ = ("Canary",)

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
        tolerance: an update is refused when its correlation with the labels, in
            the mean over the streams, is below this share of its predecessor's.
        floor: a predecessor's correlation below this says nothing.
        agreement: an update that agrees with its predecessor on less than this share
            of the labelled decisions must order the labels better.
        ranks: (stream, actions) -> actions in the order of the label, for actions
            that are not numbered so.

    >>> canary = Canary(nr_features=1)
    >>> canary.refuses("htr", {}, accept=False)
    False
    """

    def __init__(
        self,
        nr_features: int,
        *,
        window: int = 512,
        least: int = 64,
        tolerance: float = 0.5,
        floor: float = 0.1,
        agreement: float = 0.5,
        ranks: _Ranks = _as_they_are,
    ) -> None:
        self._nr_features = nr_features
        self._window, self._least = window, least
        self._tolerance, self._floor = tolerance, floor
        self._agreement = agreement
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

    def refuses(self, name: str, programs: Mapping[int, Program], *, accept: bool) -> bool:
        """Judge an update (stream -> program); if it passes, the next one is judged by it.

        Args:
            name: of the candidate; each is compared with its own last update.
            programs: the update.
            accept: let it pass whatever it does.
        """
        accepted = self._accepted.setdefault(name, {})
        before = after = agreed = 0.0
        judged = 0
        for stream, program in programs.items():
            old = accepted.get(stream)
            if accept or old is None or len(self._labels.get(stream, ())) < self._least:
                continue
            judged += 1
            rows = self._rows[stream]
            was, now = eval_program(old, rows), eval_program(program, rows)
            before += self._order(stream, was)
            after += self._order(stream, now)
            agreed += float(np.mean(was == now))
        worse = before > self._floor * judged and after < self._tolerance * before
        other = agreed < self._agreement * judged and after < before
        bad = judged > 0 and (worse or other)
        if not bad:
            accepted.update(programs)
        return bad

    def _order(self, stream: int, decided: npt.NDArray[np.int32]) -> float:
        """Correlation of actions with the labels; 0 when either is constant."""
        actions = self._ranks(stream, decided)
        labels = self._labels[stream]
        if np.ptp(actions) == 0 or np.ptp(labels) == 0:
            return 0.0
        return float(np.corrcoef(actions, labels)[0, 1])
