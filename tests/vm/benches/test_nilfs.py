"""`mlproxy bench nilfs` on a disk of memory; what is measured so far is sent after each run."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from mlproxy_vm.blockdev import modprobe

DEVICE = "/dev/ram0"
MIB = 32


def test_nilfs(result, tmp_path, capfd, monkeypatch):
    request = json.loads(Path("/src/request.json").read_text(encoding="utf-8"))
    monkeypatch.setenv("MLPROXY_PLUGINS", "nilfs")
    monkeypatch.setenv("PYTHONPATH", f"{os.environ['PYTHONPATH']}:/opt/mlproxy/bench")
    modprobe("nilfs2")
    modprobe("brd", "rd_nr=1", f"rd_size={MIB * 1024}")
    document, over = tmp_path / "nilfs.json", threading.Event()

    def send():
        told = 0.0
        while not over.wait(30):
            changed = document.stat().st_mtime if document.exists() else told
            if changed != told:
                told = changed
                result("nilfs", json.loads(document.read_text(encoding="utf-8")))

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    with capfd.disabled():
        words = [sys.executable, "-m", "mlproxy", "bench", "nilfs", "--device", DEVICE]
        words += ["--json", str(document), *request.get("arguments", [])]
        try:
            subprocess.run(words, check=True)
        finally:
            over.set()
            sender.join()
            time.sleep(0.1)
    result("nilfs", json.loads(document.read_text(encoding="utf-8")))
