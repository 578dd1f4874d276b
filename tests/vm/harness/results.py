"""The outcome of a run as a result page: `kernel`, and `kernel-debug` for the debug kernel."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlproxy.report.results import this_machine, write_result
from mlproxy.report.table import Align, Table

from .case import Case, title
from .host import tool_path

# The kernel whose numbers count, where several have them.
FIRST = "6.12"
# name in the summary and of the measure -> meaning, what is to be reached
NUMBERS: dict[str, tuple[str, str]] = {
    "default_after_kill_ms": ("agent killed with -9: until the default acts", "at most 100"),
    "knob_restore_ms": ("agent killed with -9: until the knobs are back", "at most 1,000"),
    "decide_value_ratio": ("a decision by a cached value, over an empty indirect call", ""),
    "decide_program_ratio": ("the same by a program", ""),
    "decide_struct_ops_ratio": ("the same by a BPF program", ""),
    "wakeup_p50_ratio": ("sample to wake-up of the agent, over an eventfd ping-pong, median", ""),
    "wakeup_p99_ratio": ("the same, 99th percentile", ""),
    "bytes_per_proxy": ("memory of a proxy without its ring, bytes", "at most 4,096"),
    "module_text_bytes": ("mlproxy.ko: code and constants, bytes", ""),
    "module_data_bytes": ("mlproxy.ko: data, bytes", ""),
}
_INTRO = """
Every case of `tests/vm/cases`, and the contract tests of the proxy with `/dev/mlproxy` behind it,
on real kernels in guests of two processors. The guests are **emulated** (QEMU without KVM), so that
milliseconds are those of a slow machine, and only ratios, whose two sides run side by side in one
guest, say something about a real one. A case that does not apply to a kernel is skipped with its
reason; a number whose case did not run is not known.
"""
_DEBUG = """
This kernel looks for use after free, reads out of bounds, wrong locking and lost memory in all that
the cases do. It is several times slower: its numbers are not the module's.
"""


def write(
    folder: Path, cases: Sequence[Case], releases: Mapping[str, str], seconds: Mapping[str, float]
) -> list[Path]:
    """Write the result pages of a full run.

    Args:
        folder: `docs/results`, for example.
        cases: all of them, on all kernels.
        releases: kernel's name -> what `uname -r` says there.
        seconds: kernel's name -> how long it took, with the build.

    Returns:
        The files written.
    """
    files: list[Path] = []
    plain = [name for name in releases if name != "debug"]
    for stem, names in (("kernel", plain), ("kernel-debug", ["debug"])):
        mine = [case for case in cases if case.kernel in names]
        if mine:
            kernels = {name: (releases[name], seconds[name]) for name in names}
            files += _write(folder, stem, mine, kernels)
    return files


def _write(
    folder: Path, stem: str, cases: Sequence[Case], kernels: Mapping[str, tuple[str, float]]
) -> list[Path]:
    count = Counter((case.kernel, case.outcome) for case in cases)
    numbers = summary(cases, FIRST if FIRST in kernels else next(iter(kernels)))
    debug = stem == "kernel-debug"
    options = f"KERNEL={'debug' if debug else repr(' '.join(kernels))}"
    made = this_machine(
        f"make vmtest {options} RESULTS=docs/results",
        datetime.now(UTC).date().isoformat(),
        packages=("mlproxy",),
    )
    document: dict[str, Any] = {
        "bench": stem,
        "kernels": [
            {"kernel": name, "release": release, "seconds": round(took)}
            for name, (release, took) in kernels.items()
        ],
        "rows": [_row(case) for case in cases],
        "summary": numbers,
    }
    tables = [
        Table(
            ("number", "meaning", "measured", "to reach"),
            [(name, NUMBERS[name][0], _cell(numbers[name]), NUMBERS[name][1]) for name in NUMBERS],
            ("left", "left", "right", "left"),
        ),
        Table(
            ("kernel", "release", "passed", "failed", "skipped", "seconds"),
            [
                (name, release, *(count[name, o] for o in _OUTCOMES), round(took))
                for name, (release, took) in kernels.items()
            ],
            ("left", "left", *("right",) * 4),
        ),
        _by_kernel(cases, list(kernels)),
    ]
    return write_result(
        stem,
        document,
        folder,
        title="The module on a kernel with detectors" if debug else "The module on real kernels",
        intro=_INTRO + (_DEBUG if debug else ""),
        tables=tables,
        plots=(),
        provenance=dataclasses.replace(made, versions={**made.versions, "QEMU": _qemu()}),
    )


_OUTCOMES = ("passed", "failed", "skipped")


def summary(cases: Sequence[Case], first: str) -> dict[str, float | None]:
    """Counts, and each of `NUMBERS` as a case on the kernel `first` measured it, else None."""
    count = Counter(case.outcome for case in cases)
    known = {
        name: value
        for case in cases
        if case.kernel == first and case.outcome == "passed"
        for name, value in case.measures.items()
    }
    return {
        **{f"cases_{outcome}": count[outcome] for outcome in _OUTCOMES},
        **{name: known.get(name) for name in NUMBERS},
    }


def _row(case: Case) -> dict[str, Any]:
    return {
        "kernel": case.kernel,
        "case": case.name,
        "outcome": case.outcome,
        "reason": case.reason,
        "seconds": round(case.seconds, 1),
        "measures": case.measures,
    }


def _by_kernel(cases: Sequence[Case], kernels: Sequence[str]) -> Table:
    found: dict[str, dict[str, Case]] = {}
    for case in cases:
        found.setdefault(case.name, {})[case.kernel] = case
    rows = []
    for name, on in found.items():
        outcomes = [_outcome(on.get(kernel)) for kernel in kernels]
        measures = ", ".join(
            f"{key} {_cell(value)}"
            for key, value in next((c.measures for c in on.values() if c.measures), {}).items()
        )
        rows.append((title(name), *outcomes, measures))
    headers = ("case", *kernels, "measured on the first of them")
    left: Align = "left"
    return Table(headers, rows, (left,) * len(headers))


def _outcome(case: Case | None) -> str:
    if case is None:
        return "not run"
    if not case.reason:
        return case.outcome
    reason = case.reason if len(case.reason) <= 100 else f"{case.reason[:100]} ..."
    return f"{case.outcome}: {reason}"


def _cell(value: float | None) -> str:
    if value is None:
        return "not known"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:.3g}"


def _qemu() -> str:
    done = subprocess.run(
        ["qemu-system-x86_64", "--version"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": tool_path()},
    )
    found = re.search(r"version (\S+)", done.stdout)
    return found[1] if found else "of unknown version"
