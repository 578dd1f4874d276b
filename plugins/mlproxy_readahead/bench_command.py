"""The command `mlproxy bench readahead`."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from mlproxy.report.results import this_machine, write_result
from mlproxy.report.table import Table
from mlproxy_readahead.bench_runs import Plan, run
from mlproxy_readahead.bench_summary import summarise
from mlproxy_readahead.options import ReadaheadOptions

__all__ = ("command", "merged", "save", "stream_table", "summary_table")

_FREE: Final = ("repeats", "seed")
"""What may differ between runs that are put together."""
_TARGETS: Final = {
    "worst_ratio_best_fixed_per_phase": (
        "mlproxy over the best fixed setting of each stream, worst stream",
        "at most 1.05",
    ),
    "ratio_best_single_fixed": ("mlproxy over the best single fixed setting, mean", "below 1"),
    "least_worst_ratio_of_any_fixed": (
        "beside it: the fixed setting that does best by the first measure",
        "",
    ),
    "worst_ratio_best_fixed_per_phase_cold": (
        "the first measure, learning from nothing included",
        "",
    ),
    "daemon_cpu_ratio": ("CPU of the daemon, of one processor", ""),
}


def summary_table(summary: dict[str, Any]) -> Table:
    """The summary for people, with what it is held to."""
    rows = []
    for key, (meaning, target) in _TARGETS.items():
        interval = summary.get(f"{key}_interval")
        said = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
        rows.append((key, meaning, f"{summary[key]:.3f}{said}", target))
    return Table(
        ("number", "meaning", "measured", "target"), rows, ("left", "left", "right", "left")
    )


def stream_table(summary: dict[str, Any]) -> Table:
    """Counts per stream and way."""
    rows = [
        (
            stream,
            way.replace("fixed_", "fixed "),
            counts["requests_per_mib_asked"],
            counts["bytes_per_byte_asked"],
            counts["cost"],
            counts["cost"] / ways[f"fixed_{summary['best_fixed_kb'][stream]}"]["cost"],
        )
        for stream, ways in summary["per_stream"].items()
        for way, counts in ways.items()
    ]
    headers = (
        *("stream", "read_ahead_kb", "requests per MiB asked", "bytes read per byte asked"),
        *("cost", "over the best fixed"),
    )
    return Table(headers, rows)


def save(document: dict[str, Any], folder: Path) -> None:
    """Write readahead.json and readahead.md."""
    plan = document["plan"]
    write_result(
        "readahead",
        document,
        folder,
        title="Read-ahead: learned per phase, against every fixed setting",
        intro=(
            f"Linux {document['kernel']}, {document['device']}, ext4. Three streams take turns,"
            " each for a phase of about a minute (so many operations as take"
            f" {plan['phase_seconds']:g} s with the default): files read from end to end in"
            " pieces of 16 KiB, random pages of mapped files, and both mixed. Every operation"
            f" opens a file and drops it from the page cache; {plan['pause_seconds']:g} s later the"
            " next one begins. Counted are read requests and bytes"
            " that the device read per byte that the programs asked for; times are not. The cost"
            f" is bytes read plus {plan['request_kb']} KiB per request, per byte asked. A real"
            f" daemon steers through the {plan['guard']}'s guard; in each of"
            f" {plan['repeats']} repeats it begins with nothing learned, learns for"
            f" {plan['training']} rounds of all streams, and is measured for the next"
            f" {plan['rounds']}. Fixed settings do {plan['fixed_share']:.0%} of the measured"
            " phases' operations, the same ones, before it, taking turns. In brackets:"
            " 95% intervals, bootstrap over phases."
        ),
        tables=[summary_table(document["summary"]), stream_table(document["summary"])],
        plots=[],
        provenance=this_machine(
            "mlproxy bench readahead --rows rows.json --results docs/results",
            f"{datetime.now(UTC):%Y-%m-%d}",
        ),
    )


def merged(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One document of several runs of the same plan; their repeats are numbered on.

    Raises:
        click.UsageError: when they are runs of different plans.
    """
    first = documents[0]
    plans = [{k: v for k, v in d["plan"].items() if k not in _FREE} for d in documents]
    if any(
        (d["kernel"], p) != (first["kernel"], plans[0])
        for d, p in zip(documents, plans, strict=True)
    ):
        raise click.UsageError("these are not runs of one plan on one kernel")
    rows, repeats = [], 0
    for document in documents:
        rows += [row | {"repeat": row["repeat"] + repeats} for row in document["rows"]]
        repeats += document["plan"]["repeats"]
    seeds = [document["plan"]["seed"] for document in documents]
    plan = first["plan"] | {"repeats": repeats, "seed": seeds if len(seeds) > 1 else seeds[0]}
    return first | {"rows": rows, "plan": plan}


