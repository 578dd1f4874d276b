"""One line of the doctor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ("Finding", "State")

State = Literal["ok", "missing", "unusable"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing.

    Attributes:
        name: of the thing.
        state: `ok`; `missing`: it is not there, what needs it does without; `unusable`:
            it is there, or is wanted by the configuration, and cannot be used.
        found: what was found.
        effect: what works, or does not, because of it.
        hint: what to do about it, or "".
    """

    name: str
    state: State
    found: str
    effect: str
    hint: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the finding, ready for JSON."""
        return asdict(self)
