"""Progress bars for long work: on stderr, for people only.

Nothing is written when stderr is not a terminal or when the caller asks for
quiet (`--json`), so that logs and pipes stay clean.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ("Board", "Task", "progress_board")


@dataclass(slots=True)
class Task:
    """One bar. Without a terminal it only keeps count."""

    total: float
    done: float = 0.0
    _progress: Progress | None = None
    _id: TaskID = field(default=TaskID(0))

    def advance(self, amount: float = 1.0) -> None:
        """`amount` more is done; more than the total is taken as the total."""
        self.update(self.done + amount)

    def update(self, done: float, note: str | None = None) -> None:
        """`done` of the total is done; `note` is shown behind the bar."""
        self.done = min(max(done, 0.0), self.total)
        if self._progress is not None:
            self._progress.update(self._id, completed=self.done)
            if note is not None:
                self._progress.update(self._id, note=note)


@dataclass(slots=True)
class Board:
    """All bars of one piece of work; methods may be called from any thread."""

    progress: Progress | None = None

    @property
    def visible(self) -> bool:
        """Whether anybody sees the bars."""
        return self.progress is not None

    def add(self, name: str, total: float = 1.0) -> Task:
        """A new bar below the others."""
        if self.progress is None:
            return Task(total)
        ident = self.progress.add_task(name, total=total, note="")
        return Task(total, _progress=self.progress, _id=ident)

    def say(self, text: str) -> None:
        """A line above the bars, when there are any."""
        if self.progress is not None:
            self.progress.console.print(Text(text))


@contextmanager
def progress_board(*, quiet: bool = False, stream: IO[str] | None = None) -> Iterator[Board]:
    """Bars while the block runs.

    Args:
        quiet: write nothing, whatever stderr is.
        stream: instead of stderr.

    Example:
        >>> with progress_board(quiet=True) as board:
        ...     bar = board.add("mail spool", total=3)
        ...     bar.advance(2)
        ...     bar.done
        2.0
    """
    console = Console(file=stream, stderr=stream is None, soft_wrap=True)
    if quiet or not console.is_terminal or os.environ.get("TERM") == "dumb":
        yield Board()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Board(progress)
