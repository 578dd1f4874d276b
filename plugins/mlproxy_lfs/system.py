"""The steered store: main store, twins, proxies and learners, one window at a time.

A window is a fiftieth of the capacity written. In each, the main store runs
under its proxies; every candidate has run on a twin of its own; what the twins
cost is the measured evidence, for the champion and for the proxies' tests.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlproxy.app.report import mode_events_from_records
from mlproxy.events.types import FeedEvent
from mlproxy.learn import DEFAULT, Doubts, Learner
from mlproxy.proxy import (
    InProcessProxy,
    Kind,
    Mode,
    Program,
    ProxyConfig,
    Reason,
    Recommendation,
    RecordType,
)
from mlproxy_lfs.candidates import usable
from mlproxy_lfs.decisions import (
    COST_UNIT,
    PLACEMENT,
    VICTIM,
    VICTIM_CHOICES,
    arbitration,
    placement_config,
    placement_recipes,
    placement_spec,
    victim_config,
    victim_recipes,
    victim_spec,
)
from mlproxy_lfs.engine import MAX_STORES, Engine, Geometry, Placement, Victim
from mlproxy_lfs.offers import Offers
from mlproxy_lfs.poison import Poison, poisoned_victim
from mlproxy_lfs.workloads import Workload

__all__ = ("LfsSystem", "SystemOptions", "Window")

MAIN, REFERENCE = "main", "reference"
REFUSALS, VERDICTS = 6, 10
"""Out of so many verdicts, one a window, so many refusals are too many."""


@dataclass(frozen=True, slots=True)
class SystemOptions:
    """How a store is steered.

    Attributes:
        geometry: of the main store.
        twin_share: a twin sees one in so many blocks.
        window: share of the capacity written per window.
        refresh: windows between two exports of the models.
        labels: so many writes and random live blocks are sampled per capacity
            written, and of relocations one in five times as many.
        horizon: share of the capacity after which a label is released.
        poison: make every model wrong in this way ...
        poison_at: ... from so many capacities written on; before that it learns honestly.
        canary: check updates on recent labels before they act; off to see what
            the proxy's own guards do without it.
        overrides: proxy name -> fields of ProxyConfig.
    """

    geometry: Geometry = field(default_factory=Geometry)
    twin_share: int = 8
    window: float = 0.02
    refresh: int = 5
    labels: int = 2000
    horizon: float = 0.5
    poison: Poison | None = None
    poison_at: float = 0.0
    canary: bool = True
    overrides: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Window:
    """What one window cost: blocks written per user block, by who would have acted."""

    at: int
    main: float
    twins: Mapping[str, float]
    modes: Mapping[str, Mode]


class LfsSystem:
    """A workload on a steered store; `step` until `done`.

    Args:
        workload: what is written.
        options: how it is steered.
        seed: of hashes, samples, models and trials.
        candidates: recipes that compete with our own for the placement decision.

    Attributes:
        left_out: of `candidates`, those that cannot compete, and why.
    """

    def __init__(
        self,
        workload: Workload,
        options: SystemOptions | None = None,
        *,
        seed: int = 1,
        candidates: Sequence[object] = (),
    ) -> None:
        self.options = options or SystemOptions()
        geometry = self.options.geometry
        self.capacity = geometry.capacity
        self.engine = Engine(workload, seed=seed)
        self._rng = random.Random(seed)
        self._length = max(1, int(self.capacity * self.options.window))
        self._until = 0
        self.main = self.engine.add_store(geometry, placement=Placement.PROXY)

        self.placement = self._proxy(placement_config(self.capacity, seed))
        self.victim = self._proxy(victim_config(self.capacity, seed))
        self.engine.connect(self.placement)
        every = max(1, self.capacity // self.options.labels)
        self.engine.set_labels(
            user=every, gc=5 * every, live=every, horizon=int(self.capacity * self.options.horizon)
        )
        self._twins: dict[str, int] = {}
        recipes, hand_written = placement_recipes(self.capacity, self._sepbit_life)
        self._hand_written = {policy.name: policy for policy in hand_written}
        spec = placement_spec(self.capacity)
        taken = {*(recipe.name for recipe in recipes), *self._others()}
        # The bandit has no store of its own, but one for each of its policies.
        room = MAX_STORES - len(taken - {"bandit"})
        others, self.left_out = usable(candidates, spec, taken, room)
        recipes += others
        self._twin(DEFAULT, Placement.TWO_LOGS)
        for recipe in recipes:
            if recipe.name != "bandit":
                self._twin(recipe.name)
        for name in self._hand_written:
            self._twin(name)
        self._twin(REFERENCE, Placement.TWO_LOGS)
        for choice in VICTIM_CHOICES:
            self._twin(choice.name.lower(), Placement.TWO_LOGS, choice)
        self.learner = Learner(spec, recipes, arbitration(), seed=seed, proxy=PLACEMENT)
        self.victim_learner = Learner(
            victim_spec(), victim_recipes(), arbitration(), seed=seed, proxy=VICTIM
        )
        self._offers = Offers(
            self.learner,
            hand_written,
            sepbit_life=self._sepbit_life,
            poison=self._poison,
            rng=self._rng,
        )
        self._before = {name: self.engine.stats(s) for name, s in self._stores()}
        self._victim_costs: dict[str, float] = {}
        self.events: list[FeedEvent] = []
        self._seq = 0
        self._windows = 0
        self._doubts = Doubts(most=REFUSALS, of=VERDICTS)
        self._acting: str | None = None
        self._victim_twin: str | None = None
        self._version = (0, 0)
        self.placement.start(0)
        self.victim.start(0)
        self._refresh_twins(None)

    def _proxy(self, config: ProxyConfig) -> InProcessProxy:
        changes: dict[str, Any] = dict(self.options.overrides.get(config.name, {}))
        return InProcessProxy(dataclasses.replace(config, **changes))

    def _twin(
        self,
        name: str,
        placement: Placement = Placement.PROGRAM,
        victim: Victim = Victim.COST_BENEFIT,
    ) -> None:
        share = self.options.twin_share
        self._twins[name] = self.engine.add_store(
            self.options.geometry.shrunk(share), share=share, placement=placement, victim=victim
        )

    def _others(self) -> set[str]:
        """Names of stores that are no candidate's."""
        choices = {choice.name.lower() for choice in VICTIM_CHOICES}
        return {MAIN, DEFAULT, REFERENCE, *choices, *self._hand_written}

    def _stores(self) -> list[tuple[str, int]]:
        return [(MAIN, self.main), *self._twins.items()]

    def _sepbit_life(self) -> int:
        life = self.engine.stats(self._twins["sepbit"]).sepbit_life
        return min(life, self.capacity)

    # -- one window -----------------------------------------------------------

    @property
    def now(self) -> int:
        """User block writes so far: the proxies' time."""
        return self.engine.clock

    @property
    def done(self) -> bool:
        """Whether the workload has ended."""
        return self.engine.done

    def step(self) -> Window:
        """Run one window and learn from it."""
        self.events = []
        self._choose_victim()
        self._until += self._length
        self.engine.run(self._until)
        self._learn()
        window = self._measure()
        self._recommend()
        for proxy in (self.placement, self.victim):
            proxy.heartbeat(self.now)
            proxy.tick(self.now)
        self._learn()  # what the window led to is told with it
        return window

    def _choose_victim(self) -> None:
        usual = int(Victim.COST_BENEFIT)
        decision = self.victim.decide([], self.now, usual, self.now)
        self.engine.set_victim(self.main, Victim(decision.action))

    def _learn(self) -> None:
        for proxy in (self.placement, self.victim):
            views = proxy.peek()
            for view in views:
                if proxy is self.placement:
                    self.learner.observe(view)
                    self._offers.observe(view)
                modes = view[view["type"] == RecordType.MODE]
                if len(modes):
                    self.events += mode_events_from_records(proxy.config, [modes], COST_UNIT)
            proxy.consume(sum(len(view) for view in views))

    def _measure(self) -> Window:
        costs: dict[str, float] = {}
        for name, store in self._stores():
            stats = self.engine.stats(store)
            costs[name] = stats.amplification(self._before[name])
            self._before[name] = stats
        cleaning = any(cost > 1.0 for name, cost in costs.items() if name != MAIN)
        if cleaning:
            self._judge_placement(costs)
            self._judge_victim(costs)
        modes = {
            PLACEMENT: self.placement.snapshot(self.now).mode,
            VICTIM: self.victim.snapshot(self.now).mode,
        }
        return Window(self.now, costs.pop(MAIN), costs, modes)

    def _judge_placement(self, costs: Mapping[str, float]) -> None:
        default = costs[DEFAULT]
        measured = {name: costs[name] for name in self.learner.candidates if name in costs}
        self.learner.observe_costs({DEFAULT: default, **measured})
        for name in self._hand_written:
            self.learner.observe_costs(
                {DEFAULT: default, "bandit": costs[name]}, policies={"bandit": name}
            )
        if self._acting is not None:
            cost = costs[self._acting]
            self.placement.report_twin(_fixed(default), _fixed(cost), self.now)

    def _judge_victim(self, costs: Mapping[str, float]) -> None:
        reference = costs[REFERENCE]
        for choice in VICTIM_CHOICES:
            name = choice.name.lower()
            self._victim_costs[name] = 0.9 * self._victim_costs.get(name, 0) + 0.1 * costs[name]
            self.victim_learner.observe_costs(
                {DEFAULT: reference, "bandit": costs[name]}, policies={"bandit": name}
            )
        if self._victim_twin is not None:
            cost = costs[self._victim_twin]
            self.victim.report_twin(_fixed(reference), _fixed(cost), self.now)

    # -- what is recommended ---------------------------------------------------

    def _poison(self) -> Poison | None:
        poison = self.options.poison
        late = self.now >= self.options.poison_at * self.capacity
        return poison if poison and late else None

    def _refresh_twins(self, guarded: str | None) -> None:
        # A twin runs what would act: of the one that does, not an update that may not.
        for name, programs in self._offers.refresh(guarded).items():
            self._load(name, programs)

    def _load(self, name: str, programs: Mapping[int, Program]) -> None:
        for program in programs.values():
            self.engine.set_program(self._twins[name], program)

    def _recommend(self) -> None:
        self._windows += 1
        steered = self.placement.snapshot(self.now).mode >= Mode.COLLABORATION
        if not steered:
            self._doubts.clear()
        due = self._windows % self.options.refresh == 0
        if due:
            self._recommend_placement(steered=steered)
        elif steered and self.options.canary and self._acting is not None:
            self._doubt(self._offers.would_be_refused(self._acting))
        self._recommend_victim()

    def _recommend_placement(self, *, steered: bool) -> None:
        expiry = self.now + self.capacity // 2
        proposal = self.learner.propose(self.now, expiry)
        if proposal is not None:
            bandit = proposal.candidate == "bandit"
            self._acting = (
                self._offers.policy_of(proposal.programs) if bandit else proposal.candidate
            )
            self._version = (proposal.model_id, proposal.model_version)
        elif self.learner.champion is None:
            self._acting = None
        self._refresh_twins(self._acting if steered and self.options.canary else None)
        if self._acting is None or self._refuse(self._acting):
            return
        programs = self._offers.programs(self._acting)
        for program in programs.values():
            self._submit(self.placement, Kind.PROGRAM, expiry, program=program)
        self._mirror(programs if steered else None)

    def _refuse(self, acting: str) -> bool:
        """Whether the update may not act."""
        refused = self._offers.refused(acting)
        self._doubt(refused)
        return refused

    def _doubt(self, refused: bool) -> None:
        """Note a verdict on the acting candidate; too many refusals are an emergency."""
        if self._doubts.add(refused=refused):
            self._doubts.clear()
            self.placement.set_mode(Mode.EMERGENCY, Reason.REJECTS, self.now)

    def _mirror(self, programs: Mapping[int, Program] | None) -> None:
        """Let the victim policies' twins place blocks as the main store does."""
        for name in (REFERENCE, *(choice.name.lower() for choice in VICTIM_CHOICES)):
            if programs is None:
                self.engine.set_placement(self._twins[name], Placement.TWO_LOGS)
            else:
                self.engine.set_placement(self._twins[name], Placement.PROGRAM)
                self._load(name, programs)

    def _recommend_victim(self) -> None:
        expiry = self.now + self.capacity // 2
        proposal = self.victim_learner.propose(self.now, expiry)
        if proposal is not None:
            self._victim_twin = Victim(proposal.programs[0].nodes[0].value).name.lower()
        elif self.victim_learner.champion is None:
            self._victim_twin = None
        if self._victim_twin is None:
            return
        victim = Victim[self._victim_twin.upper()]
        how = self._poison()
        if how is not None:
            worst = max(self._victim_costs, key=lambda name: self._victim_costs[name])
            victim = poisoned_victim(how, Victim[worst.upper()], self._rng)
            # What is recommended is what its twin runs, wrong or not.
            self.engine.set_victim(self._twins[self._victim_twin], victim)
        self._submit(self.victim, Kind.CHOICE, expiry, value=int(victim))

    def _submit(self, proxy: InProcessProxy, kind: Kind, expiry: int, **what: Any) -> None:
        self._seq += 1
        model_id, version = self._version if kind is Kind.PROGRAM else (1, 1)
        proxy.submit(
            Recommendation(
                kind=kind,
                seq=self._seq,
                expiry=expiry,
                model_id=model_id,
                model_version=version,
                **what,
            ),
            self.now,
        )


def _fixed(cost: float) -> int:
    return int(np.rint(cost * COST_UNIT))
