"""`mlproxy demo`: watch models learn, be promoted and be thrown out."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlproxy.cli.exit import ExitCode
from mlproxy.cli.options import config_options, json_option, source_of
from mlproxy.cli.output import print_json
from mlproxy.errors import MlproxyError, PluginError

if TYPE_CHECKING:
    from mlproxy.app.stage import Listener
    from mlproxy.demo import Demo, DemoOutcome, FeedCount
    from mlproxy.plugin.registry import Registry
    from mlproxy.report.progress import Board

__all__ = ("command",)

REPORT = "demo-report.html"


@click.command(name="demo")
@config_options
@json_option
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31),
    default=1,
    show_default=True,
    help="Of streams, models and trials.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out"),
    show_default=True,
    help=f"Folder for {REPORT}.",
)
@click.option("--quick", is_flag=True, help="Shorter streams on smaller stores.")
@click.option("--plugin", help="Whose demonstration; needed when several plugins have one.")
def command(
    *,
    config_path: str | None,
    options: tuple[str, ...],
    as_json: bool,
    seed: int,
    out: Path,
    quick: bool,
    plugin: str | None,
) -> int:
    """Watch models learn on recorded streams, be promoted on evidence, be thrown out.

    Needs no root, no broker and no module: a broker runs inside unless [feed]
    names one. Everything shown went over that broker.

    Exit status: 0 the story held, 1 it did not (the summary says where).
    """
    from mlproxy import log
    from mlproxy.config.load import load
    from mlproxy.report.progress import progress_board

    log.configure("warning")
    config, registry = load(source_of(config_path, options))
    demo = _demo(registry, plugin)
    _folder(out)
    parts = demo.parts(seed, quick)
    began = time.monotonic()
    with progress_board(quiet=as_json) as board:
        listener = _listener(parts, board, quiet=as_json)
        results, feed = asyncio.run(_play(parts, config.feed, listener))
    outcome = demo.conclude(results, feed)
    path = out / REPORT
    _write(path, outcome)
    seconds = time.monotonic() - began
    held = feed.complete and all(v.held for v in outcome.verdicts)
    if as_json:
        run = {"seed": seed, "quick": quick, "seconds": round(seconds, 3)}
        print_json(run | _document(held, path, outcome, feed))
    else:
        _tell(outcome, feed, path, seconds)
    return ExitCode.OK if held else ExitCode.FAILURE


async def _play(parts: Any, feed: Any, listener: Listener) -> tuple[dict[str, Any], FeedCount]:
    from mlproxy.app.stage import play

    return await play(parts, feed, listener)


def _demo(registry: Registry, plugin: str | None) -> Demo:
    names = [n for n in registry.loaded() if registry.hooks.implements("mlproxy_demo", n)]
    if plugin is not None:
        names = [name for name in names if name == plugin]
    if len(names) != 1:
        raise PluginError(
            f"these plugins have a demonstration: {', '.join(names)}"
            if names
            else "no loaded plugin has a demonstration" + (f" named {plugin}" if plugin else ""),
            code="demo.which" if names else "demo.none",
            hint="name one with --plugin" if names else "see `mlproxy plugins list`",
        )
    try:
        demo = registry.hooks.demo(names[0])
    except MlproxyError:
        raise
    except Exception as error:
        raise PluginError(
            f"mlproxy_demo of plugin {names[0]} failed: {type(error).__name__}: {error}",
            code="plugin.hook_failed",
            hint="please report it to the plugin's authors",
            plugin=names[0],
        ) from error
    if demo is None:
        raise PluginError(f"plugin {names[0]} has no demonstration", code="demo.none")
    return demo


def _listener(parts: Any, board: Board, *, quiet: bool) -> Listener:
    from mlproxy.app.stage import NODE_PREFIX, Listener
    from mlproxy.events.describe import describe
    from mlproxy.events.types import ModelEvent

    bars = {part.name: board.add(part.title) for part in parts}
    champions: dict[tuple[str, str], str] = {}
    titles: dict[str, str] = {part.name: part.title for part in parts}

    def broker(host: str, port: int) -> None:
        board.say(f"feed on mqtt://{host}:{port}: mosquitto_sub -p {port} -v -t 'mlproxy/#'")

    def event(part: str, event: Any) -> None:
        if isinstance(event, ModelEvent):
            # Programs are published several times a second; a champion that comes back is no news.
            if event.what in ("published", "no_champion"):
                return
            if event.what == "champion":
                before = champions.get((part, event.proxy))
                champions[part, event.proxy] = event.candidate
                if before == event.candidate:
                    return
        board.say(f"{NODE_PREFIX}{part:<10} {event.proxy:<14} {describe(event)}")

    def progress(part: str, done: float, note: str) -> None:
        bars[part].update(done, note)

    def ended(part: str) -> None:
        bars[part].update(1.0, "done")
        if not board.visible and not quiet:
            click.echo(f"{titles[part]}: done", err=True)

    return Listener(broker, event, progress, ended)


def _folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MlproxyError(
            f"cannot make the folder {out}: {error.strerror}",
            code="demo.folder",
            hint="name another one with --out",
        ) from error


def _write(path: Path, outcome: DemoOutcome) -> None:
    from mlproxy.report.html import render_report

    try:
        path.write_text(render_report(outcome.report), encoding="utf-8")
    except OSError as error:
        raise MlproxyError(
            f"cannot write {path}: {error.strerror}",
            code="demo.folder",
            hint="name another folder with --out",
        ) from error


def _document(held: bool, path: Path, outcome: DemoOutcome, feed: FeedCount) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "held": held,
        "verdicts": [asdict(v) for v in outcome.verdicts],
        "feed": asdict(feed) | {"complete": feed.complete},
        "report": str(path),
        **outcome.data,
    }


def _tell(outcome: DemoOutcome, feed: FeedCount, path: Path, seconds: float) -> None:
    click.echo(outcome.table.to_text())
    click.echo()
    for verdict in outcome.verdicts:
        click.echo(f"{'ok' if verdict.held else 'NO':<4}{verdict.statement}")
    mark = "ok" if feed.complete else "NO"
    click.echo(
        f"{mark:<4}feed: {feed.emitted} events published on {feed.broker}, "
        f"{feed.read} read back, {feed.modes} of them mode changes"
    )
    click.echo(f"\nreport: {path}   ({seconds:.0f} s)")
