"""What each candidate offers for the placement decision, and whether that may act."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mlproxy.learn import Canary, Learner, Policy
from mlproxy.proxy import Program, RecordType, eval_program
from mlproxy_lfs import policies
from mlproxy_lfs.engine import Feature
from mlproxy_lfs.poison import Poison, poisoned

__all__ = ("Offers",)

NR_FEATURES = len(Feature)
STREAMS = (policies.USER, policies.GC)
RECENT = 1024
LOPSIDED = 0.98
"""A program that puts so many recent blocks into one class separates nothing yet."""
PROBATION = 3
"""So many refreshes a candidate that does not act keeps to an update that was refused
until that is what its next ones are compared with: by then its twin has measured it."""

Programs = dict[int, Program]


class Offers:
    """Programs for both streams, per candidate and hand-written policy.

    A model that has not seen enough of a stream to separate it offers SepBIT's
    program there. Every offer is compared with the last one of the same candidate
    on the latest labels (`mlproxy.learn.Canary`).

    Args:
        learner: of the candidates.
        hand_written: the bandit's policies, each an offer of its own.
        sepbit_life: SepBIT's mean segment lifespan now, in block writes.
        poison: how all offers are to be made wrong now, for demonstrations.
        rng: for the poison.
    """

    def __init__(
        self,
        learner: Learner,
        hand_written: Sequence[Policy],
        *,
        sepbit_life: Callable[[], int],
        poison: Callable[[], Poison | None],
        rng: random.Random,
    ) -> None:
        self._learner = learner
        self._hand_written = {policy.name: policy for policy in hand_written}
        self._sepbit_life = sepbit_life
        self._poison = poison
        self._rng = rng
        self._canary = Canary(NR_FEATURES, ranks=policies.log_order)
        self._recent = {stream: np.zeros((0, NR_FEATURES), np.int32) for stream in STREAMS}
        self._programs: dict[str, Programs] = {}
        self._refused: str | None = None
        self._waited: dict[str, int] = {}

    def observe(self, records: npt.NDArray[np.void]) -> None:
        """Keep what the checks need of the ring's records: samples and labels."""
        self._canary.observe(records)
        samples = records[records["type"] == RecordType.SAMPLE]
        for stream in STREAMS:
            rows = samples["features"][samples["stream"] == stream, :NR_FEATURES]
            self._recent[stream] = np.concatenate([self._recent[stream], rows])[-RECENT:]

    def refresh(self, guarded: str | None) -> Mapping[str, Programs]:
        """Make all offers anew.

        Args:
            guarded: the candidate or policy that acts: its offer must pass the check.
                The others' offers run on their twins whatever they are. But who
                becomes champion is judged by what it was before: only after some
                refreshes is a refused offer of those what the next is compared with.
                None: nothing acts, so everything is accepted.

        Returns:
            Programs by stream, per candidate and policy, without a refused one.
        """
        names = [*(n for n in self._learner.candidates if n != "bandit"), *self._hand_written]
        made = {name: self._made(name, self._learner.programs) for name in names}
        self._refused = None
        for name, programs in list(made.items()):
            refused = guarded is not None and self._judged(name, programs)
            if refused and name == guarded:
                self._refused = name
                del made[name]
                continue
            waited = self._waited.get(name, 0) + 1 if refused else 0
            if waited in (0, PROBATION):
                waited = 0
                self._canary.accept(name, programs)
            self._waited[name] = waited
        self._programs.update(made)
        return made

    def would_be_refused(self, name: str) -> bool:
        """Whether what the candidate would offer by now is refused; looking changes nothing."""
        if name not in self._hand_written and name not in self._learner.candidates:
            return False
        return self._judged(name, self._made(name, self._learner.preview))

    def _judged(self, name: str, programs: Programs) -> bool:
        if name in self._hand_written:
            return self._canary.refuses(name, programs, hand_written=True)
        # Where SepBIT's program takes over from a model, nothing needs a check.
        known = policies.sepbit(self._sepbit_life())
        own = {stream: program for stream, program in programs.items() if program != known[stream]}
        return self._canary.refuses(name, own)

    def _made(self, name: str, compiled: Callable[[str], Programs]) -> Programs:
        policy = self._hand_written.get(name)
        programs = dict(policy.current()) if policy else self._whole(compiled(name))
        how = self._poison()
        if how is None:
            return programs
        return {stream: poisoned(program, how, self._rng) for stream, program in programs.items()}

    def programs(self, name: str) -> Programs:
        """The last offer of one candidate or policy that was not refused."""
        return self._programs[name]

    def refused(self, name: str) -> bool:
        """Whether its present offer was refused in favour of the last accepted one."""
        return name == self._refused

    def policy_of(self, programs: Mapping[int, Program]) -> str:
        """Name of the hand-written policy that has these programs."""
        for name, policy in self._hand_written.items():
            if dict(policy.current()) == dict(programs):
                return name
        return next(iter(self._hand_written))

    def _whole(self, programs: Mapping[int, Program]) -> Programs:
        whole = policies.sepbit(self._sepbit_life())
        whole.update((s, p) for s, p in programs.items() if self._separates(p))
        return whole

    def _separates(self, program: Program) -> bool:
        rows = self._recent[program.stream]
        if not len(rows):
            return False
        actions = eval_program(program, np.ascontiguousarray(rows))
        return bool(np.unique(actions, return_counts=True)[1].max() < LOPSIDED * len(rows))
