"""The seam between `mlproxy demo` and the plugin that has something to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mlproxy.events.types import FeedMessage

if TYPE_CHECKING:
    from mlproxy.report.model import DemoReport
    from mlproxy.report.table import Table

__all__ = ("Demo", "DemoOutcome", "FeedCount", "Part", "Stage", "Verdict")


class Stage(Protocol):
    """Where a part of a demonstration plays; callable from the part's own process."""

    def emit(self, message: FeedMessage) -> None:
        """Publish a message on the feed."""

    def progress(self, done: float, note: str = "") -> None:
        """`done` of 1 is done."""


@dataclass(frozen=True, slots=True)
class Part:
    """One act.

    Attributes:
        name: `[a-z][a-z0-9-]*`; the feed shows it as the node `demo-<name>`.
        title: one line for people.
        play: runs the part in a process of its own and returns its result;
            a top-level function or a partial of one, as it goes to that process.
        proxies: names of the proxies that it plays with.
    """

    name: str
    title: str
    play: Callable[[Stage], Any]
    proxies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a part was to show, and whether it did."""

    part: str
    held: bool
    statement: str


@dataclass(frozen=True, slots=True)
class FeedCount:
    """What went over the broker.

    Attributes:
        broker: its address.
        embedded: whether it ran inside the demonstration.
        emitted: events that the parts published.
        read: different events that came back from the broker.
        messages: all messages that came back, states and metrics included.
        dropped: messages that the feeds had to throw away.
        modes: mode changes among the events read back.
    """

    broker: str
    embedded: bool
    emitted: int
    read: int
    messages: int
    dropped: int
    modes: int

    @property
    def complete(self) -> bool:
        """Whether every event came back."""
        return self.read == self.emitted and not self.dropped


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """How it went.

    Attributes:
        verdicts: one per part, in order.
        table: the summary for people.
        report: the page.
        data: the same for JSON.
    """

    verdicts: Sequence[Verdict]
    table: Table
    report: DemoReport
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Demo:
    """What a plugin's hook `mlproxy_demo` returns.

    Attributes:
        name: for `mlproxy demo --plugin NAME`.
        description: one line.
        parts: (seed, quick) -> the parts, those that take longest first.
        conclude: (results by part name, what the feed counted) -> the outcome.
    """

    name: str
    description: str
    parts: Callable[[int, bool], Sequence[Part]]
    conclude: Callable[[Mapping[str, Any], FeedCount], DemoOutcome]
