"""Runs the cases in one process and tells the host about each."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from mlproxy_vm import bpf
from mlproxy_vm.plugin import Plugin
from mlproxy_vm.port import Port


def main() -> int:
    """Returns pytest's status."""
    request = json.loads(Path("/src/request.json").read_text(encoding="utf-8"))
    port = Port(os.environ["MLPROXY_VM_RESULTS"])
    os.environ["MLPROXY_VM_SLOW"] = str(request["slow"])
    port.send(event="boot", release=os.uname().release)
    options = ["-p", "no:cacheprovider", "-ra", "-v", "--continue-on-collection-errors"]
    options += [f"--timeout={request['timeout']}"]
    if request["select"]:
        options += ["-k", request["select"]]
    plugin = Plugin(port, request["release"], first=int(os.environ.get("VMTEST_FIRST", "0")))
    status = pytest.main([*options, *request["paths"]], plugins=[plugin, bpf])
    port.send(event="done", status=int(status))
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
