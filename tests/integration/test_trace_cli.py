"""`mlproxy trace record` and `info` as a person uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlproxy.cli.trace import group
from mlproxy.errors import TraceError
from mlproxy.trace.record import LIBRARY

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="the recorder is not built")


def run(*arguments: object) -> tuple[object, Result]:
    """The command's return value (the exit status it asks for), and what it printed."""
    runner = CliRunner()
    value: list[object] = []

    @group.result_callback(replace=True)
    def _keep(result: object) -> None:
        value.append(result)

    result = runner.invoke(group, [str(a) for a in arguments], catch_exceptions=True)
    return (value[0] if value else None), result


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    out = tmp_path / "out.trace"
    script = f"cd {root} && seq 5000 > a && cp a b && rm a"
    status, result = run(
        "record", "-o", out, "--root", root, "--tenant", 4, "--", "sh", "-c", script
    )
    assert status == 0, result.output
    assert "1 equal, 0 differ, 0 never seen, 0 vanished" in result.stderr
    return out


def test_info_tells_what_is_in_a_recording(recording: Path) -> None:
    status, result = run("info", recording, "--json")
    report = json.loads(result.stdout)
    size = len("".join(f"{n}\n" for n in range(1, 5001)))
    assert status == 0
    assert report["schema"] == 1
    assert report["files"] == 2
    assert report["bytes_written"] == 2 * size
    assert report["live_peak_bytes"] == 2 * size
    assert report["live_end_bytes"] == size
    assert report["ops"]["delete"] == 1
    assert report["tenant"] == 4
    assert report["damage"] is None
    assert report["meta"]["command"][0] == "sh"
    assert report["summary"]["sizes"]["equal"] == 1


def test_info_for_people_has_the_same_figures(recording: Path) -> None:
    status, result = run("info", recording)
    assert status == 0
    assert "integrity        whole" in result.stdout
    assert "sizes checked    1 equal" in result.stdout


def test_a_damaged_recording_is_described_up_to_the_damage(recording: Path) -> None:
    data = recording.read_bytes()
    recording.write_bytes(data[:-3])
    status, result = run("info", recording, "--json")
    report = json.loads(result.stdout)
    assert status == 1
    assert report["damage"]["code"] == "trace.truncated"
    assert 0 < report["damage"]["offset"] < len(data)
    assert report["files"] == 2
    status, result = run("info", recording)
    assert status == 1
    assert "trace.truncated" in result.stderr


def test_what_is_no_trace_is_a_coded_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello, this is text")
    _, result = run("info", tmp_path / "x")
    assert isinstance(result.exception, TraceError)
    assert result.exception.code == "trace.not_a_trace"


def test_the_status_of_the_command_is_passed_on(tmp_path: Path) -> None:
    status, _ = run("record", "-o", tmp_path / "o", "--root", tmp_path, "sh", "-c", "exit 9")
    assert status == 9
    assert (tmp_path / "o").exists()


def test_an_output_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    out = tmp_path / "no" / "dir" / "o"
    _, result = run("record", "-o", out, "--root", tmp_path, "touch", mark)
    assert isinstance(result.exception, TraceError)
    assert result.exception.code == "trace.output"
    assert not mark.exists()


def test_a_command_that_is_not_there_leaves_the_old_recording_alone(tmp_path: Path) -> None:
    out = tmp_path / "o"
    out.write_bytes(b"old")
    _, result = run("record", "-o", out, "--root", tmp_path, "no-such-program-here")
    assert isinstance(result.exception, TraceError)
    assert result.exception.code == "trace.command"
    assert out.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["o"]
