"""Result pages: made from cases, agreeing with their numbers, also the committed ones."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from harness import results
from harness.case import Case
from mlproxy_vm.kernellog import reports

import mlproxy
from mlproxy.report.results import check

ROOT = Path(__file__).parents[3]
COMMITTED = sorted((ROOT / "docs/results").glob("kernel*.json"))
CASES = [
    Case("6.12", "tests/vm/cases/test_a.py::test_b", "passed", "", 1.0, {"bytes_per_proxy": 4000}),
    Case("6.12", "tests/vm/cases/test_a.py::test_c", "failed", "no\nreason", 2.0, {"n": 1}),
    Case("6.1", "tests/vm/cases/test_a.py::test_b", "skipped", "needs kernel 6.9"),
    Case("debug", "kmemleak", "passed"),
]


@pytest.fixture
def written(tmp_path):
    releases = {"6.1": "6.1.0-1", "6.12": "6.12.0-1", "debug": "6.12.1"}
    results.write(tmp_path, CASES, releases, dict.fromkeys(releases, 60.0))
    return tmp_path


def test_pages_agree_with_their_numbers(written):
    assert sorted(p.name for p in written.iterdir()) == [
        *("kernel-debug.json", "kernel-debug.md", "kernel.json", "kernel.md")
    ]
    assert check(written) == []


def test_the_debug_kernel_has_a_page_of_its_own(written):
    document = json.loads((written / "kernel-debug.json").read_text())
    assert [row["case"] for row in document["rows"]] == ["kmemleak"]


def test_the_summary_counts_and_takes_the_first_kernels_numbers(written):
    summary = json.loads((written / "kernel.json").read_text())["summary"]
    assert (summary["cases_passed"], summary["cases_failed"], summary["cases_skipped"]) == (1, 1, 1)
    assert summary["bytes_per_proxy"] == 4000
    assert summary["default_after_kill_ms"] is None


def test_a_number_of_a_failed_case_is_not_known():
    failed = Case("6.12", "a", "failed", "why", 1.0, {"knob_restore_ms": 5.0})
    assert results.summary([failed], "6.12")["knob_restore_ms"] is None


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_summaries_are_those_of_their_rows(path):
    document = json.loads(path.read_text())
    count = Counter(row["outcome"] for row in document["rows"])
    summary = document["summary"]
    for outcome in ("passed", "failed", "skipped"):
        assert summary[f"cases_{outcome}"] == count[outcome]
    measured = {k: v for row in document["rows"] for k, v in row["measures"].items()}
    for name in results.NUMBERS:
        assert summary[name] is None or name in measured


def test_one_version_for_all_parts():
    header = (ROOT / "kmod/module/mlproxy_module.h").read_text()
    dkms = (ROOT / "kmod/dkms.conf").read_text()
    assert re.findall(r'MLP_VERSION\s+"(.*)"', header) == [mlproxy.__version__]
    assert re.findall(r'PACKAGE_VERSION="(.*)"', dkms) == [mlproxy.__version__]


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: CPU: 0 PID: 77 at module/proxy.c:10 mlp_take+0x1/0x2 [mlproxy]",
        "BUG: KASAN: slab-use-after-free in mlp_take+0x1/0x2",
        "BUG: sleeping function called from invalid context at a.c:1",
        "WARNING: possible circular locking dependency detected",
        "WARNING: suspicious RCU usage",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "INFO: task python3:77 blocked for more than 120 seconds.",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [python3:77]",
        "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "UBSAN: array-index-out-of-bounds in core/ring.c:3:1",
        "BUG kmalloc-64 (Tainted: G OE): Objects remaining on __kmem_cache_shutdown()",
    ],
)
def test_the_kernels_reports_are_noticed(line):
    assert reports(["mlproxy: loading out-of-tree module taints kernel.", line]) == [line]
