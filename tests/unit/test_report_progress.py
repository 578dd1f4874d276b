"""Progress bars: for people, and for nobody else."""

import io

import pytest

from mlproxy.report.progress import progress_board


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def work(stream, **options):
    with progress_board(stream=stream, **options) as board:
        bar = board.add("mail [spool]", total=4)
        bar.advance()
        bar.update(3, note="in trusted")
        board.say("half [bold]way")
        visible = board.visible
    return bar, visible


def test_a_terminal_sees_the_bars():
    stream = Terminal()
    bar, visible = work(stream)
    assert visible
    assert bar.done == 3
    text = stream.getvalue()
    for wanted in ("mail [spool]", "3/4", "in trusted", "half [bold]way"):
        assert wanted in text


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["pipe", "terminal"])
def test_quiet_writes_nothing(stream):
    bar, visible = work(stream, quiet=True)
    assert not visible
    assert bar.done == 3
    assert stream.getvalue() == ""


def test_a_pipe_sees_nothing():
    stream = io.StringIO()
    bar, visible = work(stream)
    assert not visible
    assert bar.done == 3
    assert stream.getvalue() == ""


def test_a_dumb_terminal_sees_nothing(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    work(stream)
    assert stream.getvalue() == ""


def test_the_count_stays_between_nothing_and_all():
    with progress_board(quiet=True) as board:
        bar = board.add("x", total=2)
        bar.advance(5)
        assert bar.done == 2
        bar.update(-1)
        assert bar.done == 0


def test_the_default_is_stderr_and_silent_when_it_is_captured(capsys):
    with progress_board() as board:
        board.add("x").advance()
    assert capsys.readouterr() == ("", "")
