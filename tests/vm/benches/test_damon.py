"""`mlproxy bench damon` on a disk of memory; what is measured so far is sent after each run."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from mlproxy_vm.blockdev import modprobe

DEVICE = "/dev/ram0"
MIB = 640
ADDED = Path("/added")
PACKAGES = "/dev/vdd"


def test_damon(module, result, tmp_path, capfd, monkeypatch):
    request = json.loads(Path("/src/request.json").read_text(encoding="utf-8"))
    monkeypatch.setenv("MLPROXY_PLUGINS", "damon")
    ADDED.mkdir()
    subprocess.run(["mount", "-o", "ro", PACKAGES, ADDED], check=True)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{ADDED}/usr/bin")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{ADDED}/usr/lib/x86_64-linux-gnu")
    modprobe("zram", "num_devices=1")
    modprobe("brd", "rd_nr=1", f"rd_size={MIB * 1024}")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mkfs.ext4", "-q", DEVICE], check=True)
    subprocess.run(["mount", DEVICE, folder], check=True)
    document, over = tmp_path / "damon.json", threading.Event()

    def send():
        told = 0.0
        while not over.wait(1800):
            changed = document.stat().st_mtime if document.exists() else told
            if changed != told:
                told = changed
                result("damon", json.loads(document.read_text(encoding="utf-8")))

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    with capfd.disabled():
        words = [sys.executable, "-m", "mlproxy", "bench", "damon", "--folder", str(folder)]
        words += ["--zram", "zram0", "--json", str(document), *request.get("arguments", [])]
        try:
            subprocess.run(words, check=True)
        finally:
            over.set()
            sender.join()
            time.sleep(0.1)
    result("damon", json.loads(document.read_text(encoding="utf-8")))
