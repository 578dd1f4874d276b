"""The plugin's errors; codes in docs/reference/errors.md."""

from __future__ import annotations

from mlproxy import MlproxyError

__all__ = ("NilfsError",)


class NilfsError(MlproxyError):
    """Raised when the file system, its library or its lock cannot be had or used."""
