"""`mlproxy run` with tunables, under both guards: killed, stopped, started again."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from mlproxy_vm.agents import MS, STALL, SWAPPINESS, Agent, moment, read_ahead, reads, shown

from mlproxy.app.client import ControlClient
from mlproxy.errors import ControlError
from mlproxy.testing.install import install_plugin

PLUGIN = (
    "from mlproxy import hookimpl\n"
    "from mlproxy.testing.knobs import knob_factory\n\n\n"
    "@hookimpl\n"
    "def mlproxy_subsystems():\n"
    "    return [knob_factory('tuner')]\n"
)


class Box:
    """A state directory, a configuration, and the daemon's command in a forked process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tunables = [read_ahead(), SWAPPINESS]
        self.usual = {path: path.read_text().strip() for path in self.tunables}
        self.model = dict.fromkeys(self.tunables, "76")
        install_plugin(folder / "plugins", "tuner", PLUGIN)

    def configure(self, guard: str, **options: object) -> None:
        lines = "".join(f"{key} = {value!r}\n" for key, value in options.items())
        (self.folder / "mlproxy.toml").write_text(
            f"[daemon]\nstate_dir = '{self.folder / 'state'}'\nguard = '{guard}'\n"
            f"restart_limit = 0\n[feed]\nenabled = false\n"
            f"[subsystem.tuner]\nenabled = true\nvalue = 76\n"
            f"knobs = {[str(path) for path in self.tunables]!r}\n{lines}"
        )

    def daemon(self) -> Agent:
        """`mlproxy run`: everything but the start of the interpreter."""

        def body(ready):
            from mlproxy.cli import main

            ready()
            log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.path.insert(0, str(self.folder / "plugins"))
            os.environ["MLPROXY_PLUGINS"] = "tuner"
            try:
                main(["run", "--config", str(self.folder / "mlproxy.toml")])
            finally:
                sys.stdout.flush()
                sys.stderr.flush()

        return Agent(body)

    def status(self):
        with ControlClient(str(self.folder / "state/control.sock")) as client:
            return client.call("status")

    def proxy(self):
        with contextlib.suppress(ControlError, KeyError):
            return self.status()["subsystems"]["tuner"]["proxies"]["tuner.knobs"]
        return None

    def until_applied(self):
        try:
            moment(reads(self.model), 60)
            moment(lambda: self.proxy() is not None, 60)
        except AssertionError as error:
            log = self.folder / "log"
            raise AssertionError(log.read_text() if log.exists() else "no log") from error


@pytest.fixture
def box(tmp_path):
    box = Box(tmp_path)
    yield box
    for path, text in box.usual.items():
        path.write_text(text)


class TestKernelGuard:
    @pytest.mark.parametrize("guard", ["auto", "kernel"])
    def test_a_killed_daemon_leaves_the_system_as_it_was(self, box, module, measure, guard):
        box.configure(guard)
        with box.daemon() as daemon:
            box.until_applied()
            assert box.proxy()["guard"] == "kernel"
            killed = daemon.signal(signal.SIGKILL)
            took = moment(reads(box.usual)) - killed
            measure(f"daemon_knob_restore_{guard}_ms", took / MS)
            assert took < 1000 * MS + STALL
        assert not (box.folder / "state/knob-journal").exists()
        with box.daemon() as daemon:  # and there is nothing in the next one's way
            box.until_applied()
            assert box.status()["put_back"] == []
            daemon.signal(signal.SIGTERM)
            os.waitpid(daemon.pid, 0)
            daemon.pid = 0
            assert reads(box.usual)()

    def test_a_stopped_daemon(self, box, module):
        box.configure("kernel", heartbeat_ms=1000)
        with box.daemon() as daemon:
            box.until_applied()
            stopped = daemon.signal(signal.SIGSTOP)
            silent = moment(lambda: shown("tuner.knobs", "mode") == "emergency") - stopped
            moment(reads(box.usual), 1)
            assert silent < 1000 * MS + STALL
            daemon.signal(signal.SIGCONT)
            # Nobody but the kernel had to act; now the daemon tells of it.
            moment(lambda: (p := box.proxy()) is not None and p["reason"] == "heartbeat", 30)
            daemon.signal(signal.SIGTERM)

    def test_without_the_module_it_is_an_error_with_a_code(self, box):
        box.configure("kernel")
        with box.daemon():
            moment((box.folder / "state/control.sock").exists, 60)

            def failed():
                with contextlib.suppress(ControlError, KeyError):
                    return box.status()["subsystems"]["tuner"]["failure"]
                return None

            moment(lambda: failed() is not None, 60)
            assert failed()["code"] == "kernel.no_module"
        assert reads(box.usual)()


class TestInProcessGuard:
    @pytest.mark.parametrize("guard", ["auto", "in-process"])
    def test_the_next_start_puts_back_what_a_killed_one_left(self, box, guard):
        box.configure(guard)
        with box.daemon() as daemon:
            box.until_applied()
            assert box.proxy()["guard"] == "in-process"
            daemon.signal(signal.SIGKILL)
        assert reads(box.model)()  # that is what this guard cannot do
        swappiness = {SWAPPINESS: "55"}
        SWAPPINESS.write_text("55")  # an operator, meanwhile
        (box.folder / "mlproxy.toml").write_text(
            (box.folder / "mlproxy.toml").read_text().replace("enabled = true", "enabled = false")
        )
        with box.daemon() as daemon:
            moment(lambda: self.put_back(box), 60)
            assert self.put_back(box) == {
                str(read_ahead()): "restored",
                str(SWAPPINESS): "foreign",
            }
            daemon.signal(signal.SIGTERM)
        assert reads({read_ahead(): box.usual[read_ahead()], **swappiness})()
        assert list((box.folder / "state/knob-journal").iterdir()) == []

    @staticmethod
    def put_back(box):
        with contextlib.suppress(ControlError):
            return {told["path"]: told["outcome"] for told in box.status()["put_back"]}
        return {}

    def test_a_clean_end_leaves_nothing(self, box):
        box.configure("in-process")
        with box.daemon() as daemon:
            box.until_applied()
            daemon.signal(signal.SIGTERM)
            os.waitpid(daemon.pid, 0)
            daemon.pid = 0
        assert reads(box.usual)()
        assert list((box.folder / "state/knob-journal").iterdir()) == []

    def test_the_module_does_not_matter_when_it_is_not_wanted(self, box, module):
        box.configure("in-process")
        with box.daemon() as daemon:
            box.until_applied()
            assert box.proxy()["guard"] == "in-process"
            assert list(Path("/sys/class/mlproxy").iterdir()) == []
            daemon.signal(signal.SIGTERM)
            time.sleep(0.1)
            moment(reads(box.usual), 20)
