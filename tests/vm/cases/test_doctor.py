"""`mlproxy doctor` on a machine that has things: with and without the module."""

import contextlib
import io
import json
import os
from pathlib import Path

from mlproxy_vm.agents import Agent, drop_capability
from mlproxy_vm.plugin import running

from mlproxy.cli import main


def findings(folder: Path, guard: str = "auto"):
    config = folder / "mlproxy.toml"
    config.write_text(f"[daemon]\nstate_dir = '{folder}/state'\nguard = '{guard}'\n")
    os.environ["MLPROXY_PLUGINS"] = ""  # their imports are slow in an emulated guest
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            main(["doctor", "--json", "--config", str(config)])
        except SystemExit as ended:
            status = ended.code
    document = json.loads(out.getvalue())
    found = {one["name"]: one for one in document["findings"]}
    assert status == (0 if document["usable"] else 4)
    return found


def test_without_the_module(tmp_path):
    found = findings(tmp_path)
    assert found["kernel"]["state"] == "ok"
    assert found["module"]["state"] == found["device"]["state"] == "missing"
    assert found["bpf"]["state"] == "missing"
    assert "modprobe" in found["module"]["hint"]
    for name in ("capabilities", "psi", "readahead", "configuration", "state"):
        assert found[name]["state"] == "ok", found[name]
    assert findings(tmp_path, "kernel")["module"]["state"] == "unusable"


def test_with_it(module, tmp_path):
    found = findings(tmp_path)
    assert found["module"]["state"] == found["device"]["state"] == "ok"
    assert "knobs" in found["module"]["found"]
    assert "guard kernel" in found["module"]["effect"]
    expected = "ok" if running() >= (6, 9) else "missing"
    assert found["bpf"]["state"] == expected, found["bpf"]


def test_the_panic_button_is_told(module, tmp_path):
    button = Path("/sys/class/misc/mlproxy/panic")
    button.write_text("1")
    try:
        assert "panic" in findings(tmp_path)["module"]["found"]
    finally:
        button.write_text("0")


def test_without_rights(module, tmp_path):
    def body(ready):
        drop_capability(21)
        assert findings(tmp_path)["capabilities"]["state"] == "missing"
        ready()

    with Agent(body):
        pass


def test_it_writes_nothing(module, tmp_path):
    """To no tunable: as strace would show, but by what they say."""
    watched = [*Path("/sys/block").glob("*/queue/read_ahead_kb"), Path("/proc/sys/vm/swappiness")]
    watched += Path("/sys/kernel/mm/damon/admin/kdamonds").glob("nr_kdamonds")
    before = {path: path.read_text() for path in watched}
    findings(tmp_path)
    assert {path: path.read_text() for path in watched} == before
    assert not (tmp_path / "state").exists()
