"""When two proxies pull at the same thing: how far each may be trusted now.

Rules S1 to S5 of docs/reference/arbitration.md. Two trials that move the same
resource spoil each other's measurement, so of the proxies that share one only
one climbs at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlproxy.errors import ConfigError
from mlproxy.proxy.types import Mode

__all__ = ("Claim", "ResourceArbiter")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a proxy declares.

    Attributes:
        proxy: its name.
        resources: names of what its decisions move ("disk0.bandwidth", "memory").
        priority: the higher goes first.
    """

    proxy: str
    resources: tuple[str, ...] = ()
    priority: int = 0


class ResourceArbiter:
    """Tells how far each proxy may climb, from the modes they are in.

    Args:
        claims: one per proxy.
        turn: how long (seconds) a proxy may try to climb while others that
            share a resource wait; then it goes to the end of the queue.

    Raises:
        ConfigError: `learn.claims` when a proxy occurs twice or `turn` is not positive.

    >>> arbiter = ResourceArbiter([Claim("a", ("disk",), 1), Claim("b", ("disk",))], turn=60)
    >>> modes = {"a": Mode.LEARNING, "b": Mode.LEARNING}
    >>> {name: mode.name for name, mode in arbiter.ceilings(modes, 0.0).items()}
    {'a': 'TRUSTED', 'b': 'LEARNING'}
    """

    def __init__(self, claims: Sequence[Claim], *, turn: float) -> None:
        if len({claim.proxy for claim in claims}) != len(claims) or not turn > 0:
            raise ConfigError(
                "every proxy makes one claim, and a turn takes more than 0 s",
                code="learn.claims",
                hint="check the proxies' names and the turn",
            )
        self._claims = {claim.proxy: claim for claim in claims}
        ranked = sorted(claims, key=lambda claim: (-claim.priority, claim.proxy))
        names = sorted({name for claim in claims for name in claim.resources})
        self._queues = {
            name: [claim.proxy for claim in ranked if name in claim.resources] for name in names
        }
        self._turn = turn
        self._since: dict[str, tuple[str, float]] = {}

    def ceilings(
        self, modes: Mapping[str, Mode], now: float, *, emergency: bool = False
    ) -> dict[str, Mode]:
        """The highest mode each proxy may have now.

        Args:
            modes: proxy -> its mode; a claimed proxy that is missing is not running.
            now: seconds, from any clock that does not go back.
            emergency: the global emergency is on.
        """
        if emergency:
            return dict.fromkeys(modes, Mode.EMERGENCY)
        ceilings = dict.fromkeys(modes, Mode.TRUSTED)
        for resource, queue in self._queues.items():
            running = [name for name in queue if name in modes]
            if len(running) < 2:
                continue
            for name in self._held(resource, running, modes, now):
                ceilings[name] = Mode.LEARNING
        return ceilings

    def _held(
        self, resource: str, running: list[str], modes: Mapping[str, Mode], now: float
    ) -> list[str]:
        """Which of the proxies that share `resource` must stay in learning."""
        if any(modes[name] == Mode.EMERGENCY for name in running):
            # S2: a resource in distress is no place for trials; what is trusted stays.
            self._since.pop(resource, None)
            return [name for name in running if modes[name] < Mode.TRUSTED]
        climbers = [name for name in running if modes[name] != Mode.TRUSTED]
        if not climbers:
            self._since.pop(resource, None)
            return []
        holder, since = self._since.get(resource, ("", now))
        if holder in climbers and now - since >= self._turn and len(climbers) > 1:
            # S4: its turn is over without trust; the next one tries.
            queue = self._queues[resource]
            queue.remove(holder)
            queue.append(holder)
            climbers = [name for name in queue if name in climbers]
            holder = ""
        if holder not in climbers:
            holder = climbers[0]
            self._since[resource] = (holder, now)
        return [name for name in climbers if name != holder]
