"""Every error that mlproxy raises on purpose, each with a stable code.

A message says what happened and where; the hint says what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

__all__ = (
    "ConfigError",
    "ControlError",
    "FeedError",
    "MlproxyError",
    "PluginError",
    "Problem",
    "ProgramError",
    "ProxyError",
    "PsiError",
    "TraceError",
)


class MlproxyError(Exception):
    """Root of the errors that mlproxy raises.

    Attributes:
        code: stable slug, `area.problem`; listed in docs/reference/errors.md.
        hint: what the reader can do about it, or "".
        context: where it happened (file, key, byte offset, plugin, ...).
    """

    def __init__(self, message: str, *, code: str, hint: str = "", **context: object) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.context = context

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries (benches), with their code.
        return _rebuild, (type(self), self.args[0], self.code, self.hint, self.context)

    def __str__(self) -> str:
        text = f"[{self.code}] {self.args[0]}"
        return f"{text} ({self.hint})" if self.hint else text


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the configuration.

    Attributes:
        code: stable slug, `config.*`.
        key: dotted key, or "" for the file as a whole.
        source: file (with line where known), environment variable or option.
        message: what is wrong.
        hint: what to do about it, or "".
    """

    code: str
    key: str
    source: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.source}: {self.key}" if self.key else self.source
        text = f"[{self.code}] {where}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text

    def as_dict(self) -> dict[str, str]:
        """Return the problem, ready for JSON."""
        return asdict(self)


def _rebuild(
    kind: type[MlproxyError], message: str, code: str, hint: str, context: dict[str, object]
) -> MlproxyError:
    return kind(message, code=code, hint=hint, **context)


class ConfigError(MlproxyError):
    """Raised when the configuration is invalid; `problems` holds all of them."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        hint: str = "",
        problems: Sequence[Problem] = (),
        **context: object,
    ) -> None:
        super().__init__(message, code=code, hint=hint, **context)
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries (benches), with their code.
        return _rebuild, (type(self), self.args[0], self.code, self.hint, self.context)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  {p}" for p in self.problems)])


class PluginError(MlproxyError):
    """Raised when a plugin breaks its contract; context has `plugin`, `phase`."""


class ProxyError(MlproxyError):
    """Raised when a proxy refuses a call (bad configuration, wrong state)."""


class ProgramError(MlproxyError):
    """Raised when a model cannot be compiled to a program, or one is invalid."""


class PsiError(MlproxyError):
    """Raised when pressure cannot be measured; context has `file`."""


class TraceError(MlproxyError):
    """Raised on a trace file that is damaged or not one; context has `offset`."""


class FeedError(MlproxyError):
    """Raised when the feed cannot be set up (never for a broker that is away)."""


class ControlError(MlproxyError):
    """Raised by the control socket's client: daemon away, refused, bad reply."""
