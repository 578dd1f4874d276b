"""The learner of one decision: several models on one stream, one champion."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from mlproxy.errors import PluginError, ProgramError
from mlproxy.events.types import ModelEvent
from mlproxy.learn.batch import Columns, decode, features_of
from mlproxy.learn.candidate import CandidateRecipe, Compiled, Features, PredictorDefaults
from mlproxy.learn.compile import effort, with_cuts
from mlproxy.learn.cuts import find_cuts
from mlproxy.learn.policy import ArbitrationPolicy, Standing, choose
from mlproxy.learn.spec import DecisionSpec
from mlproxy.learn.track import Track
from mlproxy.learn.window import Window
from mlproxy.proxy.program import eval_program
from mlproxy.proxy.types import Kind, Program, Recommendation, RecordType

__all__ = ("DEFAULT", "Learner", "Proposal")

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the champion wants published.

    Attributes:
        candidate: the champion.
        model_id: its place among the recipes, from 1.
        model_version: rises whenever the programs differ from the last ones.
        programs: stream -> program; a stream still short of labels is left out.
        recommendations: the same, ready for `Proxy.submit`, one per stream.
    """

    candidate: str
    model_id: int
    model_version: int
    programs: Mapping[int, Program]
    recommendations: tuple[Recommendation, ...]


