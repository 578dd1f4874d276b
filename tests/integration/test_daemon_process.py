"""The daemon as a process: real entry points, real signals, the real control socket."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlproxy.app.client import ControlClient
from mlproxy.errors import ControlError
from mlproxy.testing.install import install_plugin

BRINGS_MODELS = """\
import dataclasses
from mlproxy import hookimpl
from mlproxy.learn import htr

@hookimpl
def mlproxy_models():
    mine = dataclasses.replace(htr(max_depth=3), name="short-tree")
    return {"lfs-placement": [mine, htr()]}
"""
RAISES = "raise RuntimeError('broken on purpose')\n"


class Box:
    """A state directory, a configuration file, plugins and the processes started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plugins = directory / "plugins"
        self.config = directory / "mlproxy.toml"
        self.socket = directory / "state" / "control.sock"
        self.log = directory / "log"
        self.started: list[subprocess.Popen[bytes]] = []
        self.tables: dict[str, str] = {}
        self.names: list[str] = []

    def plugin(self, name: str, source: str | None = None, **options: object) -> None:
        install_plugin(self.plugins, name, source)
        self.names.append(name)
        if source is None:
            self.set(name, **options)

    def set(self, name: str, **options: object) -> None:
        lines = "".join(f"{k} = {json.dumps(v)}\n" for k, v in options.items())
        self.tables[name] = f"[subsystem.{name}]\n{lines}"
        self.write()

    def write(self, extra: str = "") -> None:
        self.config.write_text(
            f"[daemon]\nnode = 'test'\nstate_dir = '{self.directory / 'state'}'\n"
            "step_seconds = 0.5\nstart_seconds = 20.0\nstop_seconds = 5.0\nrestart_limit = 0\n"
            f"{extra}[feed]\nenabled = false\n" + "".join(self.tables.values())
        )

    @property
    def environment(self) -> dict[str, str]:
        path = [str(self.plugins), *(p for p in sys.path if p)]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MLPROXY")}
        return kept | {
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MLPROXY_PLUGINS": ",".join(self.names),
            "MLPROXY_CONFIG": str(self.config),
        }

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mlproxy", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mlproxy", "run", *arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self.started.append(process)
        return process

    def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait until the daemon's status meets a condition."""
        end = time.monotonic() + 60
        status: dict[str, Any] = {}
        while time.monotonic() < end:
            with contextlib.suppress(ControlError):
                status = self.call("status")
                if condition(status):
                    return status
            assert any(p.poll() is None for p in self.started), self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"never so: {status}\n{self.log.read_text()}")

    def call(self, verb: str, **arguments: Any) -> Any:
        with ControlClient(str(self.socket)) as client:
            return client.call(verb, **arguments)

    def logged(self, event: str) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [e for e in entries if e["event"] == event]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    made.write()
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.wait(20)


def steps(status: dict[str, Any], name: str) -> int:
    return int(status["subsystems"].get(name, {}).get("steps", 0))


def state(status: dict[str, Any], name: str) -> str:
    return str(status["subsystems"].get(name, {}).get("state", ""))


def test_it_runs_answers_and_ends_cleanly(box: Box) -> None:
    box.plugin("good")
    daemon = box.start()
    status = box.until(lambda s: steps(s, "good") > 2)

    assert status["health"] == "ok"
    assert status["pid"] == daemon.pid
    proxy = status["subsystems"]["good"]["proxies"]["good.demo"]
    assert (proxy["mode"], proxy["guard"]) == ("learning", "in-process")
    shown = box.cli("status", "--json")
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["node"] == "test"
    assert "good.demo" in box.cli("status").stdout

    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    assert not box.socket.exists()
    assert [e["new"] for e in box.logged("mode.changed")] == ["learning", "emergency"]
    assert box.logged("daemon.stopped")
    assert box.cli("status").returncode == 3


