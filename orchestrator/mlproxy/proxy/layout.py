"""The shared layout as numpy sees it, checked against the compiled C structs."""

from __future__ import annotations

from typing import Final

import numpy as np

from mlproxy import _core
from mlproxy.errors import ProxyError

__all__ = ("META_BYTES", "RECORD_DTYPE", "RING_META_DTYPE", "check_layout")

META_BYTES: Final = 4096
"""Bytes of the meta page; the records follow it."""

RECORD_DTYPE: Final = np.dtype(
    [
        ("seq", "<u8"),
        ("time", "<u8"),
        ("unit", "<u8"),
        ("cost", "<i8"),
        ("aux", "<i8"),
        ("model_version", "<u4"),
        ("type", "u1"),
        ("arm", "u1"),
        ("mode", "u1"),
        ("stream", "u1"),
        ("default_action", "<i4"),
        ("action", "<i4"),
        ("flags", "<u4"),
        ("nr_features", "<u4"),
        ("features", "<i4", (16,)),
    ]
)
"""struct mlp_record (kmod/uapi/mlproxy.h)."""

RING_META_DTYPE: Final = np.dtype(
    [
        ("magic", "<u4"),
        ("abi_version", "<u2"),
        ("struct_len", "<u2"),
        ("record_size", "<u4"),
        ("capacity", "<u4"),
        ("flags", "<u8"),
        ("head", "<u8"),
        ("tail", "<u8"),
        ("lost", "<u8"),
        ("mode", "<u4"),
        ("mode_seq", "<u4"),
        ("reserved", "<u8", (8,)),
    ]
)
"""struct mlp_ring_meta (kmod/uapi/mlproxy.h)."""


def check_layout(dtype: np.dtype[np.void], struct: str) -> None:
    """Compare a dtype with a C struct, field by field.

    Args:
        dtype: the structured dtype.
        struct: C name, such as "struct mlp_record".

    Raises:
        ProxyError: `proxy.layout` when name, offset or size differ.
    """
    ffi = _core.ffi
    ctype = ffi.typeof(struct)
    compiled = [(name, f.offset, ffi.sizeof(f.type)) for name, f in ctype.fields]
    fields = dtype.fields
    ours = [(n, fields[n][1], fields[n][0].itemsize) for n in dtype.names or () if fields]
    if compiled != ours or ffi.sizeof(ctype) != dtype.itemsize:
        raise ProxyError(
            f"{struct} was compiled with another layout than numpy reads",
            code="proxy.layout",
            hint="rebuild the package: make setup",
            compiled=compiled,
            read=ours,
        )


check_layout(RECORD_DTYPE, "struct mlp_record")
check_layout(RING_META_DTYPE, "struct mlp_ring_meta")
