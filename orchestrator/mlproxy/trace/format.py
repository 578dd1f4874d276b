"""The trace file: what a program wrote, as columns in checked chunks.

docs/reference/trace-format.md is the specification. In short: a header, then
frames, each with its own CRC; a frame of events holds columns of fixed width,
split into byte planes and compressed with zstd. Frames do not need each other to
be unpacked, so damage is found with its byte offset and what is before it stays
readable.
"""

from __future__ import annotations

from mlproxy.trace.layout import Op, Trace
from mlproxy.trace.reader import parse_trace, read_trace
from mlproxy.trace.writer import TraceWriter, write_trace

__all__ = ("Op", "Trace", "TraceWriter", "parse_trace", "read_trace", "write_trace")