def test_broken_and_hanging_plugins_disturb_nobody(box: Box) -> None:
    box.plugin("good")
    box.plugin("noimport", RAISES)
    box.plugin("nostart", fault="start-raise")
    box.plugin("raises", fault="step-raise")
    box.plugin("sleeps", fault="step-sleep")
    box.plugin("busy", fault="step-busy")
    daemon = box.start()
    bad = ("nostart", "raises", "sleeps", "busy")
    status = box.until(lambda s: all(state(s, n) == "quarantined" for n in bad))
    before = steps(status, "good")
    status = box.until(lambda s: steps(s, "good") > before + 5)

    assert status["health"] == "degraded"
    failures = {n: status["subsystems"][n]["failure"] for n in bad}
    assert {n: (f["phase"], f["code"]) for n, f in failures.items()} == {
        "nostart": ("start", "plugin.start_failed"),
        "raises": ("step", "plugin.step_failed"),
        "sleeps": ("step", "plugin.overrun"),
        "busy": ("step", "plugin.overrun"),
    }
    modes = {
        name: s["proxies"][f"{name}.demo"]["mode"]
        for name, s in status["subsystems"].items()
        if s["proxies"]
    }
    assert modes == {
        "good": "learning",
        "raises": "emergency",
        "sleeps": "emergency",
        "busy": "emergency",
    }
    listed = {p["name"]: p for p in box.call("plugins")}
    assert (listed["noimport"]["state"], listed["noimport"]["phase"]) == ("quarantined", "import")
    assert box.cli("status").returncode == 4

    # Threads that hang for ever are left behind, the end is still a clean one.
    daemon.send_signal(signal.SIGINT)
    assert daemon.wait(30) == 4
    assert box.logged("daemon.stopped")


def test_a_candidate_that_a_plugin_brings_competes_in_the_bundled_subsystem(box: Box) -> None:
    box.plugin("models", BRINGS_MODELS)
    box.names.append("lfs")
    box.set("lfs", workload="zipf-0.99", segments=192, segment_blocks=32)
    box.start()

    def candidates(status: dict[str, Any]) -> dict[str, Any]:
        proxies = status["subsystems"].get("lfs", {}).get("proxies", {})
        return dict(proxies.get("lfs-placement", {}).get("models", {}))

    status = box.until(lambda s: candidates(s).get("short-tree", {}).get("labels"))
    found = candidates(status)
    assert found["short-tree"]["labels"] == found["htr"]["labels"]
    assert found["short-tree"]["state"] in ("warming", "ready")
    # Its second one has a name that is taken.
    assert [e["candidate"] for e in box.logged("model.dropped")] == ["htr"]
    listed = {p["name"]: p for p in box.call("plugins")}
    assert listed["models"]["decisions"] == ["lfs-placement"]


def test_it_ends_when_all_are_done(box: Box) -> None:
    box.plugin("one", steps=3)
    box.plugin("two", steps=5)

    assert box.start("--once-done").wait(60) == 0
    assert len(box.logged("plugin.finished")) == 2


def test_a_second_daemon_is_refused_and_a_killed_one_leaves_no_trace(box: Box) -> None:
    box.plugin("good")
    first = box.start()
    box.until(lambda s: steps(s, "good"))

    second = box.cli("run")
    assert second.returncode == 75
    assert "daemon.already_running" in second.stderr
    assert str(first.pid) in second.stderr
    assert second.stdout == ""

    first.kill()
    first.wait(30)
    assert box.socket.exists()
    assert box.cli("status").returncode == 3
    box.start()
    box.until(lambda s: s["pid"] != first.pid and steps(s, "good"))


def test_reload_touches_only_what_changed(box: Box) -> None:
    box.plugin("kept")
    box.plugin("changed")
    box.plugin("removed")
    box.plugin("added", enabled=False)
    daemon = box.start()
    before = box.until(lambda s: min(steps(s, n) for n in ("kept", "changed", "removed")) > 50)

    box.set("changed", fault_step=4)
    box.set("removed", enabled=False)
    box.set("added", enabled=True)
    daemon.send_signal(signal.SIGHUP)
    after = box.until(lambda s: s["reloads"] == 1 and steps(s, "added"))

    assert set(after["subsystems"]) == {"kept", "changed", "added"}
    assert steps(after, "kept") > steps(before, "kept")
    assert steps(after, "changed") < steps(before, "changed")
    result = box.logged("config.reloaded")[0]
    assert (result["restarted"], result["started"], result["stopped"]) == (
        ["changed"],
        ["added"],
        ["removed"],
    )


