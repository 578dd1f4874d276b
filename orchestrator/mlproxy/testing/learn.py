"""Tools to test models with: a plain evaluator of programs, ring records of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlproxy.learn.batch import decode
from mlproxy.learn.candidate import CandidateRecipe
from mlproxy.learn.compile import quantise
from mlproxy.learn.spec import DecisionSpec
from mlproxy.proxy import RECORD_DTYPE, RecordType, check_program
from mlproxy.proxy.types import Program

__all__ = ("check_candidate", "evaluate", "label_records", "program_sum")


def program_sum(program: Program, row: Sequence[int]) -> int:
    """The summed leaf values for one row, written as plainly as can be.

    An independent statement of what a program means, to hold the core against.
    """
    total = 0
    for root in program.roots:
        node = program.nodes[root]
        while node.feature >= 0:
            node = program.nodes[node.left if row[node.feature] <= node.value else node.right]
        total += node.value
    return total


def evaluate(program: Program, row: Sequence[int]) -> int:
    """The action of `program` for one row: the cuts exceeded, or the sum without cuts."""
    total = program_sum(program, row)
    return sum(total > cut for cut in program.cuts) if program.cuts else total


def label_records(
    features: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    stream: npt.ArrayLike = 0,
    weight: npt.ArrayLike = 1,
    label_scale: int = 16,
    kind: RecordType = RecordType.LABEL,
) -> npt.NDArray[Any]:
    """Ring records as a proxy would publish them.

    Args:
        features: integers, shape (n, k).
        labels: in label units, shape (n,).
        stream: one number or shape (n,).
        weight: one number or shape (n,).
        label_scale: fixed point of the label.
        kind: the record type.
    """
    matrix = np.asarray(features)
    records = np.zeros(len(matrix), dtype=RECORD_DTYPE)
    records["seq"] = records["time"] = np.arange(1, len(matrix) + 1)
    records["type"] = int(kind)
    records["stream"] = stream
    records["aux"] = weight
    records["nr_features"] = matrix.shape[1]
    records["features"][:, : matrix.shape[1]] = matrix
    records["cost"] = np.rint(np.asarray(labels) * label_scale)
    return records


def check_candidate(recipe: CandidateRecipe, spec: DecisionSpec, records: npt.NDArray[Any]) -> None:
    """Check that a recipe's candidate keeps the contract of `Candidate`.

    Labels are learned twice by two candidates of the same seed; features must
    not be modified, predictions must be finite and repeatable, and programs
    must be valid, deterministic and within their stated resolution.

    Raises:
        AssertionError: naming what is wrong.
    """
    one, two = recipe.make(spec, 7), recipe.make(spec, 7)
    rows = decode(records, spec).rows
    assert rows, "give some LABEL records"
    for stream, x, y, w in rows:
        before = dict(x)
        guess, again = one.predict_one(stream, x), two.predict_one(stream, dict(x))
        assert np.isfinite(guess), f"{recipe.name} predicted {guess}"
        assert guess == again, f"{recipe.name} is not deterministic"
        one.learn_one(stream, x, y, w)
        two.learn_one(stream, dict(x), y, w)
        assert x == before, f"{recipe.name} modified the features"
    assert one.size().bytes > 0, f"{recipe.name} says it takes no memory"
    for number, stream_spec in enumerate(spec.streams):
        for how in ("compile", "compile_best"):
            compiled = getattr(one, how)(number)
            check_program(compiled.program)
            assert compiled == getattr(two, how)(number), f"{recipe.name}.{how} is not repeatable"
            assert compiled.program.stream == number, f"{recipe.name}: program of a wrong stream"
            assert compiled.program.nr_features <= len(stream_spec.features)
            if not one.predicts or compiled.final or compiled.pruned:
                continue
            for stream, x, _, _ in rows[-200:]:
                if stream == number:
                    sum_ = program_sum(compiled.program, list(x.values()))
                    wanted = quantise(one.predict_one(stream, x), spec.value_scale)
                    slack = round(compiled.resolution * spec.value_scale) + 1
                    assert abs(sum_ - wanted) <= slack, f"{recipe.name} is not what it compiles to"
