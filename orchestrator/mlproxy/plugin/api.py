"""Ranges of the plugin API's version: `>=1.0,<2`."""

from __future__ import annotations

import re

from mlproxy.errors import PluginError

__all__ = ("accepts",)

_CLAUSE = re.compile(r"(>=|<=|==|<|>)\s*([0-9]+)(?:\.([0-9]+))?\Z")


def accepts(requirement: str, version: tuple[int, int]) -> bool:
    """Say whether `version` lies in the range.

    Args:
        requirement: clauses of `>=`, `>`, `<=`, `<`, `==` and MAJOR[.MINOR], joined by commas;
            all must hold. `==1` means 1.0.
        version: (major, minor).

    Raises:
        PluginError: `plugin.bad_api_range`, the text is not such a range.

    Example:
        >>> accepts(">=1,<2", (1, 3)), accepts(">=1.4,<2", (1, 3))
        (True, False)
    """
    for clause in requirement.split(","):
        match = _CLAUSE.match(clause.strip())
        if match is None:
            raise PluginError(
                f"{requirement!r} is not a range of API versions",
                code="plugin.bad_api_range",
                hint='write it like ">=1,<2"',
                phase="hooks",
            )
        operator, major, minor = match.groups()
        bound = (int(major), int(minor or 0))
        holds = {
            ">=": version >= bound,
            ">": version > bound,
            "<=": version <= bound,
            "<": version < bound,
            "==": version == bound,
        }[operator]
        if not holds:
            return False
    return True
