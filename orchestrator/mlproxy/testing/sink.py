"""A sink that remembers."""

from __future__ import annotations

from typing import TypeVar

from mlproxy.events.types import FeedMessage

__all__ = ("RecordingSink",)

M = TypeVar("M", bound=FeedMessage)


class RecordingSink:
    """An EventSink that keeps every message, for tests."""

    def __init__(self) -> None:
        self.messages: list[FeedMessage] = []

    def emit(self, message: FeedMessage) -> None:
        """Keep a message."""
        self.messages.append(message)

    def of(self, kind: type[M], proxy: str | None = None) -> list[M]:
        """The messages of one kind (and one proxy), in order."""
        return [
            m
            for m in self.messages
            if isinstance(m, kind) and (proxy is None or getattr(m, "proxy", None) == proxy)
        ]
