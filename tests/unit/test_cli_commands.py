"""The command line: what it prints where, exit statuses, and what it does not import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mlproxy.cli import COMMANDS, cli, main
from mlproxy.cli.exit import ExitCode, exit_code
from mlproxy.cli.lazy import LazyGroup, subgroup
from mlproxy.cli.options import socket_path
from mlproxy.errors import PluginError
from mlproxy.testing.install import install_plugin


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str, str]:
    """Run the command line in this process; returns (status, stdout, stderr)."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    return caught.value.code, out, err


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLPROXY_PLUGINS", "")
    monkeypatch.setenv("MLPROXY_SOCKET", str(tmp_path / "none.sock"))
    monkeypatch.delenv("MLPROXY_CONFIG", raising=False)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "version")
    assert (status, out) == (0, "mlproxy 0.1.0\n")
    status, out, _ = run(capsys, "version", "--json")
    assert json.loads(out)["plugin_api"] == "1.0"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["status"], ExitCode.NOT_RUNNING),
        (["emergency", "on"], ExitCode.NOT_RUNNING),
        (["emergency", "maybe"], ExitCode.USAGE),
        (["no-such-command"], ExitCode.USAGE),
        (["version", "--no-such-option"], ExitCode.USAGE),
        (["config", "check"], ExitCode.OK),
        (["config", "check", "-o", "daemon.nodes=1"], ExitCode.CONFIG),
        (["config", "check", "--config", "/nonexistent/x.toml"], ExitCode.CONFIG),
        (["config", "sample", "nobody"], ExitCode.CONFIG),
        (["run", "-o", "daemon.nodes=1"], ExitCode.CONFIG),
        (["run", "-o", "daemon.state_dir='/proc/nothing'"], ExitCode.PERMISSION),
        (["run", "-o", "daemon.socket_group='no-such-group'"], ExitCode.CONFIG),
        (["plugins", "check", "nobody"], ExitCode.FAILURE),
    ],
)
def test_exit_statuses(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: ExitCode
) -> None:
    got, out, err = run(capsys, *arguments)

    assert got == status
    if status != ExitCode.OK:
        assert out == ""
        assert err


def test_an_error_says_what_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = run(capsys, "status")

    assert err.startswith("error[control.not_running]: no daemon listens on ")
    assert "\n  hint: start it with `mlproxy run`" in err


def test_with_json_an_error_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "status", "--json")

    assert (status, err) == (3, "")
    assert json.loads(out)["error"]["code"] == "control.not_running"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    status, out, _ = run(capsys, "completion", shell)

    assert status == 0
    assert "_MLPROXY_COMPLETE" in out


def test_config_show_prints_toml_keys_with_origin(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "config", "show", "--origin", "-o", "daemon.seed=4")

    assert "daemon.seed = 4  # -o daemon.seed\n" in out
    assert "daemon.restart_limit = 3  # default\n" in out


def test_config_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "config", "schema")

    assert json.loads(out)["properties"]["daemon"]["properties"]["seed"]["default"] == 1


def test_every_error_code_prefix_has_a_documented_status() -> None:
    assert exit_code("config.anything") is ExitCode.CONFIG
    assert exit_code("plugin.overrun") is ExitCode.FAILURE
    assert exit_code("control.refused") is ExitCode.PERMISSION


HEAVY = ("pydantic", "numpy", "river", "scipy", "msgspec", "rich", "aiomqtt", "amqtt", "structlog")


@pytest.mark.parametrize(
    "arguments", [["version"], ["status"], ["emergency", "on"], ["completion", "bash"]]
)
def test_quick_commands_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from mlproxy.cli import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={
            "PYTHONPATH": ":".join(p for p in sys.path if p),
            "MLPROXY_SOCKET": str(tmp_path / "s"),
            "HOME": str(tmp_path),
        },
    )

    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_that_is_there_has_help(name: str) -> None:
    context = click.Context(cli)
    assert isinstance(cli, LazyGroup)
    command = cli.get_command(context, name)

    assert command is not None
    assert command.get_short_help_str()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, (name, parameter.name)


def test_the_socket_is_found_in_the_order_option_environment_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "m.toml"
    path.write_text(f"[daemon]\nstate_dir = '{tmp_path}'\n")
    monkeypatch.setenv("MLPROXY_SOCKET", "/from/environment")

    assert socket_path("/from/option", str(path)) == "/from/option"
    assert socket_path(None, str(path)) == "/from/environment"
    monkeypatch.delenv("MLPROXY_SOCKET")
    assert socket_path(None, str(path)) == str(tmp_path / "control.sock")
    path.write_text("[daemon]\nsocket = '/from/file'\n")
    assert socket_path(None, str(path)) == "/from/file"
    path.write_text("daemon = 3")
    assert socket_path(None, str(path)).endswith("control.sock")


PLUGIN = """
import click
from mlproxy import hookimpl
from mlproxy.cli.lazy import subgroup


@hookimpl
def mlproxy_commands(cli):
    @click.command(help="From a plugin.")
    def hello():
        click.echo("hello from a plugin")

    cli.add_command(hello)
    subgroup(cli, "plugins").add_command(hello)
"""


def test_plugins_add_commands(tmp_path: Path) -> None:
    install_plugin(tmp_path, "greets", PLUGIN)
    install_plugin(tmp_path, "broken", PLUGIN + "\n    raise RuntimeError('half way')\n")
    environment = {
        "PYTHONPATH": ":".join([str(tmp_path), *(p for p in sys.path if p)]),
        "MLPROXY_PLUGINS": "greets,broken",
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def output(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mlproxy", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    done = output("hello")
    assert (done.returncode, done.stdout) == (0, "hello from a plugin\n")
    assert "plugin broken: mlproxy_commands" in done.stderr
    assert "From a plugin." in output("--help").stdout
    assert output("hullo").returncode == 2


def test_an_unknown_subgroup() -> None:
    with pytest.raises(PluginError) as caught:
        subgroup(cli, "version")
    assert caught.value.code == "plugin.no_such_group"


def test_status_text() -> None:
    from mlproxy.cli.status import render

    status = {
        "version": "0.1.0",
        "node": "n",
        "pid": 1,
        "started_at": "t",
        "health": "degraded",
        "emergency": True,
        "feed": {"state": "up", "sent": {}},
        "plugins": [
            {"name": "x", "state": "quarantined", "phase": "import", "code": "c", "reason": "r"}
        ],
        "subsystems": {
            "demo": {
                "state": "quarantined",
                "steps": 3,
                "restarts": 1,
                "failure": {"phase": "step", "code": "plugin.overrun", "message": "late"},
                "proxies": {
                    "demo.demo": {
                        "mode": "emergency",
                        "reason": "agent-gone",
                        "latched": True,
                        "operator_hold": False,
                        "guard": "in-process",
                        "champion": "",
                        "rejected": {"range": 2},
                        "trial": {
                            "pairs": 4,
                            "saving_ratio": 0.1,
                            "lower_ratio": -0.02,
                            "upper_ratio": 0.2,
                        },
                        "twin": None,
                    }
                },
            }
        },
    }

    text = render(status)

    assert "EMERGENCY by the operator" in text
    assert "plugin x: quarantined in import [c] r" in text
    assert "in step: [plugin.overrun] late" in text
    assert "saving +10.0% [-2.0, +20.0], twin -, rejected 2" in text
    assert "LATCHED" in text


def test_config_sample_through_the_command() -> None:
    from mlproxy.cli.config import group

    result = CliRunner().invoke(group, ["sample"])

    assert result.exit_code == 0
    assert "\n[daemon]\n" in result.stdout
