"""What the exit status of `mlproxy` means; docs/reference/exit-codes.md has the table."""

from __future__ import annotations

import enum
from types import MappingProxyType

__all__ = ("ExitCode", "exit_code", "exit_codes")


class ExitCode(enum.IntEnum):
    """Exit statuses; those above 63 are sysexits.h's."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_RUNNING = 3
    DEGRADED = 4
    UNREACHABLE = 69
    TEMPORARY = 75
    PERMISSION = 77
    CONFIG = 78


_BY_CODE = MappingProxyType(
    {
        "control.not_running": ExitCode.NOT_RUNNING,
        "control.unreachable": ExitCode.UNREACHABLE,
        "control.bad_reply": ExitCode.UNREACHABLE,
        "control.busy": ExitCode.TEMPORARY,
        "control.refused": ExitCode.PERMISSION,
        "daemon.already_running": ExitCode.TEMPORARY,
        "daemon.no_directory": ExitCode.PERMISSION,
        "daemon.no_socket": ExitCode.PERMISSION,
        "daemon.no_group": ExitCode.CONFIG,
        "daemon.unknown_proxy": ExitCode.USAGE,
    }
)


def exit_code(code: str) -> ExitCode:
    """The exit status for an error's code; FAILURE for those without one of their own.

    Example:
        >>> exit_code("config.invalid").value, exit_code("trace.damaged").value
        (78, 1)
    """
    if code.startswith("config."):
        return ExitCode.CONFIG
    return _BY_CODE.get(code, ExitCode.FAILURE)


def exit_codes() -> dict[str, ExitCode]:
    """The error codes that have an exit status of their own (all `config.*` have CONFIG)."""
    return dict(_BY_CODE)
