"""`mlproxy damon report`: what was seen, done and learned, for a person."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ("group", "report")


@click.group(name="damon")
def group() -> None:
    """What the plugin damon has seen and done."""


@group.command(name="report")
@click.argument("records", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the page (default: RECORDS with .html).",
)
@click.option(
    "--png",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the heat map of the largest target as a picture of its own.",
)
def report(records: Path, html: Path | None, png: Path | None) -> None:
    """A page of RECORDS: heat map, working set, memory saved against faults.

    RECORDS is the file that `records` in [subsystem.damon] names, by default
    records.jsonl in the state directory of the subsystem.
    """
    from mlproxy_damon.report_page import render

    page, picture = render(records)
    target = html or records.with_suffix(".html")
    target.write_text(page, encoding="utf-8")
    click.echo(f"report: {target}")
    if png is not None:
        if picture is None:
            click.echo("no heat map: nothing was seen", err=True)
            return
        png.write_bytes(picture)
        click.echo(f"heat map: {png}")
