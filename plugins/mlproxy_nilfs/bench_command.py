"""The command `mlproxy bench nilfs`."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from mlproxy.report.bars import Bars, bar_plot
from mlproxy.report.results import Plot, this_machine, write_result
from mlproxy.report.table import Table
from mlproxy_nilfs.bench_loads import LOADS
from mlproxy_nilfs.bench_runs import ARMS, Plan, run
from mlproxy_nilfs.bench_summary import summarise

__all__ = ("command", "load_table", "merged", "save", "summary_table")

_TARGETS: Final = {
    "ratio_timestamp": ("mlproxy over timestamp, geometric mean over the loads", "at most 0.70"),
    "worst_ratio_best_human": (
        "mlproxy over the better of greedy and cost-benefit, worst load",
        "at most 1.02",
    ),
    "ratio_best_human": ("the same, geometric mean", ""),
    "greedy_ratio_timestamp": ("beside it: greedy over timestamp", ""),
    "cost_benefit_ratio_timestamp": ("beside it: cost-benefit over timestamp", ""),
    "nilfs_cleanerd_ratio_timestamp": (
        "check of honesty: nilfs_cleanerd over timestamp through our cleaner",
        "near 1",
    ),
    "poisoned_ratio_timestamp": (
        "a model that turns bad after 1.8 capacities, over timestamp, worst load measured",
        "at most 1.03",
    ),
}
_FREE: Final = ("repeats", "seed", "arms", "loads", "device")
"""What may differ between runs that are put together."""


def summary_table(summary: dict[str, Any]) -> Table:
    """The summary for people, with what it is held to."""
    rows = []
    for key, (meaning, target) in _TARGETS.items():
        if key in summary:
            low, high = summary[f"{key}_interval"]
            wa = f"{summary[f'{key}_wa']:.3f}"
            rows.append((key, meaning, f"{summary[key]:.3f} [{low:.3f}, {high:.3f}]", target, wa))
    headers = ("number", "meaning", "blocks copied per segment", "target", "write amplification")
    return Table(headers, rows, ("left", "left", "right", "left", "right"))


def load_table(summary: dict[str, Any]) -> Table:
    """Counts per load and way."""
    rows = []
    for load, of in summary["loads"].items():
        base = of["copied_per_segment"]["timestamp"]
        rows += [
            (load, arm, copied, copied / base, of["write_amplification"][arm])
            for arm, copied in sorted(of["copied_per_segment"].items(), key=lambda one: one[1])
        ]
    headers = ("load", "way", "blocks copied per segment", "over timestamp", "write amplification")
    return Table(headers, rows)


def plot(summary: dict[str, Any]) -> str:
    """Ratios to timestamp, as a picture."""
    loads = list(summary["loads"])
    arms = [arm for arm in ARMS if arm != "timestamp"]
    arms = [a for a in arms if all(a in summary["loads"][x]["copied_per_segment"] for x in loads)]

    def ratio(load: str, arm: str) -> float:
        copied = summary["loads"][load]["copied_per_segment"]
        return float(copied[arm] / copied["timestamp"])

    return bar_plot(
        loads,
        [Bars(arm, [ratio(load, arm) for load in loads]) for arm in arms],
        title="Blocks copied per segment reclaimed, over the timestamp policy",
        x_label="ratio, lower is better",
        reference=1.0,
        reference_label="timestamp",
        start=0.0,
    )


def save(document: dict[str, Any], folder: Path) -> None:
    """Write nilfs.json, nilfs.md, the plot and the raw rows as CSV."""
    plan = document["plan"]
    repeats = ", ".join(f"{k} {of['repeats']}" for k, of in document["summary"]["loads"].items())
    columns = list(dict.fromkeys(key for row in document["rows"] for key in row))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "nilfs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(document["rows"])
    write_result(
        "nilfs",
        document,
        folder,
        title="NILFS2: which segments are cleaned",
        intro=(
            f"Linux {document['kernel']}, a disk of {plan['mib']} MiB with segments of"
            f" {plan['segment_blocks']} blocks, mounted with nogc. An ager writes"
            f" {plan['cold_mib']} MiB of files that stay and overwrites {plan['churn_mib']} MiB of"
            " them in random pieces; every way begins with the same aged disk. Then a load writes"
            f" {plan['warm']:g} capacities of the disk that do not count, and"
            f" {plan['measured']:g} that do. Counted are blocks, read from the summaries of all"
            " segments that were completed: what cleaning wrote (copies, and the metadata that"
            " it changes), what everything else wrote, and segments reclaimed. Thresholds, batch"
            " sizes, intervals and protection are the same for all ways; all but nilfs_cleanerd"
            " go through mlproxy's cleaner. mlproxy begins each run with nothing learned and with"
            " timestamp as its default. In brackets: 95% intervals, bootstrap over repeats; repeats"
            f" in which all ways were measured: {repeats}. All rows: [nilfs.csv](nilfs.csv)."
        ),
        tables=[summary_table(document["summary"]), load_table(document["summary"])],
        plots=[Plot("ratios", plot(document["summary"]), "Ratios per load")],
        provenance=this_machine(
            "mlproxy bench nilfs --rows rows.json --results docs/results",
            f"{datetime.now(UTC):%Y-%m-%d}",
        ),
    )


def merged(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One document of several runs of the same plan, with other seeds, loads or ways.

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
    rows = {(r["repeat"], r["load"], r["arm"]): r for d in documents for r in d["rows"]}
    return first | {"rows": list(rows.values())}


def _names(known: Sequence[str]) -> Callable[..., tuple[str, ...]]:
    def check(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
        del context, parameter
        found = tuple(value.split(","))
        if set(found) - set(known):
            raise click.BadParameter(f"known are {', '.join(known)}")
        return found

    return check


_PLAN: Final = Plan("")


@click.command(name="nilfs")
@click.option("--device", help="Block device; ALL THAT IS ON IT IS LOST.")
@click.option("--loads", default=",".join(_PLAN.loads), show_default=True,
              callback=_names(tuple(LOADS)), help="What writes.")  # fmt: skip
@click.option("--arms", default=",".join(_PLAN.arms), show_default=True, callback=_names(ARMS),
              help="Ways to clean.")  # fmt: skip
@click.option("--repeats", type=click.IntRange(min=1), default=_PLAN.repeats, show_default=True,
              help="Of everything, each with the next seed.")  # fmt: skip
@click.option("--seed", type=int, default=_PLAN.seed, show_default=True,
              help="Of the first repeat.")  # fmt: skip
@click.option("--mib", type=click.IntRange(min=16), default=_PLAN.mib, show_default=True,
              help="Size of the device.")  # fmt: skip
@click.option("--warm", default=_PLAN.warm, show_default=True,
              help="Capacities written before those that count.")  # fmt: skip
@click.option("--measured", default=_PLAN.measured, show_default=True,
              help="Capacities written that count.")  # fmt: skip
@click.option(
    "--rows",
    "rows_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Measure nothing: what --json has written; several files are put together.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path),
              help="Rows and summary; written after each run.")  # fmt: skip
@click.option("--results", type=click.Path(path_type=Path, file_okay=False),
              help="Write nilfs.json, nilfs.md, the plot and nilfs.csv there.")  # fmt: skip
def command(
    *,
    device: str | None,
    loads: tuple[str, ...],
    arms: tuple[str, ...],
    repeats: int,
    seed: int,
    mib: int,
    warm: float,
    measured: float,
    rows_files: tuple[Path, ...],
    json_file: Path | None,
    results: Path | None,
) -> None:
    """Measure blocks copied per segment reclaimed, for ways to choose segments of NILFS2.

    Makes a file system on DEVICE for each run: use a machine for that, such as the guest of
    docs/how-to/run-the-benches.md. Needs root, nilfs-tools and fio.
    """
    if rows_files:
        document = merged([json.loads(f.read_text(encoding="utf-8")) for f in rows_files])
    elif device is None:
        raise click.UsageError("name --device (or --rows)")
    else:
        plan = Plan(
            device, mib=mib, repeats=repeats, seed=seed, warm=warm, measured=measured,
            arms=arms, loads=loads,
        )  # fmt: skip
        rows: list[dict[str, Any]] = []
        document = {
            "bench": "nilfs",
            "kernel": platform.release(),
            "plan": {name: getattr(plan, name) for name in Plan.__dataclass_fields__},
            "rows": rows,
        }

        def done(row: dict[str, Any]) -> None:
            rows.append(row)
            if json_file is not None:
                whole = json_file.with_suffix(".part")
                whole.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
                whole.replace(json_file)

        run(plan, done, lambda text: click.echo(text, err=True))
    document["summary"] = summarise(document["rows"])
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if results is not None:
        save(document, results)
    if document["summary"]["loads"]:
        click.echo(load_table(document["summary"]).to_text())
        click.echo()
        click.echo(summary_table(document["summary"]).to_text())
