"""The command `mlproxy bench damon`."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from mlproxy.report.results import Plot, this_machine, write_result
from mlproxy.report.table import Table
from mlproxy_damon.bench_arms import ARMS
from mlproxy_damon.bench_loads import LOADS
from mlproxy_damon.bench_plot import front_plot
from mlproxy_damon.bench_runs import Plan, run
from mlproxy_damon.bench_summary import summarise

__all__ = ("command", "merged", "save", "table")

ABOUT: Final = {
    "none": "no DAMON",
    "reclaim": "DAMON_RECLAIM with its defaults (120 s, 128 MiB and 10 ms in a second), over the"
    " whole machine",
    "hand": "a scheme tuned by hand: intervals of 100 ms and 1 s, `pageout` of what rested for a"
    " number of seconds that was chosen per workload on seed 100: the least of 15, 30, 60, 120 and"
    " 240 at which no more than 0.2% of the program's pages came back in a minute, which is the"
    " bound that mlproxy has by default",
    "psi": "DAMOS's own goal tuner: `some_mem_psi_us` 1,000 in a second, what rested for 5 s",
    "mlproxy": "the daemon with the plugin, which knows nothing when a run begins",
}


def table(summary: dict[str, Any]) -> Table:
    """Per workload and competitor."""
    rows = []
    for load, of in summary["workloads"].items():
        for arm in [arm for arm in ARMS if arm in of]:
            one = of[arm]
            low, high = one["rss_saved_interval"]
            few, many = one["fault_ratio_interval"]
            rows.append(
                (
                    load,
                    arm,
                    f"{100 * one['rss_saved']:.1f} [{100 * low:.1f}, {100 * high:.1f}]",
                    f"{one['fault_ratio']:.3f} [{few:.3f}, {many:.3f}]",
                    one["extra_faults"],
                    one["ops_ratio"],
                    one["ops_ratio_with_daemon"],
                    f"{100 * one['memory_saved']:.1f}",
                    "yes" if one["pareto"] else "",
                )
            )
    headers = (
        *("workload", "competitor", "RSS saved %", "major faults per operation over none"),
        *("more faults per 1,000 operations", "operations per CPU second over none"),
        "with the daemon's",
        *("saved with zram's own %", "on the front"),
    )
    return Table(headers, rows)


def save(document: dict[str, Any], folder: Path) -> None:
    """Write damon.json, damon.md and the plot."""
    plan, summary = document["plan"], document["summary"]
    loads = " ".join(f"*{name}*: {LOADS[name].about}." for name in plan["loads"])
    arms = " ".join(f"*{name}*: {ABOUT[name]}." for name in plan["arms"])
    hand = ", ".join(f"{name} {age[0]:g} s" for name, age in plan["hand_ages"].items())
    seeds = {
        load: of.get("mlproxy", {}).get("seeds", 0) for load, of in summary["workloads"].items()
    }
    write_result(
        "damon",
        document,
        folder,
        title="DAMON: memory saved, and what it costs",
        intro=(
            f"Linux {document['kernel']}, a guest in which a nanosecond is an instruction. Real"
            f" programs for {plan['seconds']} s each, at a pace"
            f" that leaves the processor mostly idle; swap is zram. Workloads: {loads} Competitors:"
            f" {arms} Ages of the hand-tuned scheme: {hand}. Before each run all but"
            f" {100 * plan['free']:.0f}% of the machine's memory is taken away, so that"
            " DAMON_RECLAIM's watermarks (it works below 50%) are passed. Counts are the kernel's;"
            " every run is compared with `none` of the same seed, whose operations are the same."
            " Faults are of the program's whole life, from its start. In brackets: 95% intervals,"
            f" bootstrap over seeds ({', '.join(f'{load} {n}' for load, n in seeds.items())}). Held"
            " to: at least 20% saved at no more than 1.012 on three of four workloads: reached on"
            f" {summary['reached']};"
            f" mlproxy is on the front of {summary['on_the_front']}. The daemon runs with"
            f" {', '.join(plan['options']) or 'its defaults'}."
        ),
        tables=[table(summary)],
        plots=[Plot("front", front_plot(summary), "Memory saved against major faults")],
        provenance=this_machine(
            "mlproxy bench damon --rows rows.json --results docs/results",
            f"{datetime.now(UTC):%Y-%m-%d}",
        ),
    )


_FREE: Final = ("seeds", "loads", "arms")
"""What may differ between runs that are put together."""


def merged(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One document of several runs of the same plan, with other seeds, workloads or ways.

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
    rows = {
        (r["load"], r["seed"], r["arm"], r["hand_age"]): r for d in documents for r in d["rows"]
    }
    union = {
        name: list(dict.fromkeys(one for d in documents for one in d["plan"][name]))
        for name in _FREE
    }
    return first | {"rows": list(rows.values()), "plan": first["plan"] | union}


def _names(known: Sequence[str]) -> Callable[..., tuple[str, ...]]:
    def check(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
        del context, parameter
        found = tuple(value.split(","))
        if set(found) - set(known):
            raise click.BadParameter(f"known are {', '.join(known)}")
        return found

    return check


def _ages(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> dict[str, tuple[float, ...]]:
    del context, parameter
    found = {}
    for one in value:
        load, _, ages = one.partition("=")
        try:
            found[load] = tuple(float(age) for age in ages.split(","))
        except ValueError as error:
            raise click.BadParameter(f"{one!r} is not WORKLOAD=SECONDS[,SECONDS]") from error
        if load not in LOADS:
            raise click.BadParameter(f"known are {', '.join(LOADS)}")
    return found


@click.command(name="damon")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="On the disk that programs are to read; some 500 MB are written there.",
)
@click.option("--loads", default=",".join(LOADS), show_default=True, callback=_names(tuple(LOADS)),
              help="Workloads.")  # fmt: skip
@click.option("--arms", default=",".join(ARMS), show_default=True, callback=_names(ARMS),
              help="Competitors.")  # fmt: skip
@click.option("--seed", "seeds", multiple=True, type=int, default=(1, 2, 3, 4, 5),
              show_default=True, help="Of the operations; may be given several times.")  # fmt: skip
@click.option("--seconds", type=click.IntRange(min=30), default=360, show_default=True,
              help="Of a run.")  # fmt: skip
@click.option("--hand", "hand_ages", multiple=True, callback=_ages, metavar="WORKLOAD=SECONDS",
              help="Age of the hand-tuned scheme (30); several, to tune it.")  # fmt: skip
@click.option("--free", type=click.FloatRange(0, 1), default=0.0, show_default=True,
              help="Take memory away until this share is free; 0: none.")  # fmt: skip
@click.option("--zram", default="", help="Swap device that is made anew for each run.")
@click.option("-o", "--option", "options", multiple=True, help="KEY=VALUE for the daemon.")
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
              help="Write damon.json, damon.md and the plot there.")  # fmt: skip
def command(
    *,
    folder: Path | None,
    loads: tuple[str, ...],
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    seconds: int,
    hand_ages: dict[str, tuple[float, ...]],
    free: float,
    zram: str,
    options: tuple[str, ...],
    rows_files: tuple[Path, ...],
    json_file: Path | None,
    results: Path | None,
) -> None:
    """Measure memory saved, major faults and work done, of mlproxy and its competitors.

    Takes DAMON and the swap of the machine, and drops its page cache: use a machine for that,
    such as the guest of docs/how-to/run-the-benches.md. Needs root, redis and memcached.
    """
    if rows_files:
        document = merged([json.loads(f.read_text(encoding="utf-8")) for f in rows_files])
    elif folder is None:
        raise click.UsageError("name --folder (or --rows)")
    else:
        plan = Plan(
            folder, loads=loads, arms=arms, seeds=seeds, seconds=seconds, hand_ages=hand_ages,
            free=free, zram=zram, options=options,
        )  # fmt: skip
        rows: list[dict[str, Any]] = []
        kept = [name for name in Plan.__dataclass_fields__ if name != "folder"]
        document = {
            "bench": "damon",
            "kernel": platform.release(),
            "plan": {name: getattr(plan, name) for name in kept},
            "rows": rows,
        }
        for row in run(plan, (), lambda text: click.echo(text, err=True)):
            rows.append(row)
            if json_file is not None:
                whole = json_file.with_suffix(".part")
                whole.write_text(json.dumps(document) + "\n", encoding="utf-8")
                whole.replace(json_file)
    document["summary"] = summarise(document["rows"])
    if json_file is not None:
        json_file.write_text(json.dumps(document) + "\n", encoding="utf-8")
    if results is not None:
        save(document, results)
    click.echo(table(document["summary"]).to_text())
