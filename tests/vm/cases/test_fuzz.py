"""Wrong input is refused with the right error, counted, and leaves nothing behind."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from mlproxy_vm.modules import EXAMPLE, FOLDER, MODULE

from mlproxy.proxy import Reject
from mlproxy.proxy.device import module_info

FUZZ = Path("/src/tests/vm/bin/fuzz")
INPUTS = 100_000
SEED = 20261125
SYSCTLS = (
    "/proc/sys/vm/vfs_cache_pressure",
    "/proc/sys/vm/dirty_background_ratio",
    "/proc/sys/kernel/printk_ratelimit_burst",
)
SLABS = re.compile(r"kmalloc-(cg-)?(64|512|1k|2k|4k|8k)|kernfs_node_cache|task_struct")


@pytest.fixture
def sysctls():
    """The knobs of the fuzzer: what is put back there may itself have been spoilt."""
    before = {path: Path(path).read_text(encoding="ascii") for path in SYSCTLS}
    yield
    for path, text in before.items():
        Path(path).write_text(text, encoding="ascii")


def fuzz(seed, inputs):
    done = subprocess.run(
        [FUZZ, str(seed), str(inputs), FOLDER / f"{EXAMPLE}.ko"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: int(value) for name, value in map(str.split, done.stdout.splitlines())}


def slabs():
    """Objects in use by cache; what is only parked on a processor is let go first."""
    for cache in Path("/sys/kernel/slab").iterdir():
        if SLABS.fullmatch(cache.name):
            (cache / "shrink").write_text("1", encoding="ascii")
    rows = (line.split() for line in Path("/proc/slabinfo").read_text().splitlines()[2:])
    return {row[0]: int(row[1]) for row in rows if SLABS.fullmatch(row[0])}


def test_wrong_input_is_refused_and_counted(module, sysctls, measure):
    users = Path(f"/sys/module/{MODULE}/refcnt")
    fuzz(SEED + 1, 2_000)  # what the first run of anything leaves in caches
    before = slabs()
    told = fuzz(SEED, INPUTS)
    after = slabs()

    assert told["inputs"] >= INPUTS
    assert told["accepted"] > INPUTS // 100
    assert told["refused"] > INPUTS // 100
    missed = [reason.name for reason in Reject if reason and not told[f"reject_{reason}"]]
    assert missed == []
    never = [call for call in range(21) if not told[f"succeeded_{call}"]]
    assert never == []
    assert told["mapped"]
    assert told["orphans"]

    assert users.read_text().strip() == "0"
    assert module_info().proxies == 0
    assert list(Path("/sys/class/mlproxy").iterdir()) == []
    assert "mlp_alloc_ring" not in Path("/proc/vmallocinfo").read_text()
    grown = {name: after[name] - before[name] for name in before}
    assert all(count < 200 for count in grown.values()), grown
    measure("fuzz_inputs", told["inputs"])
    measure("fuzz_refused", told["refused"])
