"""Recommendations as bytes (struct mlp_recommendation and its payload)."""

from __future__ import annotations

import struct
from typing import Final

from mlproxy import _core
from mlproxy.errors import ProxyError
from mlproxy.proxy.program import encode_program
from mlproxy.proxy.types import Kind, Recommendation

__all__ = ("encode_recommendation",)

_HEADER: Final = struct.Struct("<HHIIIQQIHHqQQ")
_ABI_VERSION: Final = int(_core.lib.MLP_ABI_VERSION)


def encode_recommendation(recommendation: Recommendation) -> bytes:
    """Return a recommendation as the proxy takes it (struct mlp_recommendation).

    Raises:
        ProxyError: `proxy.encode` when a number does not fit its field.
        ProgramError: `program.encode`, likewise for the program.
    """
    try:
        body = b""
        if recommendation.kind is Kind.RANK:
            body = struct.pack(f"<{len(recommendation.ids)}Q", *recommendation.ids)
        elif recommendation.kind is Kind.PROGRAM and recommendation.program is not None:
            body = encode_program(recommendation.program)
        header = _HEADER.pack(
            _HEADER.size,
            _ABI_VERSION,
            recommendation.kind,
            _HEADER.size + len(body),
            recommendation.model_id,
            recommendation.seq,
            recommendation.expiry,
            recommendation.model_version,
            recommendation.confidence,
            len(recommendation.ids),
            recommendation.value,
            0,
            0,
        )
    except struct.error as e:
        raise ProxyError(
            f"a number of the recommendation does not fit its field: {e}", code="proxy.encode"
        ) from e
    return header + body
