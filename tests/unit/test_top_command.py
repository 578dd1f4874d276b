"""`mlproxy top`: when it prints, repeats, ends, and with which status."""

import io
import json
import socket
import threading

import pytest
from rich.console import Console

from mlproxy.cli import main, top
from mlproxy.errors import ControlError

AWAY = ControlError(
    "no daemon listens on x", code="control.not_running", hint="start it with `mlproxy run`"
)


class Source:
    """Answers with the given documents in turn; an exception is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def status(self):
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def terminal(**options):
    return Console(file=io.StringIO(), width=80, height=40, force_terminal=True, **options)


def node(name):
    return {"node": name}


def test_once_prints_once():
    source, console = Source(node("first"), node("second")), terminal()
    top.watch(source, console, interval=1, once=True, sleep=pytest.fail)
    assert "first" in console.file.getvalue()
    assert len(source.answers) == 1


def test_without_a_terminal_it_prints_once_as_plain_text():
    source = Source(node("first"), node("second"))
    console = Console(file=io.StringIO(), width=80)
    top.watch(source, console, interval=1, once=False, sleep=pytest.fail)
    assert console.file.getvalue().startswith("mlproxy     first  -  since -")
    assert "\x1b" not in console.file.getvalue()


def test_it_asks_again_after_each_interval_until_interrupted():
    source, console, waits = Source(node("first"), node("second"), node("third")), terminal(), []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    top.watch(source, console, interval=2.5, once=False, sleep=sleep)
    assert waits == [2.5, 2.5, 2.5]
    text = console.file.getvalue()
    assert text.index("first") < text.index("second") < text.index("third")
    alternate, left = text.rsplit("\x1b[?1049l", 1)
    assert "\x1b[?1049h" in alternate
    assert "third" in left  # the last picture stays in the scroll-back


def test_when_the_daemon_goes_away_the_screen_is_restored_and_the_error_raised():
    console = terminal()
    with pytest.raises(ControlError) as caught:
        top.watch(
            Source(node("first"), AWAY), console, interval=1, once=False, sleep=lambda _: None
        )
    assert caught.value.code == "control.not_running"
    assert "first" in console.file.getvalue().rsplit("\x1b[?1049l", 1)[1]


def test_a_resized_terminal_is_filled():
    console, widths = terminal(), []

    class Shrinking(Source):
        def status(self):
            widths.append(console.width)
            console.width = 60
            return super().status()

    source = Shrinking(node("a"), node("b"), KeyboardInterrupt())
    top.watch(source, console, interval=1, once=False, sleep=lambda _: None)
    last = console.file.getvalue().rsplit("\x1b[?1049l", 1)[1]
    assert "─" * 60 in last
    assert "─" * 61 not in last


def run(capsys, *arguments):
    """The whole command line: what it printed, and its exit status."""
    with pytest.raises(SystemExit) as caught:
        main(["top", *arguments])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


@pytest.fixture
def plain(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "MLPROXY_SOCKET"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("plain")
def test_no_daemon_is_exit_status_3_with_the_coded_error(capsys, tmp_path):
    status, out, err = run(capsys, "--once", "--socket", str(tmp_path / "none.sock"))
    assert status == 3
    assert out == ""
    assert "control.not_running" in err
    assert "mlproxy run" in err


@pytest.mark.usefixtures("plain")
def test_it_asks_the_daemon_behind_the_socket(capsys, tmp_path):
    """A real socket, one question, the answer on stdout as plain text."""
    path = tmp_path / "control.sock"
    asked = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer():
            connection, _ = server.accept()
            with connection:
                asked.append(json.loads(connection.makefile().readline()))
                connection.sendall(b'{"ok": true, "result": {"node": "here"}}\n')

        thread = threading.Thread(target=answer)
        thread.start()
        status, out, err = run(capsys, "--socket", str(path))
        thread.join()
    assert asked == [{"verb": "status"}]
    assert (status, err) == (0, "")
    assert out.startswith("mlproxy     here  -")
    assert "\x1b" not in out


@pytest.mark.parametrize("interval", ["0", "-1", "soon"])
def test_a_senseless_interval_is_a_usage_error(capsys, interval):
    assert run(capsys, "--interval", interval)[0] == 2
