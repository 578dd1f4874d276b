"""The command `mlproxy bench gc`."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from mlproxy.report.bars import Bars, bar_plot
from mlproxy.report.progress import progress_board
from mlproxy.report.results import Plot, this_machine, write_result
from mlproxy.report.table import Table
from mlproxy_lfs.bench_gc import SEEDS, full_plan, quick_plan, run_bench
from mlproxy_lfs.bench_runs import POLICIES, Scale

__all__ = ("command", "summary_table", "workload_table")

_TARGETS: Final = {
    "ratio_best_victim": ("mlproxy over the better of greedy and cost-benefit", "at most 0.85"),
    "ratio_best_victim_recorded": ("the same over recorded streams alone", ""),
    "ratio_best_victim_warm": ("the same without the first three capacities", ""),
    "ratio_sepbit": ("mlproxy over SepBIT with cost-benefit", "at most 0.95"),
    "ratio_sepbit_recorded": ("the same over recorded streams alone", ""),
    "ratio_sepbit_warm": ("the same without the first three capacities", ""),
    "worst_ratio_default": ("worst run against the default, uniform included", "at most 1.01"),
    "poison_start": ("poisoned from the start, worst run against the default", "at most 1.03"),
    "poison_flip": ("turned bad while trusted, worst run against the default", "at most 1.10"),
    "poison_flip_trusted": ("runs that were trusted when the model turned bad", ""),
    "poison_flip_still_trusted": ("of them still trusted at the end", "0"),
    "poison_flip_out_after_max": ("capacities written until out of trusted, worst", "at most 0.25"),
    "poison_blind": ("shuffled while trusted, without the check of updates", ""),
    "aa_promotion_rate": ("A/A runs that were promoted", "at most aa_limit"),
    "aa_limit": ("the configured false-promotion rate", ""),
    "oracle_gap_closed": ("share of the way to clairvoyant placement", ""),
}


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def summary_table(summary: dict[str, Any]) -> Table:
    """The summary for people, with what it is held to."""
    rows = [
        (key, meaning, _figure(summary[key]), target)
        for key, (meaning, target) in _TARGETS.items()
        if key in summary
    ]
    return Table(
        ("number", "meaning", "measured", "target"), rows, ("left", "left", "right", "left")
    )


def workload_table(document: dict[str, Any]) -> Table:
    """Write amplification per workload, mean over the seeds."""
    policies = (*POLICIES, "mlproxy")
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in document["rows"]:
        found.setdefault(row["workload"], {}).setdefault(row["policy"], []).append(row)
    rows = []
    for name, runs in found.items():
        means = [
            sum(r["wa"] for r in runs[p]) / len(runs[p]) if p in runs else None for p in policies
        ]
        trusted = [r["mode_times"].get("trusted", 0.0) for r in runs.get("mlproxy", [])]
        share = sum(trusted) / len(trusted) if trusted else None
        ratios = document["summary"]["per_workload"].get(name, {})
        rows.append(
            (
                name,
                *(_figure(m) for m in means),
                _figure(ratios.get("best_victim")),
                _figure(ratios.get("sepbit")),
                _figure(share),
            )
        )
    headers = ("workload", *policies, "over best victim", "over SepBIT", "time trusted")
    return Table(headers, rows)


def ratio_plot(summary: dict[str, Any]) -> str:
    """Bars of both ratios per workload around 1."""
    per = summary["per_workload"]
    names = sorted(per, key=lambda n: per[n]["best_victim"])
    return bar_plot(
        names,
        [
            Bars(
                "over the better of greedy and cost-benefit", [per[n]["best_victim"] for n in names]
            ),
            Bars("over SepBIT with cost-benefit", [per[n]["sepbit"] for n in names]),
        ],
        title="Write amplification of mlproxy against hand-written policies",
        x_label="ratio, geometric mean over the seeds; less is better",
        reference=1.0,
        reference_label="equal",
    )


def _save(document: dict[str, Any], folder: Path, command_line: str) -> None:
    scale = Scale()
    write_result(
        "gc",
        document,
        folder,
        title="Write amplification: learned placement against hand-written policies",
        intro=(
            f"Simulated log-structured store, {scale.geometry.segments} segments of "
            f"{scale.geometry.segment_blocks} blocks, 12.5% over-provisioning, "
            f"{scale.capacities} capacities written ({scale.poison_capacities} in the poisoned "
            "runs). `wa` counts all writes after the fill, so learning from zero, the trials and "
            "the hold-out are paid for; `wa_warm` begins two capacities later. The default arm is "
            "cost-benefit with a user and a GC log. Per workload: mean over the seeds."
        ),
        tables=[summary_table(document["summary"]), workload_table(document)],
        plots=[Plot("ratios", ratio_plot(document["summary"]), "Ratios per workload")],
        provenance=this_machine(command_line, f"{datetime.now(UTC):%Y-%m-%d}"),
    )


@click.command(name="gc")
@click.option("--quick", is_flag=True, help="One seed, four workloads, shorter runs.")
@click.option("--workload", "workloads", multiple=True, help="Only this workload; repeatable.")
@click.option("--seed", "seeds", multiple=True, type=int, help="Seeds; default 1, 2 and 3.")
@click.option(
    "--trace",
    "traces",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="A recording of your own; repeatable.",
)
@click.option("--capacities", type=click.IntRange(min=4), help="Capacities to write.")
@click.option("--aa-runs", type=click.IntRange(min=0), help="A/A runs.")
@click.option("--processes", type=click.IntRange(min=1), default=2, show_default=True)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write rows and summary.",
)
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write gc.json, gc.md and the plot there.",
)
def command(
    *,
    quick: bool,
    workloads: tuple[str, ...],
    seeds: tuple[int, ...],
    traces: tuple[str, ...],
    capacities: int | None,
    aa_runs: int | None,
    processes: int,
    json_file: Path | None,
    results: Path | None,
) -> None:
    """Measure write amplification of every policy and of mlproxy on all streams."""
    if quick:
        plan = quick_plan()
    else:
        scale = Scale(capacities=capacities) if capacities else Scale()
        plan = full_plan(workloads=workloads, seeds=seeds or SEEDS, traces=traces, scale=scale)
    if aa_runs is not None:
        plan = dataclasses.replace(plan, aa_runs=aa_runs)
    with progress_board() as board:
        task = board.add("bench gc", len(plan.jobs))
        document = run_bench(plan, processes=processes, progress=task.update)
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if results is not None:
        _save(document, results, "mlproxy bench gc --results docs/results")
    click.echo(workload_table(document).to_text())
    click.echo()
    click.echo(summary_table(document["summary"]).to_text())
