"""Ring records into what River learns from, once per batch for all candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlproxy.learn.candidate import Features
from mlproxy.learn.spec import DecisionSpec
from mlproxy.proxy.types import RecordType

__all__ = ("Columns", "Label", "Labels", "decode", "features_of")

# stream, features, label, weight
Label = tuple[int, Features, float, float]
# The same by column: a tuple per label would only give the garbage collector work.
Columns = tuple[list[int], list[Features], list[float], list[float]]


@dataclass(frozen=True, slots=True)
class Labels:
    """The LABEL records of one batch, in order.

    Attributes:
        matrix: features, shape (n, most features of any stream).
        stream: shape (n,).
        label: in label units, shape (n,).
        weight: shape (n,).
        time: proxy times, shape (n,).
        skipped: labels of an unknown stream or with too few features.
        widths: how many features each stream of the decision has.
    """

    matrix: npt.NDArray[np.int32]
    stream: npt.NDArray[np.int64]
    label: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]
    time: npt.NDArray[np.uint64]
    skipped: int
    widths: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.stream)

    @property
    def rows(self) -> list[Label]:
        """All labels as tuples (stream, features, label, weight)."""
        return list(zip(*self.part(0, len(self)), strict=True))

    def part(self, start: int, stop: int) -> Columns:
        """Streams, features, labels and weights of labels `start` up to `stop`.

        Dicts are made here and not for the whole batch: some hundred at a time live
        and die between two collections of the garbage collector.
        """
        keys = [range(width) for width in self.widths]
        streams = self.stream[start:stop].tolist()
        features: list[Features] = [
            dict(zip(keys[stream], values, strict=False))
            for stream, values in zip(streams, self.matrix[start:stop].tolist(), strict=True)
        ]
        return streams, features, self.label[start:stop].tolist(), self.weight[start:stop].tolist()


def decode(records: npt.NDArray[Any], spec: DecisionSpec) -> Labels:
    """Pick the LABEL records out of `records` and convert them.

    A weight of 0 or less means 1. Labels are clipped to the spec's range.

    Args:
        records: structured array with the fields of struct mlp_record.
        spec: the decision.
    """
    wanted = np.array([len(stream.features) for stream in spec.streams])
    stream = records["stream"].astype(np.int64)
    known = stream < len(wanted)
    enough = records["nr_features"] >= wanted[np.minimum(stream, len(wanted) - 1)]
    labels = records["type"] == int(RecordType.LABEL)
    take = labels & known & enough
    chosen = records if bool(take.all()) else records[take]
    widest = int(wanted.max())
    matrix = chosen["features"][:, :widest].astype(np.int32)
    stream = stream[take]
    y = np.clip(chosen["cost"] / spec.label_scale, spec.label_low, spec.label_high)
    weight = np.where(chosen["aux"] > 0, chosen["aux"], 1).astype(np.float64)
    return Labels(
        matrix,
        stream,
        y,
        weight,
        chosen["time"],
        int(labels.sum()) - len(stream),
        tuple(wanted.tolist()),
    )


def features_of(
    records: npt.NDArray[Any], kind: RecordType
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Streams and features of the records of one type: shapes (n,), (n, 16)."""
    chosen = records[records["type"] == int(kind)]
    return chosen["stream"].astype(np.int64), chosen["features"].astype(np.int32)
