"""The bench's arithmetic and its page, without a file system."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlproxy.report.results import check
from mlproxy_nilfs.bench_command import command
from mlproxy_nilfs.bench_loads import LOADS, age
from mlproxy_nilfs.bench_runs import Plan
from mlproxy_nilfs.bench_summary import summarise

COPIED = {"timestamp": 40.0, "greedy": 30.0, "cost-benefit": 25.0, "mlproxy": 24.0}


def row(load: str, repeat: int, arm: str, copied: float) -> dict[str, Any]:
    more = {"mode": "trusted", "acting": "htr"} if arm == "mlproxy" else {}
    return {
        "load": load, "repeat": repeat, "arm": arm, "copied_per_segment": copied,
        "write_amplification": 1 + copied / 40, **more,
    }  # fmt: skip


def rows(**changes: float) -> list[dict[str, Any]]:
    rng = random.Random(3)
    found = []
    for load in ("zipf", "files"):
        for repeat in range(5):
            common = rng.uniform(0.9, 1.1)  # of a repeat's disk: cancels
            for arm, copied in (COPIED | changes).items():
                found.append(row(load, repeat, arm, copied * common))
    return found


def test_ratios_are_of_the_same_disk() -> None:
    summary = summarise(rows())

    assert summary["ratio_timestamp"] == pytest.approx(0.6)
    assert summary["ratio_timestamp_interval"] == pytest.approx([0.6, 0.6])
    assert summary["worst_ratio_best_human"] == pytest.approx(0.96)
    assert summary["best_human"] == {"zipf": "cost-benefit", "files": "cost-benefit"}
    assert summary["trusted_at_the_end"] == 10
    assert "nilfs_cleanerd_ratio_timestamp" not in summary


def test_the_worst_load_counts_and_the_better_human_is_each_loads_own() -> None:
    found = rows()
    for one in found:
        if one["load"] == "files" and one["arm"] == "greedy":
            one["copied_per_segment"] /= 2

    summary = summarise(found)

    assert summary["worst_ratio_best_human"] == pytest.approx(24 / 15)
    assert summary["best_human"] == {"zipf": "cost-benefit", "files": "greedy"}


def test_a_repeat_that_lacks_a_way_is_left_out_and_others_stand_beside() -> None:
    found = [r for r in rows() if (r["load"], r["repeat"], r["arm"]) != ("zipf", 4, "greedy")]
    found += [row(load, n, "nilfs_cleanerd", 41.0) for load in ("zipf", "files") for n in range(5)]

    summary = summarise(found)

    assert summary["loads"]["zipf"]["repeats"] == 4
    assert summary["nilfs_cleanerd_ratio_timestamp"] == pytest.approx(1.0, abs=0.1)
    assert summarise([])["loads"] == {}


def test_the_page_is_made_of_rows_put_together(tmp_path: Path) -> None:
    plan = {name: getattr(Plan("/dev/ram0"), name) for name in Plan.__dataclass_fields__}
    files = []
    for part in (0, 1):
        document = {
            "bench": "nilfs", "kernel": "6.12", "plan": plan | {"seed": part},
            "rows": [r for r in rows() if r["repeat"] % 2 == part],
        }  # fmt: skip
        files.append(tmp_path / f"{part}.json")
        files[-1].write_text(json.dumps(document))
    words = [part for file in files for part in ("--rows", str(file))]

    done = CliRunner().invoke(command, [*words, "--results", str(tmp_path / "out")])

    assert done.exit_code == 0, done.output
    assert check(tmp_path / "out") == []
    page = (tmp_path / "out/nilfs.md").read_text()
    assert "0.600 [0.600, 0.600]" in page
    with (tmp_path / "out/nilfs.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 40
    files[1].write_text(json.dumps({**json.loads(files[1].read_text()), "kernel": "7"}))
    assert CliRunner().invoke(command, words).exit_code == 2


def test_the_ager_writes_the_same_for_a_seed(tmp_path: Path) -> None:
    contents = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        calls: list[int] = []
        age(folder, 7, 2, 1, lambda calls=calls: calls.append(1))
        contents.append({p.name: p.read_bytes() for p in sorted(folder.iterdir())})
        assert calls
    assert contents[0] == contents[1]
    assert sum(map(len, contents[0].values())) == 2 << 20


def test_loads_and_ways_must_be_known() -> None:
    assert set(Plan("").loads) < set(LOADS)
    assert CliRunner().invoke(command, ["--loads", "zipf,none"]).exit_code == 2
    assert CliRunner().invoke(command, []).exit_code == 2
