"""Structured logs: for people on a terminal, JSON lines for machines.

Event names are `noun.verb_past`. Everything goes to stderr; stdout belongs to
the results of commands.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Literal, TextIO

import msgspec
import structlog

__all__ = ("RateLimit", "configure", "get_logger")

LogFormat = Literal["auto", "console", "json"]


class RateLimit:
    """Processor that lets a repeated warning or error through once per interval.

    Repeats are told apart by (level, event, plugin, subsystem, code). The next one that passes
    says in `suppressed` how many were swallowed. The table is bounded.
    """

    def __init__(
        self,
        interval_seconds: float = 10.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_keys: int = 1024,
    ) -> None:
        self._interval = interval_seconds
        self._clock = clock
        self._max_keys = max_keys
        self._seen: dict[tuple[str, ...], tuple[float, int]] = {}

    def __call__(
        self, _logger: Any, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Pass the event or drop it (structlog's processor protocol)."""
        if method not in {"warning", "error", "critical", "exception"}:
            return event
        parts = (event.get(k, "") for k in ("event", "plugin", "subsystem", "code"))
        key = (method, *map(str, parts))
        now = self._clock()
        last, swallowed = self._seen.get(key, (None, 0))
        if last is not None and now - last < self._interval:
            self._seen[key] = (last, swallowed + 1)
            raise structlog.DropEvent
        if len(self._seen) >= self._max_keys:
            self._seen.clear()
        self._seen[key] = (now, 0)
        if swallowed:
            event["suppressed"] = swallowed
        return event


def _json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(dict(event), enc_hook=repr).decode()


def configure(
    level: str = "info", log_format: LogFormat = "auto", stream: TextIO | None = None
) -> None:
    """Set up logging for this process.

    Args:
        level: debug, info, warning or error.
        log_format: `console`, `json`, or `auto`: console if and only if the stream is a
            terminal.
        stream: where to; stderr unless told.
    """
    out = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        RateLimit(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[structlog.types.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=out.isatty())]
        if console
        else [structlog.processors.dict_tracebacks, _json]
    )
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    # What libraries say through the standard library's logging takes the same road.
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


def get_logger(**bound: Any) -> Any:
    """Return a logger with the given fields bound to every event."""
    return structlog.get_logger(**bound)
