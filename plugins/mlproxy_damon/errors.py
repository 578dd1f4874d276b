"""The plugin's errors; docs/reference/errors.md lists their codes."""

from __future__ import annotations

from mlproxy import MlproxyError

__all__ = ("DamonError",)


class DamonError(MlproxyError):
    """Raised when DAMON, or the program to watch, cannot be had."""
