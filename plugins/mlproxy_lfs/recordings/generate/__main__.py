"""Record all workloads: `python -m mlproxy_lfs.recordings.generate [NAME...]`.

Each driver runs in an empty folder on a tmpfs under the recorder; what it wrote
becomes NAME.trace beside the README, and its figures go into manifest.json.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from mlproxy.trace.record import record, save
from mlproxy_lfs.pagecache import load_block_stream

OUT = Path(__file__).resolve().parent.parent
# A coarse clock makes small files, and the model of the page cache does not look at it.
TIME_UNIT_US = 1000

# name -> driver and its arguments; ROOT is the recorded folder, CACHE one beside it that is not.
WORKLOADS: dict[str, tuple[str, ...]] = {
    "sqlite-wal": ("sqlite_load.py", "wal", "ROOT", "80000"),
    "sqlite-delete": ("sqlite_load.py", "delete", "ROOT", "50000"),
    "mail": ("mail_load.py", "ROOT", "160000"),
    "lsm": ("lsm_load.py", "ROOT", "700000"),
    "git": ("git_load.py", "ROOT", "1000"),
    "pip": ("pip_load.py", "ROOT", "CACHE", "130"),
}


def versions() -> dict[str, str]:
    """Versions of the programs that are recorded."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True)
    found = {"python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version}
    found["git"] = git.stdout.split()[-1]
    for package in ("rocksdict", "pip", "numpy"):
        found[package] = importlib.metadata.version(package)
    return found


def generate(name: str) -> dict[str, object]:
    """Record one workload and return its row of the manifest."""
    shm = Path("/dev/shm")
    base = shm if shm.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="mlproxy-rec-", dir=base) as folder:
        root, cache = Path(folder) / "root", Path(folder) / "cache"
        root.mkdir()
        cache.mkdir()
        places = {"ROOT": str(root), "CACHE": str(cache)}
        driver, *arguments = WORKLOADS[name]
        module = f"{__package__}.{driver.removesuffix('.py')}"
        command = [sys.executable, "-m", module, *(places.get(a, a) for a in arguments)]
        recording = record(command, root=root, scratch=base, time_unit_us=TIME_UNIT_US)
        if recording.exit_status:
            sys.exit(f"{name}: the driver failed with status {recording.exit_status}")
        # What is published does not tell where it was recorded.
        recording.trace.meta["command"] = ["python", *WORKLOADS[name]]
        del recording.trace.meta["kernel"]
        recording.trace.meta["versions"] = versions()
        out = OUT / f"{name}.trace"
        save(recording, out)
        shutil.rmtree(root)
    stream = load_block_stream(out)
    before = recording.trace.length[recording.trace.op == 1]
    first = recording.trace.offset[recording.trace.op == 1]
    check = recording.check.to_json()
    return {
        "driver": list(WORKLOADS[name]),
        "versions": recording.trace.meta["versions"],
        "file_bytes": out.stat().st_size,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "events": recording.trace.nr_events,
        "files": recording.trace.nr_files,
        "seconds": round(int(recording.trace.time[-1]) / 1e6, 1),
        "block_writes_before_cache": int((-(-(first + before) // 4096) - first // 4096).sum()),
        "block_writes": stream.blocks_written,
        "runs": stream.nr_runs,
        "live_peak_blocks": stream.live_peak_blocks,
        "lost": recording.lost,
        "sizes": {k: v for k, v in check.items() if isinstance(v, int)},
    }


def main(names: list[str]) -> None:
    """Record the named workloads, or all."""
    manifest = OUT / "manifest.json"
    for name in names or WORKLOADS:
        row = generate(name)
        rows = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
        rows[name] = row
        print(name, json.dumps(rows[name], sort_keys=True))
        manifest.write_text(json.dumps(rows, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
