"""`mlproxy trace record|info`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = ("group",)


@click.group(name="trace")
def group() -> None:
    """Record what programs write, and look at recordings."""


@group.command(
    name="record",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path),
    help="Trace file to write; an old one is replaced when the command has ended.",
)  # fmt: skip
@click.option(
    "--root", type=click.Path(path_type=Path), default=Path(),
    help="Record files below this directory.  [default: the working directory]",
)  # fmt: skip
@click.option(
    "--scratch", type=click.Path(file_okay=False, path_type=Path),
    help="Where the raw log (64 bytes per call) goes meanwhile.  [default: TMPDIR]",
)  # fmt: skip
@click.option(
    "--tenant", type=click.IntRange(0, 2**31 - 1), default=0, help="Number of the writer."
)
@click.option(
    "--time-unit", type=click.IntRange(1, 10**9), default=1, metavar="US",
    help="Grain of the times in microseconds; a coarse one makes a smaller file.",
)  # fmt: skip
@click.option("--note", default="", help="Text for the header.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def record_command(
    *,
    output: Path,
    root: Path,
    scratch: Path | None,
    tenant: int,
    time_unit: int,
    note: str,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND and record what it and its children write below the root.

    The exit status is the command's own. No root is needed; a statically linked
    program cannot be recorded. Afterwards the sizes of all files are compared
    with what was recorded, and differences are reported.
    """
    from mlproxy.trace.record import check_output, record, save

    check_output(output)
    recording = record(
        command, root=root, scratch=scratch, tenant=tenant, time_unit_us=time_unit, note=note
    )
    save(recording, output)
    trace, check = recording.trace, recording.check
    click.echo(
        f"recorded {trace.nr_events} events of {trace.nr_files} files by {recording.processes}"
        f" programs into {output}; sizes: {check.equal} equal, {len(check.differ)} differ,"
        f" {len(check.unseen)} never seen, {len(check.vanished)} vanished",
        err=True,
    )
    for name, logged, real in check.differ[:5]:
        click.echo(f"warning: {name} has {real} bytes, {logged} were recorded", err=True)
    for name, real in check.unseen[:5]:
        click.echo(f"warning: {name} ({real} bytes) was written unseen", err=True)
    if recording.lost:
        click.echo(f"warning: {recording.lost} events found no room in the raw log", err=True)
    if not recording.processes:
        click.echo("warning: the recorder was loaded into no program", err=True)
    return recording.exit_status


@group.command(name="info")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def info_command(*, file: Path, as_json: bool) -> int:
    """Show what a trace file holds, and whether it is whole.

    A damaged file is described up to the damage; the exit status is then 1.
    """
    from mlproxy.trace.format import read_trace
    from mlproxy.trace.info import describe

    trace = read_trace(file, partial=True)
    report = describe(trace)
    if as_json:
        import json

        click.echo(json.dumps({"schema": 1, "file": str(file), **report}, indent=2))
    else:
        _print(file, report)
    if trace.damage is not None:
        if not as_json:
            click.echo(f"error: {trace.damage}", err=True)
        return 1
    return 0


def _print(file: Path, report: dict[str, Any]) -> None:
    click.echo(f"{file}")
    for key in ("events", "files", "bytes_written", "live_peak_bytes", "duration_s", "tenant"):
        click.echo(f"  {key.replace('_', ' '):<16} {report[key]:>16,}")
    for name, count in report["ops"].items():
        click.echo(f"  {name:<16} {count:>16,}")
    command = report["meta"].get("command")
    if command:
        click.echo(f"  command          {' '.join(map(str, command))}")
    sizes = report["summary"].get("sizes")
    if sizes:
        click.echo(
            f"  sizes checked    {sizes['equal']} equal, {sizes['differ']} differ,"
            f" {sizes['unseen']} never seen, {sizes['vanished']} vanished"
        )
    damage = report["damage"]
    click.echo(
        "  integrity        " + ("whole" if damage is None else f"damaged at {damage['offset']}")
    )