class Learner:
    """Runs the candidates of one decision, scores them and keeps a champion.

    Nothing a candidate does stops it: one that raises, diverges or is over
    budget is dropped with an event. Deterministic for a seed and a clock.

    Args:
        spec: the decision.
        recipes: the candidates, in order of preference among equals.
        policy: numbers of the arbitration rules.
        seed: of everything random.
        proxy: name for the events; default the decision's.
        clock: seconds, for the time budget.

    Raises:
        PluginError: `learn.recipes` when names are missing, reserved or double;
            `learn.candidate` when a recipe cannot be made.

    >>> from mlproxy.learn import DecisionSpec, FeatureSpec, StreamSpec, htr, linear
    >>> spec = DecisionSpec("placement", (StreamSpec("user", (FeatureSpec("last", 0, 600),)),))
    >>> learner = Learner(spec, [linear(), htr()], ArbitrationPolicy(), seed=1)
    >>> learner.champion is None
    True
    """

    def __init__(
        self,
        spec: DecisionSpec,
        recipes: Sequence[CandidateRecipe],
        policy: ArbitrationPolicy | None = None,
        *,
        seed: int,
        proxy: str = "",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        names = [recipe.name for recipe in recipes]
        if not names or len(set(names)) != len(names) or DEFAULT in names or "" in names:
            raise PluginError(
                f"decision {spec.name}: candidates need different names, none of them "
                f"{DEFAULT!r}; got {names}",
                code="learn.recipes",
                hint="rename or remove a recipe",
                decision=spec.name,
            )
        self.spec = spec
        self.policy = policy or ArbitrationPolicy()
        self._proxy = proxy or spec.name
        self._clock = clock
        self._tracks = {
            recipe.name: self._track(recipe, order, seed) for order, recipe in enumerate(recipes)
        }
        self._windows = [
            Window(self.policy.window, len(stream.features)) for stream in spec.streams
        ]
        self._champion: str | None = None
        self._champion_since = 0
        self._default = math.nan
        self._compared = False
        self._labels = 0
        self._skipped = 0
        self._at = 0
        self._events: list[ModelEvent] = []
        self._cache: dict[tuple[str, bool], tuple[int, dict[int, Program]]] = {}
        self._seq = 0
        self._version = 0
        self._published: tuple[str, dict[int, Program]] | None = None
        self._refresh_at = 0

    def _track(self, recipe: CandidateRecipe, order: int, seed: int) -> Track:
        own_seed = (seed * 1_000_003 + order * 7919) & 0x7FFFFFFF
        try:
            candidate = recipe.make(self.spec, own_seed)
        except Exception as error:
            raise PluginError(
                f"decision {self.spec.name}: candidate {recipe.name} cannot be made: {error}",
                code="learn.candidate",
                hint="check the recipe's parameters",
                candidate=recipe.name,
            ) from error
        return Track(recipe, order, self.spec, self.policy, candidate, own_seed)

    # -- what happens -------------------------------------------------------

    def observe(self, records: npt.NDArray[Any]) -> int:
        """Learn from the LABEL records; the features of SAMPLE records only inform the cuts.

        Args:
            records: structured array of struct mlp_record.

        Returns:
            How many labels were learned.
        """
        streams, rows = features_of(records, RecordType.SAMPLE)
        if len(rows):
            for number, window in enumerate(self._windows):
                of_stream = rows[streams == number]
                if len(of_stream):
                    window.add(of_stream, samples=True)
        labels = decode(records, self.spec)
        self._skipped += labels.skipped
        if not len(labels):
            return 0
        for number, window in enumerate(self._windows):
            of = labels.stream == number
            window.add(labels.matrix[of], labels.weight[of])
        start = 0
        every = self.policy.decide_every
        while start < len(labels):
            # Decisions fall on fixed label counts, whatever the batches are.
            stop = start + every - self._labels % every
            stop = min(stop, len(labels))
            self._at = int(labels.time[stop - 1])
            self._learn(labels.part(start, stop), stop - start)
            start = stop
            if self._labels % every == 0:
                self._review()
        return len(labels)

    def _learn(self, columns: Columns, count: int) -> None:
        for track in self._tracks.values():
            if not track.alive:
                continue
            before = self._clock()
            try:
                drifts = track.train(columns)
                for found in drifts:
                    track.drifts += 1
                    track.drifted_at = self._labels
                    track.begin_understudy(found.stream)
            except Exception as error:  # noqa: BLE001 - whatever a model does, the loop goes on
                self._drop(track, f"{type(error).__name__}: {error}")
                continue
            track.account(self._clock() - before, count)
            for found in drifts:
                self._emit(
                    "drift",
                    track,
                    reason=f"stream {self.spec.streams[found.stream].name}: error rose from "
                    f"{found.before:.4g} to {found.after:.4g}",
                )
        self._labels += count

    def observe_cost(
        self, candidate: str, cost: float, weight: float = 1.0, *, policy: str = ""
    ) -> None:
        """Measured cost of one candidate over one window; see `observe_costs`."""
        self.observe_costs({candidate: cost}, weight, policies={candidate: policy})

    def observe_costs(
        self,
        costs: Mapping[str, float],
        weight: float = 1.0,
        *,
        policies: Mapping[str, str] | None = None,
    ) -> None:
        """Measured costs of one window, lower is better, of what ran on the twins.

        Args:
            costs: candidate -> cost; with the key `default` the default logic's in
                the same window, which makes windows comparable. Costs that are
                not finite, and those of dropped candidates, are ignored.
            weight: of the window (e.g. operations in it).
            policies: for candidates that run one of several policies: which.

        Raises:
            KeyError: for a candidate that does not exist.
        """
        baseline = costs.get(DEFAULT, math.nan)
        if math.isfinite(baseline):
            self._compared = True
        else:
            baseline = math.nan
        for name, cost in costs.items():
            if name == DEFAULT:
                continue
            track = self._tracks[name]
            if not track.alive or not math.isfinite(cost):
                continue
            track.cost.add(cost, baseline, weight)
            try:
                track.candidate.observe_cost(cost, baseline, weight, (policies or {}).get(name, ""))
            except Exception as error:  # noqa: BLE001 - see _learn
                self._drop(track, f"{type(error).__name__}: {error}")
        self._decide()

    # -- arbitration --------------------------------------------------------

    def _review(self) -> None:
        policy = self.policy
        due = self._labels % policy.budget_labels < policy.decide_every
        for track in self._tracks.values():
            if not track.alive:
                continue
            try:
                taken = track.settle_understudies()
                over = track.over_budget() if due else ""
            except Exception as error:  # noqa: BLE001 - see _learn
                self._drop(track, f"{type(error).__name__}: {error}")
                continue
            for stream in taken:
                self._emit(
                    "rebuilt",
                    track,
                    reason=f"stream {self.spec.streams[stream].name}: a model "
                    "learned since the drift predicts better",
                )
            others = [t for t in self._tracks.values() if t.alive and t is not track]
            if over and others:
                self._drop(track, over)
            elif track.state == "warming" and self._warm(track):
                track.state = "ready"
        self._decide()

    def _warm(self, track: Track) -> bool:
        return any(track.warm(stream) for stream in range(len(self.spec.streams)))

    def _cost_of(self, track: Track) -> float | None:
        own = track.candidate.measured()
        if own is not None:
            value, windows = own.cost, own.windows
        elif track.cost.value is not None:
            value, windows = track.cost.value, track.cost.count
        else:
            return None
        if windows < self.policy.min_cost_windows:
            return None
        # With the default measured, only costs compared with it are comparable.
        return value if track.cost.compared or not self._compared else None

    def _standing(self, track: Track) -> Standing:
        return Standing(
            name=track.name,
            order=track.order,
            warm=self._warm(track),
            usable=track.alive,
            loss=track.loss.value if track.candidate.predicts else None,
            cost=self._cost_of(track),
            size=track.effort,
        )

    def _decide(self) -> None:
        holder = self._tracks.get(self._champion or "")
        held = self._labels - self._champion_since
        policy = self.policy
        privileged = not (
            holder is not None
            and holder.drifted_at >= self._champion_since
            and self._labels - holder.drifted_at <= policy.dwell_labels
        )
        standings = [self._standing(track) for track in self._tracks.values()]
        verdict = choose(
            standings,
            self._champion,
            held,
            1.0 if self._compared else None,
            policy,
            privileged=privileged,
        )
        if verdict.champion == self._champion:
            return
        previous, self._champion = self._champion or "", verdict.champion
        self._champion_since = self._labels
        track = self._tracks.get(self._champion or previous)
        if track is not None:
            what = "champion" if self._champion else "no_champion"
            self._emit(what, track, previous=previous, reason=verdict.reason)

    def _drop(self, track: Track, reason: str) -> None:
        if not track.alive:
            return
        track.state, track.dropped_because = "dropped", reason
        self._emit("dropped", track, reason=reason)
        if self._champion == track.name:
            self._decide()

    def _emit(self, what: str, track: Track, *, previous: str = "", reason: str = "") -> None:
        self._events.append(
            ModelEvent(
                proxy=self._proxy,
                what=what,
                candidate=track.name,
                previous=previous,
                model_version=self._version,
                reason=reason,
                loss=track.loss.value or 0.0,
                cost=self._cost_of(track) or 0.0,
                at=self._at,
            )
        )

    # -- what comes out -----------------------------------------------------

    @property
    def champion(self) -> str | None:
        """Name of the champion; None: nobody is eligible, the default acts."""
        return self._champion

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the candidates that are still running."""
        return tuple(name for name, track in self._tracks.items() if track.alive)

    def programs(self, candidate: str) -> dict[int, Program]:
        """What `candidate` would do, per stream, for its twin.

        Streams that are short of labels are left out; a dropped candidate has none.

        Raises:
            KeyError: for a candidate that does not exist.
        """
        return dict(self._programs(self._tracks[candidate], best=False))

    def preview(self, candidate: str) -> dict[int, Program]:
        """What `programs` would give; looking does not move the candidate's cuts.

        Raises:
            KeyError: for a candidate that does not exist.
        """
        return dict(self._programs(self._tracks[candidate], best=False, keep=False))

    def _programs(self, track: Track, *, best: bool, keep: bool = True) -> dict[int, Program]:
        if not track.alive:
            return {}
        if getattr(type(track.candidate), "compile_best", None) is PredictorDefaults.compile_best:
            best = False
        key = (track.name, best)
        cached = self._cache.get(key)
        # What predicts nothing changes with costs, or by itself, and is cheap to compile.
        if cached is not None and cached[0] == self._labels and track.candidate.predicts:
            return cached[1]
        programs: dict[int, Program] = {}
        try:
            for stream in range(len(self.spec.streams)):
                if track.warm(stream):
                    compile_one = track.candidate.compile_best if best else track.candidate.compile
                    programs[stream] = self._cut(track, stream, compile_one(stream), keep=keep)
            if keep:
                track.effort = sum(effort(program) for program in programs.values())
        except Exception as error:  # noqa: BLE001 - see _learn
            self._drop(track, f"cannot be compiled: {error}")
            return {}
        if keep:
            self._cache[key] = (self._labels, programs)
        return programs

    def _cut(self, track: Track, stream: int, compiled: Compiled, *, keep: bool) -> Program:
        if compiled.final:
            return compiled.program
        window = self._windows[stream]
        cuts = find_cuts(
            # Without cuts the action is the prediction. This also checks the program.
            eval_program(compiled.program, window.rows),
            window.weights,
            self.spec.streams[stream].classes,
            track.cuts.get(stream) or self._first_cuts(stream),
            strategy=self.policy.cuts,
            hysteresis=self.policy.cuts_hysteresis,
        )
        if keep:
            track.cuts[stream] = cuts
        if self.spec.streams[stream].classes and not cuts:
            raise ProgramError(
                f"stream {self.spec.streams[stream].name} has no cuts",
                code="program.cuts",
                hint="fixed cuts must be given in the StreamSpec",
            )
        return with_cuts(compiled.program, cuts)

    def _first_cuts(self, stream: int) -> tuple[int, ...]:
        scale = self.spec.value_scale
        return tuple(math.floor(cut * scale) for cut in self.spec.streams[stream].cuts)

    def predict(self, rows: Sequence[Features], *, stream: int = 0) -> list[float] | None:
        """What the champion predicts, for decisions that are made in user space.

        Args:
            rows: feature index -> value, one dict per prediction.
            stream: whose features they are.

        Returns:
            Labels, in label units and clipped to the spec's range; None when there is
            no champion or it predicts nothing.
        """
        track = self._tracks.get(self._champion or "")
        if track is None or not track.candidate.predicts:
            return None
        low, high = self.spec.label_low, self.spec.label_high
        try:
            found = [float(track.candidate.predict_one(stream, row)) for row in rows]
        except Exception as error:  # noqa: BLE001 - see _learn
            self._drop(track, f"{type(error).__name__}: {error}")
            return None
        if not all(map(math.isfinite, found)):
            self._drop(track, "predicted what is no number")
            return None
        return [min(max(value, low), high) for value in found]

    def propose(self, now: int, expiry: int) -> Proposal | None:
        """The champion's programs, when they changed or half of their validity is over.

        Args:
            now: proxy time.
            expiry: proxy time until which the recommendations shall hold.

        Returns:
            None when there is no champion or nothing new to say.
        """
        track = self._tracks.get(self._champion or "")
        if track is None:
            return None
        programs = self._programs(track, best=True)
        if not programs:
            return None
        changed = self._published != (track.name, programs)
        if not changed and now < self._refresh_at:
            return None
        self._refresh_at = now + max(1, (expiry - now) // 2)
        if changed:
            self._version += 1
            self._published = (track.name, programs)
        recommendations = []
        for program in programs.values():
            self._seq += 1
            recommendations.append(
                Recommendation(
                    kind=Kind.PROGRAM,
                    seq=self._seq,
                    expiry=expiry,
                    model_id=track.order + 1,
                    model_version=self._version,
                    program=program,
                )
            )
        if changed:
            self._emit("published", track)
        return Proposal(
            track.name, track.order + 1, self._version, dict(programs), tuple(recommendations)
        )

    def take_events(self) -> list[ModelEvent]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def report(self) -> dict[str, Any]:
        """Everything about the models, ready for JSON."""
        return {
            "champion": self._champion or "",
            "version": self._version,
            "labels": self._labels,
            "skipped": self._skipped,
            "drifts": sum(track.drifts for track in self._tracks.values()),
            "candidates": {track.name: self._line(track) for track in self._tracks.values()},
        }

    def _line(self, track: Track) -> dict[str, Any]:
        pace = track.pace.value
        return {
            "state": track.state,
            "reason": track.dropped_because,
            "labels": sum(track.labels),
            "loss": track.loss.value if track.candidate.predicts else None,
            "cost": self._cost_of(track) if track.alive else None,
            "nodes": track.size.nodes,
            "bytes": track.size.bytes,
            "drifts": track.drifts,
            "rebuilt": track.rebuilt,
            "seconds": track.seconds,
            "us_per_label": pace * 1e6 if pace is not None else None,
        }
