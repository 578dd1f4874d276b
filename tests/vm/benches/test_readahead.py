"""`mlproxy bench readahead` on a null_blk device that keeps what is written, with the module."""

import json
import subprocess
import sys
from pathlib import Path

from mlproxy_vm.blockdev import null_blk


def test_readahead(module, result, tmp_path, capfd, monkeypatch):
    request = json.loads(Path("/src/request.json").read_text(encoding="utf-8"))
    monkeypatch.setenv("MLPROXY_PLUGINS", "readahead")
    with null_blk("nullb0", mib=160) as folder, capfd.disabled():
        document = tmp_path / "readahead.json"
        subprocess.run(
            [
                *(sys.executable, "-m", "mlproxy", "bench", "readahead"),
                *("--device", "nullb0", "--folder", folder, "--json", document),
                *request.get("arguments", []),
            ],
            check=True,
        )
    result("readahead", json.loads(document.read_text(encoding="utf-8")))
