"""The core bench: its program, its rows, its command. No time is asserted."""

import json

import numpy as np
from click.testing import CliRunner

from mlproxy.bench import core, core_command
from mlproxy.proxy import check_program


def depth_of(program, index=0):
    node = program.nodes[index]
    if node.feature < 0:
        return 0
    return 1 + max(depth_of(program, node.left), depth_of(program, node.right))


def test_the_program_is_twelve_deep_and_fits():
    program = core.deep_program()
    check_program(program)
    assert depth_of(program) == 12
    features = np.random.default_rng(0).integers(0, 1 << 16, (500, 8), dtype=np.int32)
    assert core._mean_depth(program, features) > 10


def test_the_command_writes_rows_and_summary(tmp_path, monkeypatch):
    monkeypatch.setattr(
        core_command, "extra_measurements", lambda quick: [lambda: {"rss_mib": 1.5}]
    )
    file = tmp_path / "core.json"
    arguments = ["--quick", "--json", str(file), "--results", str(tmp_path / "results")]
    done = CliRunner().invoke(core_command.command, arguments)
    assert done.exit_code == 0, done.output
    assert "decide_program_ns" in done.output
    document = json.loads(file.read_text())
    assert len(document["rows"]) == 5
    keys = {"decide_program_ns", "ring_publish_ns", "clock_read_ns", "memcpy64_ns"}
    for row in document["rows"]:
        assert keys < set(row)
        assert all(row[key] > 0 for key in keys)
    assert document["summary"]["rss_mib"] == 1.5
    assert document["summary"]["ring_to_numpy_per_s"] > 0
    assert (tmp_path / "results/core.md").exists()


def test_other_parts_measurements_are_found_when_they_are_there(monkeypatch):
    monkeypatch.setattr(
        core_command, "_EXTRA", (("mlproxy.nowhere", "f"), ("mlproxy.bench.core", "_mean_depth"))
    )
    assert len(core_command.extra_measurements(quick=True)) == 1
