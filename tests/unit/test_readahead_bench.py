"""The bench's streams and its arithmetic, without a device."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlproxy.report.results import check
from mlproxy_readahead import bench_streams
from mlproxy_readahead.bench_command import command
from mlproxy_readahead.bench_streams import STREAMS, Files
from mlproxy_readahead.bench_summary import summarise

REQUEST = 65536
MIB = 1 << 20


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setattr(bench_streams, "FILES", 2)
    monkeypatch.setattr(bench_streams, "FILE_BYTES", MIB)
    made = Files(tmp_path)
    made.make()
    return made


def test_streams_say_what_they_asked_for(files: Files) -> None:
    rng = random.Random(3)

    assert STREAMS["sequential"](files, rng) == MIB
    assert 4096 <= STREAMS["random"](files, rng) <= 32 * 4096
    assert MIB < STREAMS["mixed"](files, rng) <= MIB + MIB // (16384 * 8) * 4096
    files.remove()
    assert list(files.folder.iterdir()) == []


def test_a_seed_gives_the_same_operations(files: Files) -> None:
    twice = [
        [STREAMS["mixed"](files, rng) for _ in range(20)]
        for rng in (random.Random("1/0"), random.Random("1/0"))
    ]

    assert twice[0] == twice[1]


def row(way: str, stream: str, cost: float, repeat: int = 0, **more: Any) -> dict[str, Any]:
    """A phase of that cost: bytes as asked, the rest of it requests."""
    asked = 64 * MIB
    return {
        "way": way, "stream": stream, "repeat": repeat, "asked_bytes": asked, "seconds": 10.0,
        "read_bytes": asked, "read_requests": round((cost - 1) * asked / REQUEST), **more,
    }  # fmt: skip


def ours(stream: str, cost: float, *, counts: bool = True, before: str = "trusted") -> Any:
    return row("mlproxy", stream, cost, counts=counts, before=before, daemon_cpu_seconds=0.5)


FIXED = {4: {"a": 5.0, "b": 2.0}, 128: {"a": 2.5, "b": 3.0}, 1024: {"a": 2.0, "b": 6.0}}


def rows() -> list[dict[str, Any]]:
    fixed = [
        row("fixed", stream, cost, repeat, setting_kb=kb)
        for kb, by in FIXED.items()
        for stream, cost in by.items()
        for repeat in range(3)
    ]
    mine = [ours("a", 2.06), ours("a", 2.10), ours("b", 2.02), ours("b", 2.02)]
    learning = [ours(s, 3.0, counts=False, before="learning") for s in "ab"]
    return fixed + learning + mine


def test_ratios() -> None:
    summary = summarise(rows(), REQUEST)

    assert summary["best_fixed_kb"] == {"a": 1024, "b": 4}
    assert summary["worst_ratio_best_fixed_per_phase"] == pytest.approx(2.08 / 2, rel=1e-3)
    # 4: (2.5 + 1) / 2, 128: (1.25 + 1.5) / 2, 1024: (1 + 3) / 2
    assert summary["best_single_kb"] == 128
    assert summary["ratio_best_single_fixed"] == pytest.approx((1.04 + 1.01) / 2 / 1.375, rel=1e-3)
    assert summary["least_worst_ratio_of_any_fixed"] == pytest.approx(1.5, rel=1e-3)
    assert summary["worst_ratio_best_fixed_per_phase_cold"] == pytest.approx(
        (2.06 + 2.10 + 3.0) / 3 / 2, rel=1e-3
    )
    low, high = summary["worst_ratio_best_fixed_per_phase_interval"]
    assert low == pytest.approx(1.03, rel=1e-3)
    assert high == pytest.approx(1.05, rel=1e-3)
    assert (summary["phases"], summary["phases_begun_trusted"]) == (4, 4)
    assert summary["daemon_cpu_ratio"] == pytest.approx(0.05)


def test_the_page_is_made_from_rows(tmp_path: Path) -> None:
    document = {
        "bench": "readahead", "kernel": "6.12.1", "device": "nullb0", "rows": rows(),
        "plan": {"request_kb": 64, "phase_seconds": 60.0, "pause_seconds": 0.2,
                 "guard": "kernel", "repeats": 1,
                 "training": 1, "rounds": 2, "fixed_share": 0.15, "seed": 1},
    }  # fmt: skip
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(document))
    result = CliRunner().invoke(
        command, ["--rows", str(file), "--results", str(tmp_path / "results")]
    )

    assert result.exit_code == 0, result.output
    assert "1.040 [1.030, 1.050]" in result.output
    assert check(tmp_path / "results") == []
    page = (tmp_path / "results/readahead.md").read_text()
    assert "fixed 1024" in page


def test_without_a_device_nothing_is_touched() -> None:
    result = CliRunner().invoke(command, [])

    assert result.exit_code == 2
    assert "--device" in result.output
