"""The module's tracepoints, read through an instance of tracefs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_INSTANCE = Path("/sys/kernel/tracing/instances/mlproxy_case")
_LINE = re.compile(r": (mlproxy_\w+): (.*)$", re.MULTILINE)

Event = dict[str, str]


class Trace:
    """What was traced since the last look."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, event: str) -> list[Event]:
        """The fields of each event of this name, oldest first; all others are forgotten."""
        text = (self._folder / "trace").read_text(encoding="ascii")
        (self._folder / "trace").write_text("", encoding="ascii")
        return [fields(rest) for name, rest in _LINE.findall(text) if name == event]


def fields(text: str) -> Event:
    """The fields of a printed event.

    >>> fields("proxy=a arm=model action=-3")
    {'proxy': 'a', 'arm': 'model', 'action': '-3'}
    """
    return dict(field.split("=", 1) for field in text.split())


@contextmanager
def tracing() -> Iterator[Trace]:
    """All events of mlproxy are traced inside."""
    _INSTANCE.mkdir()
    try:
        (_INSTANCE / "buffer_size_kb").write_text("4096", encoding="ascii")
        (_INSTANCE / "events/mlproxy/enable").write_text("1", encoding="ascii")
        yield Trace(_INSTANCE)
        (_INSTANCE / "events/mlproxy/enable").write_text("0", encoding="ascii")
    finally:
        _INSTANCE.rmdir()
