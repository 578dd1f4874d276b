"""Programs as bytes: encode, decode, check and evaluate (struct mlp_program)."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from mlproxy import _core
from mlproxy.errors import ProgramError
from mlproxy.proxy.types import Program, ProgramNode, Reject

__all__ = ("check_program", "decode_program", "encode_program", "eval_program")

_HEADER: Final = struct.Struct("<IHHHHI8H8i")
_NODE: Final = struct.Struct("<HHHHiI")
_LEAF: Final = 0xFFFF
_MAX_TREES: Final = 8
_MAX_CUTS: Final = 8

ffi = _core.ffi
lib = _core.lib


def encode_program(program: Program) -> bytes:
    """Return the bytes that the proxy takes; the content is not judged.

    Raises:
        ProgramError: `program.encode` when a number does not fit its field.

    Example:
        >>> tree = Program((ProgramNode(0, 10, 1, 2), ProgramNode(-1, 0), ProgramNode(-1, 1)))
        >>> len(encode_program(tree))
        112
        >>> eval_program(tree, np.array([[3], [11]], dtype=np.int32)).tolist()
        [0, 1]
    """
    if len(program.roots) > _MAX_TREES or len(program.cuts) > _MAX_CUTS:
        raise ProgramError(
            f"a program has at most {_MAX_TREES} trees and {_MAX_CUTS} cuts,"
            f" not {len(program.roots)} and {len(program.cuts)}",
            code="program.encode",
        )
    roots = (*program.roots, *(0,) * (_MAX_TREES - len(program.roots)))
    cuts = (*program.cuts, *(0,) * (_MAX_CUTS - len(program.cuts)))
    try:
        parts = [
            _HEADER.pack(
                len(program.nodes),
                len(program.roots),
                program.nr_features,
                len(program.cuts),
                program.stream,
                0,
                *roots,
                *cuts,
            )
        ]
        parts += [
            _NODE.pack(
                n.feature if n.feature >= 0 else _LEAF, n.left, n.right, n.confidence, n.value, 0
            )
            for n in program.nodes
        ]
    except struct.error as e:
        raise ProgramError(
            f"a number of the program does not fit its field: {e}", code="program.encode"
        ) from e
    return b"".join(parts)


def decode_program(data: bytes) -> Program:
    """Return the program that these bytes hold, checked by the core.

    Raises:
        ProgramError: `program.invalid` as `check_program`.
    """
    check_program(data)
    nr_nodes, nr_trees, nr_features, nr_cuts, stream, _, *rest = _HEADER.unpack_from(data)
    nodes = []
    for i in range(nr_nodes):
        feature, left, right, confidence, value, _ = _NODE.unpack_from(
            data, _HEADER.size + i * _NODE.size
        )
        nodes.append(
            ProgramNode(-1 if feature == _LEAF else feature, value, left, right, confidence)
        )
    return Program(
        nodes=tuple(nodes),
        roots=tuple(rest[:nr_trees]),
        nr_features=nr_features,
        cuts=tuple(rest[_MAX_TREES : _MAX_TREES + nr_cuts]),
        stream=stream,
    )


def _bytes_of(program: Program | bytes) -> bytes:
    return encode_program(program) if isinstance(program, Program) else program


def check_program(program: Program | bytes) -> None:
    """Check what every proxy demands of a program (not one proxy's actions).

    Raises:
        ProgramError: `program.invalid`; context `reject` is the `Reject`.
    """
    data = _bytes_of(program)
    error = lib.mlp_program_check(ffi.from_buffer(data), len(data), ffi.NULL)
    if error:
        reject = Reject(-error)
        raise ProgramError(
            f"the program is not valid: {reject.name.lower()}",
            code="program.invalid",
            hint="docs/reference/proxy-core.md lists what each rejection means",
            reject=reject,
        )


def eval_program(
    program: Program | bytes, features: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """Evaluate a program on many rows at once, natively.

    Args:
        program: checked here, so that no input can read out of bounds.
        features: quantised features, int32, shape [rows, >= nr_features].

    Returns:
        The actions, int32, shape [rows].

    Raises:
        ProgramError: `program.invalid`, or `program.features` for a wrong shape or type.
    """
    data = _bytes_of(program)
    check_program(data)
    nr_features = _HEADER.unpack_from(data)[2]
    if features.ndim != 2 or features.dtype != np.int32 or features.shape[1] < nr_features:
        raise ProgramError(
            f"features must be int32 of shape [n, >= {nr_features}],"
            f" not {features.dtype} {features.shape}",
            code="program.features",
        )
    rows = np.ascontiguousarray(features)
    actions = np.empty(rows.shape[0], dtype=np.int32)
    # An aligned copy: a bytes object's buffer need not suit 32-bit loads.
    aligned = ffi.new("__u64[]", (len(data) + 7) // 8)
    ffi.memmove(aligned, data, len(data))
    lib.mlpy_eval_many(
        aligned,
        ffi.cast("__s32 *", ffi.from_buffer(rows)) if rows.size else ffi.NULL,
        rows.shape[0],
        rows.shape[1],
        ffi.cast("__s32 *", ffi.from_buffer(actions)) if actions.size else ffi.NULL,
    )
    return actions
