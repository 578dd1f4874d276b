"""What is to be learned: the features, the label and the actions of one decision."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from mlproxy.errors import ConfigError

__all__ = ("DecisionSpec", "FeatureSpec", "StreamSpec")

MAX_FEATURES = 16
MAX_CUTS = 8


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One quantised feature: an integer, normally within `low`..`high`.

    Values outside are legal (trees compare them as they are), but the linear
    model sees them clipped to the range.

    Attributes:
        name: for reports.
        low: smallest usual value.
        high: largest usual value, above `low`.
        prior_weight: slope of the linear prior, in label units per feature unit.
    """

    name: str
    low: int
    high: int
    prior_weight: float = 0.0


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One feature stream of a decision; its index in `DecisionSpec.streams` is its number.

    Attributes:
        name: for reports.
        features: in the order of the ring record.
        prior: label predicted before anything is learned, in label units.
        classes: how many actions the cuts divide predictions into, 2..9; 0 for
            a program without cuts, whose action is the prediction in fixed point.
        cuts: where the cuts start (and stay, if they are fixed), in label
            units, ascending; () to take the first ones found.
    """

    name: str
    features: tuple[FeatureSpec, ...]
    prior: float = 0.0
    classes: int = 3
    cuts: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class DecisionSpec:
    """One decision and how its numbers are scaled.

    Attributes:
        name: of the decision, for events.
        streams: feature streams, at least one.
        label_scale: a LABEL record's cost divided by this is the label.
        label_low: labels are clipped to `label_low`..`label_high` (label units).
        label_high: see `label_low`.
        value_scale: programs compute in 1/value_scale label units.

    Raises:
        ConfigError: `learn.spec` when the numbers make no sense.
    """

    name: str
    streams: tuple[StreamSpec, ...]
    label_scale: int = 16
    label_low: float = 0.0
    label_high: float = 32.0
    value_scale: int = 1024

    def __post_init__(self) -> None:
        problems = []
        if not self.streams:
            problems.append("there is no stream")
        if self.label_scale < 1 or self.value_scale < 1:
            problems.append("label_scale and value_scale must be at least 1")
        if not self.label_low < self.label_high:
            problems.append("label_low must be below label_high")
        # Eight trees are summed in 32 bits.
        if max(abs(self.label_low), abs(self.label_high)) * self.value_scale > (1 << 27):
            problems.append("label range times value_scale must stay below 2^27")
        for stream in self.streams:
            if not 1 <= len(stream.features) <= MAX_FEATURES:
                problems.append(f"stream {stream.name} needs 1..{MAX_FEATURES} features")
            if stream.classes != 0 and not 2 <= stream.classes <= MAX_CUTS + 1:
                problems.append(f"stream {stream.name}: classes must be 0 or 2..{MAX_CUTS + 1}")
            elif stream.cuts and (
                len(stream.cuts) != stream.classes - 1
                or any(a >= b for a, b in pairwise(stream.cuts))
            ):
                problems.append(
                    f"stream {stream.name}: cuts must be ascending and one fewer than classes"
                )
            problems.extend(
                f"stream {stream.name}, feature {feature.name}: low must be below high"
                for feature in stream.features
                if feature.low >= feature.high
            )
        if problems:
            raise ConfigError(
                f"decision {self.name}: " + "; ".join(problems),
                code="learn.spec",
                hint="correct the DecisionSpec of the plugin",
                decision=self.name,
            )
