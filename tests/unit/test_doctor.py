"""The doctor, over machines made of files."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from mlproxy.cli import main
from mlproxy.cli.doctor import render
from mlproxy.config.load import Source
from mlproxy.config.model import DaemonConfig, FeedConfig
from mlproxy.doctor import Finding, Host, examine, kernel, ourselves, subsystems
from mlproxy.errors import ConfigError, ProxyError
from mlproxy.hooks import Hooks
from mlproxy.plugin.registry import PluginRecord, Registry
from mlproxy.proxy.device import ABI_VERSION, ModuleInfo

INFO = ModuleInfo(ABI_VERSION, "0.1.0", True, True, 2, False, 3000)
AWAY = ProxyError("/dev/mlproxy: not loaded", code="kernel.no_module", hint="modprobe mlproxy")


class Machine:
    """A root directory to fill."""

    def __init__(self, root: Path, release: str = "6.12.7-amd64") -> None:
        self.root = root
        self.host = Host(root, release, str(root / "dev/mlproxy"), "/usr/bin")
        self.write("proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n")

    def write(self, path: str, text: str = "", mode: int | None = None) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if mode is not None:
            file.chmod(mode)
        return file

    def capable(self, *numbers: int) -> None:
        self.write("proc/self/status", f"CapEff:\t{sum(1 << n for n in numbers):016x}\n")


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def states(findings):
    return {one.name: one.state for one in findings}


class TestKernel:
    @pytest.mark.parametrize(
        ("release", "state"),
        [("6.12-x", "ok"), ("6.1.0", "ok"), ("7.3", "ok"), ("5.9", "missing"), ("?", "missing")],
    )  # fmt: skip
    def test_version(self, tmp_path, release, state):
        assert states(kernel.kernel(Host(tmp_path, release))) == {"kernel": state}

    def test_module(self, machine):
        (one,) = kernel.module(machine.host, AWAY, "auto")
        assert (one.state, one.hint) == ("missing", "modprobe mlproxy")
        assert "in-process" in one.effect
        (one,) = kernel.module(machine.host, AWAY, "kernel")
        assert one.state == "unusable"
        assert "will not start" in one.effect
        (one,) = kernel.module(machine.host, INFO, "auto")
        assert (one.state, one.hint) == ("ok", "")
        assert "knobs, struct_ops" in one.found
        (one,) = kernel.module(machine.host, INFO, "in-process")
        assert "not used" in one.effect

    def test_a_module_that_is_there_and_of_no_use(self, machine):
        (machine.root / "sys/module/mlproxy").mkdir(parents=True)
        refused = ProxyError("no permission", code="kernel.permission")
        assert states(kernel.module(machine.host, refused, "auto")) == {"module": "unusable"}
        other = ModuleInfo(ABI_VERSION + 1, "9", True, False, 0, False, 1)
        (one,) = kernel.module(machine.host, other, "auto")
        assert one.state == "unusable"
        assert f"ABI {ABI_VERSION + 1}" in one.found
        assert f"ABI {ABI_VERSION}" in one.found
        panic = ModuleInfo(ABI_VERSION, "1", True, False, 0, True, 1)
        assert states(kernel.module(machine.host, panic, "auto")) == {"module": "unusable"}

    def test_the_real_call(self, machine):
        found = kernel.module_of(machine.host)
        assert isinstance(found, ProxyError)
        assert found.code == "kernel.no_module"

    def test_device(self, machine, monkeypatch):
        assert states(kernel.device(machine.host)) == {"device": "missing"}
        machine.write("dev/mlproxy", mode=0o660)
        (one,) = kernel.device(machine.host)
        assert one.state == "ok"
        assert "mode 0660" in one.found
        monkeypatch.setattr("mlproxy.doctor.kernel.os.access", lambda *_: False)
        (one,) = kernel.device(machine.host)
        assert one.state == "unusable"
        assert "usermod" in one.hint

    def test_rights(self, machine, monkeypatch):
        monkeypatch.setattr(Host, "memlock", staticmethod(lambda: 8 << 20))
        assert states(kernel.rights(machine.host)) == {
            "capabilities": "missing",
            "memlock": "missing",
        }
        machine.capable(14, 21)
        assert set(states(kernel.rights(machine.host)).values()) == {"ok"}

    def test_psi(self, machine):
        assert states(kernel.psi(machine.host)) == {"psi": "missing"}
        (machine.root / "proc/pressure").mkdir()
        assert states(kernel.psi(machine.host)) == {"psi": "unusable"}
        machine.write("proc/pressure/memory", "some avg10=0.00\nfull avg10=0.00\n")
        (one,) = kernel.psi(machine.host)
        assert (one.state, one.found) == ("ok", "memory: some avg10=0.00")

    def test_bpf(self, machine):
        assert states(kernel.bpf(machine.host, INFO)) == {"bpf": "missing"}
        machine.write("sys/kernel/btf/vmlinux")
        assert states(kernel.bpf(machine.host, AWAY)) == {"bpf": "missing"}
        assert states(kernel.bpf(machine.host, INFO)) == {"bpf": "missing"}  # no capability
        machine.capable(39)
        assert states(kernel.bpf(machine.host, INFO)) == {"bpf": "ok"}
        old = Host(machine.root, "6.1.0", "", "")
        assert states(kernel.bpf(old, INFO)) == {"bpf": "missing"}


class TestSubsystems:
    def test_damon(self, machine):
        assert states(subsystems.damon(machine.host)) == {"damon": "missing"}
        nr = "sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds"
        machine.write(nr, "0\n")
        assert states(subsystems.damon(machine.host)) == {"damon": "ok"}
        machine.write(nr, "1\n")
        machine.write("sys/kernel/mm/damon/admin/kdamonds/0/state", "on\n")
        (one,) = subsystems.damon(machine.host)
        assert (one.state, one.found) == ("unusable", "1 kdamonds (on)")
        machine.write(nr, "0\n")
        machine.write("sys/module/damon_reclaim/parameters/enabled", "Y\n")
        (one,) = subsystems.damon(machine.host)
        assert one.state == "unusable"
        assert "damon_reclaim" in one.found

    def test_f2fs(self, machine):
        assert states(subsystems.f2fs(machine.host)) == {"f2fs": "missing"}
        machine.write(
            "lib/modules/6.12.7-amd64/modules.dep", "kernel/fs/f2fs/f2fs.ko.xz: kernel/lib/x.ko\n"
        )
        (one,) = subsystems.f2fs(machine.host)
        assert (one.state, one.hint) == ("missing", "mount one")
        machine.write("proc/filesystems", "nodev\tsysfs\n\tf2fs\n")
        machine.write("proc/mounts", "/dev/vda /data f2fs rw 0 0\n/dev/vdb / ext4 rw 0 0\n")
        assert states(subsystems.f2fs(machine.host)) == {"f2fs": "unusable"}
        machine.write("sys/fs/f2fs/vda/gc_urgent_sleep_time", "500\n")
        (one,) = subsystems.f2fs(machine.host)
        assert (one.state, one.found) == ("ok", "/dev/vda on /data")

    def test_nilfs2(self, machine):
        assert states(subsystems.nilfs2(machine.host)) == {"nilfs2": "missing"}
        machine.write("proc/filesystems", "\tnilfs2\n")
        (one,) = subsystems.nilfs2(machine.host)
        assert "libnilfsgc" in one.effect
        machine.write("usr/lib/x86_64-linux-gnu/libnilfsgc.so.0")
        machine.write("sbin/nilfs_cleanerd", mode=0o755)
        machine.write("proc/mounts", "/dev/vda /n nilfs2 rw 0 0\n")
        (one,) = subsystems.nilfs2(machine.host)
        assert one.state == "ok"
        assert "/usr/lib/x86_64-linux-gnu/libnilfsgc.so.0" in one.found
        machine.write("proc/77/comm", "nilfs_cleanerd\n")
        (one,) = subsystems.nilfs2(machine.host)
        assert one.state == "unusable"
        assert "pid 77" in one.effect

    def test_readahead(self, machine):
        assert states(subsystems.readahead(machine.host)) == {"readahead": "missing"}
        machine.write("sys/block/vda/queue/read_ahead_kb", "128\n")
        (one,) = subsystems.readahead(machine.host)
        assert (one.state, one.found) == ("ok", "vda")


class TestOurselves:
    def test_state_directory_and_journals(self, tmp_path, monkeypatch):
        daemon = DaemonConfig(state_dir=str(tmp_path / "state"))
        assert states(ourselves.state_directory(daemon)) == {"state": "ok"}
        journals = tmp_path / "state/knob-journal"
        journals.mkdir(parents=True)
        (journals / "a.b.json").touch()
        found = {one.name: one for one in ourselves.state_directory(daemon)}
        assert (found["journals"].state, found["journals"].found) == ("ok", "of a.b")
        (journals / "c.damaged").touch()
        assert [one.state for one in ourselves.state_directory(daemon)] == ["ok", "unusable", "ok"]
        monkeypatch.setattr("mlproxy.doctor.ourselves.os.access", lambda *_: False)
        assert states(ourselves.state_directory(daemon)) == {"state": "unusable"}

    def test_broker(self):
        assert ourselves.broker(FeedConfig()).state == "ok"
        assert ourselves.broker(FeedConfig(enabled=False)).state == "missing"
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            assert ourselves.broker(FeedConfig(host="127.0.0.1", port=port)).state == "ok"
        assert ourselves.broker(FeedConfig(host="127.0.0.1", port=port)).state == "unusable"

    def test_plugins(self):
        records = [
            PluginRecord("a", "a:b", "loaded", subsystems=("a",)),
            PluginRecord("b", "b:c", "quarantined", code="plugin.x", reason="boom"),
            PluginRecord("c", "c:d", "denied"),
        ]
        found = states(ourselves.plugins(Registry(Hooks(), records=records)))
        assert found == {"plugin a": "ok", "plugin b": "unusable", "plugin c": "missing"}
        assert states(ourselves.plugins(Registry(Hooks()))) == {"plugins": "missing"}


def test_an_invalid_configuration_hides_nothing_of_the_machine(machine, tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text("[daemon]\nguard = 'both'\nseeds = 1\n")
    found = {one.name: one for one in examine(Source(bad, (), {}), machine.host)}
    assert "2 problems" in found["configuration"].found
    assert isinstance(ourselves.read_configuration(Source(bad, (), {})), ConfigError)
    assert {"kernel", "module", "psi", "damon", "broker"} <= set(found)


def test_nothing_is_written(machine, tmp_path):
    machine.write("sys/block/vda/queue/read_ahead_kb", "128\n")
    machine.write("sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds", "0\n")

    def picture():
        return {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}

    before = picture()
    list(examine(Source(None, (), {}), machine.host))
    assert picture() == before


def test_the_table_folds_and_names_what_to_do():
    lines = list(render([Finding("psi", "missing", "no " * 30, "effect", "boot with psi=1")], 60))
    assert lines[0].startswith("missing   psi")
    assert all(len(line) <= 60 for line in lines)
    assert lines[-1].strip() == "do: boot with psi=1"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *arguments])
    return ended.value.code, capsys.readouterr().out


def test_the_command(capsys, monkeypatch, tmp_path):
    config = tmp_path / "mlproxy.toml"
    config.write_text(f"[daemon]\nstate_dir = '{tmp_path}'\n")
    monkeypatch.setenv("MLPROXY_PLUGINS", "")
    code, text = run(capsys, "--config", str(config), "--json")
    document = json.loads(text)
    bad = any(one["state"] == "unusable" for one in document["findings"])
    assert (document["schema"], document["usable"]) == (1, not bad)
    assert code == (4 if bad else 0)
    assert all(
        set(one) == {"name", "state", "found", "effect", "hint"} for one in document["findings"]
    )
    again, table = run(capsys, "--config", str(config))
    assert again == code
    assert f"state             {tmp_path}" in table.replace("\n" + " " * 28, "")