@click.command(name="readahead")
@click.option("--device", help="Block device, as in /sys/block.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="On a mounted file system of it; 100 MB are written there and removed.",
)
@click.option("--phase-seconds", default=60.0, show_default=True, help="About, for a phase.")
@click.option("--pause-seconds", default=0.2, show_default=True, help="Between operations.")
@click.option("--training", type=click.IntRange(min=0), default=3, show_default=True,
              help="Rounds before those that count.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True,
              help="Rounds that count.")  # fmt: skip
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True,
              help="Of everything.")  # fmt: skip
@click.option("--request-kb", type=click.IntRange(min=0), default=64, show_default=True,
              help="Price of a request, as KiB read.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Of the streams.")
@click.option("--guard", type=click.Choice(["kernel", "in-process"]), default="kernel",
              show_default=True, help="Who holds the knob.")  # fmt: skip
@click.option("-o", "--option", "options", multiple=True, help="KEY=VALUE for the daemon.")
@click.option(
    "--rows",
    "rows_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Measure nothing: what --json has written; several files are repeats of one bench.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Rows and summary.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write readahead.json and readahead.md there.",
)
def command(
    *,
    device: str | None,
    folder: Path | None,
    phase_seconds: float,
    pause_seconds: float,
    training: int,
    rounds: int,
    repeats: int,
    request_kb: int,
    seed: int,
    guard: str,
    options: tuple[str, ...],
    rows_files: tuple[Path, ...],
    json_file: Path | None,
    results: Path | None,
) -> None:
    """Measure read requests and bytes read per byte asked, steered and with fixed settings.

    Changes read_ahead_kb of the device while it runs: use a machine for that, such as the guest
    of docs/how-to/run-the-benches.md. Needs root, and the kernel module.
    """
    if rows_files:
        document = merged([json.loads(f.read_text(encoding="utf-8")) for f in rows_files])
    elif device is None or folder is None:
        raise click.UsageError("name --device and --folder (or --rows)")
    else:
        settings = ReadaheadOptions(device=device).settings_kb
        plan = Plan(
            device=device,
            folder=folder,
            settings_kb=settings,
            request_kb=request_kb,
            phase_seconds=phase_seconds,
            pause_seconds=pause_seconds,
            training=training,
            rounds=rounds,
            repeats=repeats,
            seed=seed,
            guard=guard,
            options=options,
        )
        rows = run(plan, lambda text: click.echo(text, err=True))
        document = {
            "bench": "readahead",
            "kernel": platform.release(),
            "device": device,
            "plan": {
                name: getattr(plan, name)
                for name in Plan.__dataclass_fields__
                if name not in ("folder", "options")
            }
            | {"options": list(options)},
            "rows": rows,
        }
    document["summary"] = summarise(document["rows"], document["plan"]["request_kb"] * 1024)
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if results is not None:
        save(document, results)
    click.echo(stream_table(document["summary"]).to_text())
    click.echo()
    click.echo(summary_table(document["summary"]).to_text())
