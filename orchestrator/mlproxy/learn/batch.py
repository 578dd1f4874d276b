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
        columns: lists of streams, features, labels and weights.
        matrix: their features, shape (n, most features of any stream).
        stream: their streams, shape (n,).
        weight: shape (n,).
        time: proxy times, shape (n,).
        skipped: labels of an unknown stream or with too few features.
    """

    columns: Columns
    matrix: npt.NDArray[np.int64]
    stream: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    time: npt.NDArray[np.uint64]
    skipped: int

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def rows(self) -> list[Label]:
        """The columns as one tuple (stream, features, label, weight) per label."""
        return list(zip(*self.columns, strict=True))

    def part(self, start: int, stop: int) -> Columns:
        """The columns of labels `start` up to `stop`."""
        streams, features, labels, weights = self.columns
        return (
            streams[start:stop],
            features[start:stop],
            labels[start:stop],
            weights[start:stop],
        )


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
    matrix = chosen["features"][:, :widest].astype(np.int64)
    stream = stream[take]
    y = np.clip(chosen["cost"] / spec.label_scale, spec.label_low, spec.label_high)
    weight = np.where(chosen["aux"] > 0, chosen["aux"], 1).astype(np.float64)
    keys = [range(count) for count in wanted.tolist()]
    numbers = stream.tolist()
    features: list[Features] = [
        dict(zip(keys[s], values, strict=False))
        for s, values in zip(numbers, matrix.tolist(), strict=True)
    ]
    return Labels(
        (numbers, features, y.tolist(), weight.tolist()),
        matrix,
        stream,
        weight,
        chosen["time"],
        int(labels.sum()) - len(numbers),
    )


def features_of(
    records: npt.NDArray[Any], kind: RecordType
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Streams and features of the records of one type: shapes (n,), (n, 16)."""
    chosen = records[records["type"] == int(kind)]
    return chosen["stream"].astype(np.int64), chosen["features"].astype(np.int64)
