"""Where the daemon's messages go: any number of sinks, none of which may block."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from typing import Any, Protocol

from mlproxy.app.worker import Worker
from mlproxy.events.types import (
    FeedEvent,
    FeedMessage,
    ModeEvent,
    ModelEvent,
    PluginEvent,
    RejectEvent,
)
from mlproxy.hooks import Hooks
from mlproxy.log import get_logger

__all__ = ("EventSink", "Fanout", "LogSink", "Notifier")


class EventSink(Protocol):
    """Takes messages. `emit` is called in the event loop, never blocks and never raises."""

    def emit(self, message: FeedMessage) -> None:
        """Take one message."""


class LogSink:
    """Writes events (not states and metrics) to the log."""

    def __init__(self) -> None:
        self._log = get_logger()

    def emit(self, message: FeedMessage) -> None:
        """Log an event under the name `noun.verb_past`."""
        match message:
            case ModeEvent():
                gain = {
                    e.source: f"{e.saving_ratio:+.3f} [{e.lower_ratio:+.3f}, {e.upper_ratio:+.3f}]"
                    for e in message.evidence
                }
                self._log.info(
                    "mode.changed",
                    proxy=message.proxy,
                    old=message.old,
                    new=message.new,
                    reason=message.reason,
                    at=message.at,
                    **gain,
                )
            case RejectEvent():
                self._log.warning(
                    "recommendation.rejected",
                    proxy=message.proxy,
                    reason=message.reason,
                    count=message.count,
                )
            case ModelEvent():
                self._log.info(
                    f"model.{message.what}",
                    proxy=message.proxy,
                    candidate=message.candidate,
                    reason=message.reason,
                )
            case PluginEvent():
                log = self._log.error if message.code else self._log.info
                log(
                    f"plugin.{message.what}",
                    plugin=message.proxy,
                    **{
                        k: v
                        for k, v in (
                            ("phase", message.phase),
                            ("code", message.code),
                            ("message", message.message),
                        )
                        if v
                    },
                )
            case _:
                pass


class Fanout:
    """Passes every message to each sink; one that raises is logged and skipped.

    Args:
        sinks: may be changed while running (a feed that is replaced).
    """

    def __init__(self, sinks: Sequence[EventSink] = ()) -> None:
        self.sinks: list[EventSink] = list(sinks)
        self._log = get_logger()

    def emit(self, message: FeedMessage) -> None:
        """Pass on one message."""
        for sink in tuple(self.sinks):
            try:
                sink.emit(message)
            except Exception as error:  # noqa: BLE001 - a sink must not stop the supervisors
                self._log.error("sink.failed", sink=type(sink).__name__, error=repr(error))


class Notifier:
    """Calls the plugins' `mlproxy_event` hooks in a thread of its own.

    The queue is bounded: when a listener is slow or hangs, events are dropped
    and counted, and nobody waits.
    """

    def __init__(self, hooks: Hooks, *, size: int = 1024) -> None:
        self._hooks = hooks
        self._listeners = [n for n in hooks.names() if hooks.implements("mlproxy_event", n)]
        self._queue: queue.Queue[FeedEvent] = queue.Queue(size)
        self._worker = Worker("mlproxy-notify") if self._listeners else None
        self._log = get_logger()
        self.dropped = 0

    def emit(self, message: FeedMessage) -> None:
        """Queue an event for the listeners."""
        if self._worker is None or not isinstance(message, FeedEvent):
            return
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self.dropped += 1
            return
        self._worker.submit(self._deliver)

    def _deliver(self) -> None:
        event: Any = self._queue.get_nowait()
        for name in self._listeners:
            try:
                self._hooks.event(name, event)
            except Exception as error:  # noqa: BLE001 - the next listener shall hear it too
                self._log.error("hook.failed", plugin=name, hook="mlproxy_event", error=repr(error))

    def close(self) -> None:
        """Let the thread end after what is queued; does not wait."""
        if self._worker is not None:
            self._worker.close()
