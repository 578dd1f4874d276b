"""Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from mlproxy.errors import ConfigError, MlproxyError

__all__ = ("color", "print_error", "print_json")


def print_json(document: Any) -> None:
    """Print one JSON document as the result."""
    click.echo(json.dumps(document, indent=2, default=str))


def color() -> bool:
    """Whether stdout takes colours: a terminal, and NO_COLOR is not set."""
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def print_error(error: MlproxyError, *, as_json: bool = False) -> None:
    """Say on stderr what went wrong; with `as_json` as one JSON document on stdout."""
    if as_json:
        described: dict[str, Any] = {
            "code": error.code,
            "message": str(error.args[0]),
            "hint": error.hint,
            "context": {k: v for k, v in error.context.items() if k != "problems"},
        }
        problems = problems_of(error)
        if problems:
            described["problems"] = problems
        print_json({"ok": False, "error": described})
        return
    click.echo(f"error[{error.code}]: {error.args[0]}", err=True)
    for problem in problems_of(error):
        key = f"{problem['key']}: " if problem.get("key") else ""
        line = f"  {problem['source']}: {key}{problem['message']} [{problem['code']}]"
        click.echo(line, err=True)
        if problem.get("hint"):
            click.echo(f"      hint: {problem['hint']}", err=True)
    if error.hint:
        click.echo(f"  hint: {error.hint}", err=True)


def problems_of(error: MlproxyError) -> list[dict[str, Any]]:
    """The problems of a configuration error, also of one that came over the socket."""
    if isinstance(error, ConfigError):
        return [p.as_dict() for p in error.problems]
    found = error.context.get("problems")
    return [p for p in found if isinstance(p, dict)] if isinstance(found, list) else []
