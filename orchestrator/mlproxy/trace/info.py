"""What a trace holds, in figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlproxy.trace.format import Op, Trace

__all__ = ("describe", "live_bytes")


def live_bytes(trace: Trace) -> tuple[int, int]:
    """Sum of all file sizes: its highest value during the trace, and its last, in bytes.

    Example:
        >>> import numpy as np
        >>> columns = [[Op.CREATE, Op.WRITE, Op.TRUNCATE], [0, 0, 0], [0, 0, 10], [0, 100, 0]]
        >>> arrays = [np.array(c, np.int64) for c in columns]
        >>> none = np.zeros(1, np.uint32)
        >>> live_bytes(Trace(*arrays, arrays[0], none, none))
        (100, 10)
    """
    changes = np.isin(
        trace.op,
        (Op.CREATE, Op.WRITE, Op.TRUNCATE, Op.DELETE, Op.REPLACE, Op.ALLOCATE),
    )
    rows = zip(
        trace.op[changes].tolist(),
        trace.file[changes].tolist(),
        trace.offset[changes].tolist(),
        trace.length[changes].tolist(),
        strict=True,
    )
    size = [0] * trace.nr_files
    now = peak = 0
    for op, file, offset, length in rows:
        had = size[file]
        if op in (Op.WRITE, Op.ALLOCATE):
            has = max(had, offset + length)
        elif op == Op.TRUNCATE:
            has = offset
        else:
            has = length if op == Op.CREATE else 0
        size[file] = has
        now += has - had
        peak = max(peak, now)
    return peak, now


def describe(trace: Trace) -> dict[str, Any]:
    """Figures of a trace, ready for JSON: counts, bytes, duration, live peak, integrity."""
    peak, final = live_bytes(trace)
    counts = np.bincount(trace.op, minlength=len(Op))
    return {
        "events": trace.nr_events,
        "files": trace.nr_files,
        "directories": len(trace.dirs),
        "classes": len(trace.classes),
        "bytes_written": int(trace.length[trace.op == Op.WRITE].sum()),
        "duration_s": round(int(trace.time[-1]) / 1e6, 6) if trace.nr_events else 0.0,
        "live_peak_bytes": peak,
        "live_end_bytes": final,
        "tenant": trace.tenant,
        "time_unit_us": trace.time_unit_us,
        "ops": {op.name.lower(): int(counts[op]) for op in Op if counts[op]},
        "meta": trace.meta,
        "summary": trace.summary,
        "damage": None
        if trace.damage is None
        else {
            "code": trace.damage.code,
            "message": str(trace.damage.args[0]),
            "offset": trace.damage.context["offset"],
        },
    }
