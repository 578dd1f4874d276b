"""A bandit over hand-written policies, rewarded with measured costs.

Nothing is predicted here: each arm is a ready program per stream, what it cost
over a window was measured (on a twin), and River's bandit decides which arm the
twin runs next. What is published is the arm with the lowest faded cost, so
exploring stays on the twin. Windows must be long, with a settling time that is
not scored: a policy that harvests what another one saved looks good for a while.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from river import bandit as river_bandit
from river import proba, stats

from mlproxy.errors import PluginError
from mlproxy.learn.candidate import CandidateRecipe, Compiled, Features, Measured, Size
from mlproxy.learn.meters import FadingRatio
from mlproxy.learn.spec import DecisionSpec
from mlproxy.proxy.types import Program

__all__ = ("BanditCandidate", "Policy", "bandit")

Programs = Mapping[int, Program]


@dataclass(frozen=True, slots=True)
class Policy:
    """A hand-written policy.

    Attributes:
        name: unique within the bandit.
        programs: stream -> program, complete with its cuts; or a callable that
            gives the current ones, for a policy whose thresholds move.
    """

    name: str
    programs: Programs | Callable[[], Programs]

    def current(self) -> Programs:
        """The programs now."""
        return self.programs() if callable(self.programs) else self.programs


class BanditCandidate:
    """River's UCB, epsilon-greedy or Thompson sampling over `policies`.

    Args:
        spec: the decision.
        seed: for ties and exploration.
        policies: the arms, at least one.
        method: `ucb` (Lai and Robbins, 1985), `epsilon` or `thompson` (Gaussian).
        explore: UCB: width of the bound in units of relative cost; epsilon: its epsilon.
        fading: how much of an arm's past is kept per window.

    Raises:
        PluginError: `learn.policies` when there is none or a name occurs twice.
    """

    predicts = False
    adapts = True

    def __init__(
        self,
        spec: DecisionSpec,
        seed: int,
        *,
        policies: Sequence[Policy],
        method: Literal["ucb", "epsilon", "thompson"] = "ucb",
        explore: float = 0.05,
        fading: float = 0.8,
    ) -> None:
        self._policies = {policy.name: policy for policy in policies}
        if not policies or len(self._policies) != len(policies):
            raise PluginError(
                f"decision {spec.name}: a bandit needs policies with different names",
                code="learn.policies",
                hint="give each Policy a name of its own",
                decision=spec.name,
            )
        self._river: Any
        faded = stats.EWMean(1 - fading)
        if method == "ucb":
            self._river = river_bandit.UCB(explore, reward_obj=faded, burn_in=1, seed=seed)
        elif method == "epsilon":
            self._river = river_bandit.EpsilonGreedy(
                explore, reward_obj=faded, burn_in=1, seed=seed
            )
        else:
            gaussian: Any = proba.Gaussian
            self._river = river_bandit.ThompsonSampling(reward_obj=gaussian(), burn_in=2, seed=seed)
        self._costs = {name: FadingRatio(fading) for name in self._policies}
        self._overall = FadingRatio(fading)
        self._active: str = self._river.pull(list(self._policies))

    @property
    def active(self) -> str:
        """The policy that the twin should run now."""
        return self._active

    @property
    def best(self) -> str:
        """The policy with the lowest faded cost; the active one before any cost is known."""
        known = [
            (value, name)
            for name, meter in self._costs.items()
            if (value := meter.value) is not None
        ]
        return min(known)[1] if known else self._active

    def predict_one(self, stream: int, x: Features) -> float:
        """See `Candidate`: a bandit predicts nothing."""
        del stream, x
        return 0.0

    def learn_one(self, stream: int, x: Features, y: float, w: float) -> None:
        """See `Candidate`: nothing to learn from labels."""

    def adopt(self, stream: int, other: Any) -> None:
        """See `Candidate`: fading is all it needs."""

    def size(self) -> Size:
        """See `Candidate`."""
        count = len(self._policies)
        return Size(nodes=count, bytes=1024 * count)

    def observe_cost(self, cost: float, baseline: float, weight: float, policy: str) -> None:
        """Reward `policy` (default: the active one) and choose the next one.

        Raises:
            PluginError: `learn.policies` for an unknown policy.
        """
        name = policy or self._active
        if name not in self._policies:
            raise PluginError(
                f"no policy {name!r} in this bandit",
                code="learn.policies",
                hint="it has " + ", ".join(self._policies),
                policy=name,
            )
        self._costs[name].add(cost, baseline, weight)
        self._overall.add(cost, baseline, weight)
        # Without a default to compare with, costs are taken relative to all seen so far.
        reference = baseline
        if math.isnan(reference):
            reference = self._overall.plain or 1.0
        excess = (cost - reference) / (abs(reference) or 1.0)
        self._river.update(name, -max(-10.0, min(10.0, excess)))
        self._active = self._river.pull(list(self._policies))

    def measured(self) -> Measured | None:
        """The faded cost of the best policy."""
        meter = self._costs[self.best]
        value = meter.value
        return None if value is None else Measured(value, meter.count)

    def compile(self, stream: int) -> Compiled:
        """The active policy's program."""
        return self._program(self._active, stream)

    def compile_best(self, stream: int) -> Compiled:
        """The best policy's program."""
        return self._program(self.best, stream)

    def _program(self, name: str, stream: int) -> Compiled:
        programs = self._policies[name].current()
        if stream not in programs:
            raise PluginError(
                f"policy {name} has no program for stream {stream}",
                code="learn.policies",
                hint="a Policy needs one program per stream",
                policy=name,
                stream=stream,
            )
        return Compiled(programs[stream], final=True)


def bandit(policies: Sequence[Policy], name: str = "bandit", **params: Any) -> CandidateRecipe:
    """Recipe of the bandit over `policies`."""
    return CandidateRecipe(name, BanditCandidate, {"policies": tuple(policies), **params})
