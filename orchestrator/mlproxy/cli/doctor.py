"""`mlproxy doctor`."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from mlproxy.cli.exit import ExitCode
from mlproxy.cli.options import config_options, json_option, source_of
from mlproxy.cli.output import color, print_json

if TYPE_CHECKING:
    from mlproxy.doctor import Finding

__all__ = ("command", "render")

_COLORS = {"ok": "green", "missing": "yellow", "unusable": "red"}
_INDENT = 28


def render(findings: Iterable[Finding], width: int) -> Iterator[str]:
    """The findings for people, line by line."""
    for one in findings:
        state = one.state.ljust(9)
        state = click.style(state, fg=_COLORS[one.state]) if color() else state
        lines = [one.found, f"-> {one.effect}", *([f"do: {one.hint}"] if one.hint else [])]
        for number, text in enumerate(lines):
            first = f"{state} {one.name:<17} " if not number else " " * _INDENT
            folded = textwrap.wrap(text, max(30, width - _INDENT), break_on_hyphens=False) or [""]
            yield first + folded[0]
            yield from (" " * _INDENT + rest for rest in folded[1:])


@click.command(name="doctor")
@config_options
@json_option
def command(*, config_path: str | None, options: tuple[str, ...], as_json: bool) -> int:
    """Say what of this machine mlproxy can use, and why not the rest.

    Looks at the kernel and its module, rights, PSI, BPF, DAMON, F2FS, NILFS2,
    read-ahead, the configuration, state directory, broker and plugins. Changes
    nothing. "missing": it is not there, and what needs it does without;
    "unusable": it is there, or the configuration wants it, and it cannot be used.

    Exit status: 0, or 4 when something is unusable.
    """
    from mlproxy.doctor import examine

    found = list(examine(source_of(config_path, options)))
    bad = any(one.state == "unusable" for one in found)
    if as_json:
        print_json({"schema": 1, "usable": not bad, "findings": [one.as_dict() for one in found]})
    else:
        for line in render(found, shutil.get_terminal_size().columns):
            click.echo(line)
    return ExitCode.DEGRADED if bad else ExitCode.OK
