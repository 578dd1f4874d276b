"""Ring records into what River learns from, once per batch for all candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlproxy.learn.candidate import Features
from mlproxy.learn.spec import DecisionSpec
from mlproxy.proxy.types import RecordType

__all__ = ("Label", "Labels", "decode", "features_of")

# stream, features, label, weight
Label = tuple[int, Features, float, float]


@dataclass(frozen=True, slots=True)
class Labels:
    """The LABEL records of one batch, in order.

    Attributes:
        rows: one tuple (stream, features, label, weight) each.
        matrix: their features, shape (n, 16).
        stream: their streams, shape (n,).
        weight: shape (n,).
        time: proxy times, shape (n,).
        skipped: labels of an unknown stream or with too few features.
    """

    rows: list[Label]
    matrix: npt.NDArray[np.int64]
    stream: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    time: npt.NDArray[np.uint64]
    skipped: int


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
    chosen = records[take]
    matrix = np.ascontiguousarray(chosen["features"], dtype=np.int64)
    stream = stream[take]
    y = np.clip(chosen["cost"] / spec.label_scale, spec.label_low, spec.label_high)
    weight = np.where(chosen["aux"] > 0, chosen["aux"], 1).astype(np.float64)
    keys = [range(count) for count in wanted.tolist()]
    rows: list[Label] = [
        (s, dict(zip(keys[s], values, strict=False)), target, w)
        for s, values, target, w in zip(
            stream.tolist(), matrix.tolist(), y.tolist(), weight.tolist(), strict=True
        )
    ]
    return Labels(
        rows,
        matrix,
        stream,
        weight,
        chosen["time"],
        int(labels.sum()) - len(rows),
    )


def features_of(
    records: npt.NDArray[Any], kind: RecordType
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Streams and features of the records of one type: shapes (n,), (n, 16)."""
    chosen = records[records["type"] == int(kind)]
    return chosen["stream"].astype(np.int64), chosen["features"].astype(np.int64)