def test_an_invalid_reload_changes_nothing(box: Box) -> None:
    box.plugin("good")
    daemon = box.start()
    box.until(lambda s: steps(s, "good") > 5)
    box.tables["good"] = "[subsystem.good]\nsteps = 'many'\n"
    box.write("nodes = 3\n")

    with pytest.raises(ControlError) as caught:
        box.call("reload")
    assert caught.value.code == "config.invalid"
    found = caught.value.context["problems"]
    assert isinstance(found, list)
    assert {p["code"] for p in found} == {"config.unknown_key", "config.wrong_type"}
    daemon.send_signal(signal.SIGHUP)
    status = box.until(lambda s: steps(s, "good") > 20)
    assert (status["reloads"], state(status, "good")) == (0, "running")
    assert box.logged("config.refused")

    box.tables["good"] = "[subsystem.good]\n"
    box.write("seed = 9\nlog_level = 'debug'\n")
    with pytest.raises(ControlError) as caught:
        box.call("reload")
    found = caught.value.context["problems"]
    assert isinstance(found, list)
    assert [(p["code"], p["key"]) for p in found] == [("config.needs_restart", "daemon.log_level")]


def test_emergency_by_command(box: Box) -> None:
    box.plugin("good")
    box.start()
    box.until(lambda s: steps(s, "good"))

    assert json.loads(box.cli("emergency", "on", "--json").stdout)["proxies"] == ["good.demo"]
    status = box.call("status")
    proxy = status["subsystems"]["good"]["proxies"]["good.demo"]
    assert (status["emergency"], proxy["mode"], proxy["operator_hold"]) == (
        True,
        "emergency",
        True,
    )
    assert box.cli("emergency", "off").stdout == "emergency off: good.demo\n"
    assert box.call("status")["subsystems"]["good"]["proxies"]["good.demo"]["mode"] == "learning"
    unknown = box.cli("emergency", "on", "nothing")
    assert unknown.returncode == 2
    assert "good.demo" in unknown.stderr


def test_an_invalid_configuration_is_told_whole(box: Box) -> None:
    box.plugin("good")
    box.write("nodes = 1\nseed = 'x'\n")

    failed = box.cli("run")

    assert failed.returncode == 78
    assert failed.stdout == ""
    assert "config.unknown_key" in failed.stderr
    assert "config.wrong_type" in failed.stderr
    assert f"{box.config}:" in failed.stderr


def test_stop_and_config_over_the_socket(box: Box) -> None:
    box.plugin("good")
    daemon = box.start("-o", "daemon.seed=5")
    box.until(lambda s: steps(s, "good"))

    rows = {row["key"]: row for row in box.call("config")}
    assert rows["daemon.seed"] == {"key": "daemon.seed", "value": 5, "origin": "-o daemon.seed"}
    assert rows["daemon.node"]["origin"] == f"{box.config}:2"
    assert box.call("stop") == {"stopping": True}
    assert daemon.wait(30) == 0


KNOBS = (
    "from mlproxy import hookimpl\n"
    "from mlproxy.testing.knobs import knob_factory\n\n\n"
    "@hookimpl\n"
    "def mlproxy_subsystems():\n"
    "    return [knob_factory('tuner')]\n"
)


def test_a_daemon_puts_back_what_a_killed_one_has_left_in_tunables(box: Box) -> None:
    """In this process's guard; plain files stand in for tunables."""
    ours, touched = box.directory / "ours", box.directory / "touched"
    ours.write_text("7\n")
    touched.write_text("8\n")
    box.plugin("tuner", KNOBS)
    box.set("tuner", enabled=True, knobs=[str(ours), str(touched)])
    box.write("guard = 'in-process'\n")
    first = box.start()
    box.until(lambda _: (ours.read_text(), touched.read_text()) == ("64", "64"))
    first.kill()
    first.wait()
    assert ours.read_text() == "64"  # nobody was there to put it back
    touched.write_text("99\n")
    box.set("tuner", enabled=False)
    box.write("guard = 'in-process'\n")
    second = box.start()
    status = box.until(lambda s: s["pid"] == second.pid and s["put_back"])

    assert {(Path(t["path"]).name, t["outcome"]) for t in status["put_back"]} == {
        ("ours", "restored"),
        ("touched", "foreign"),
    }
    assert (ours.read_text(), touched.read_text()) == ("7", "99\n")
    shown = box.cli("status").stdout
    assert "left by an earlier run, tuner.knobs: restored" in shown
    assert list((box.directory / "state" / "knob-journal").iterdir()) == []
