"""Parts of the plugin damon by themselves: reuse, account, ladder, ranges, regions, options."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from mlproxy_damon.budget import RESERVE, FaultBudget, Stretch
from mlproxy_damon.chooser import Chooser, Outcome
from mlproxy_damon.decision import Context, ladder, takeable
from mlproxy_damon.idle import IdleMap
from mlproxy_damon.kdamond import Monitoring
from mlproxy_damon.meter import adjusted
from mlproxy_damon.options import DamonOptions
from mlproxy_damon.processes import ProcessTable, finder, largest
from mlproxy_damon.records import RecordFile, read_records
from mlproxy_damon.regions import Picture, parse
from mlproxy_damon.reuse import BLOCK, PAGES, Resting, Reuse, ReuseCurve

# -- reuse ---------------------------------------------------------------------------


def look(share: list[float], idle: list[float], before: list[float], fresh: list[bool]) -> Resting:
    return Resting(np.array(share), np.array(idle), np.array(before), np.array(fresh))


def test_uses_after_a_rest_are_counted_by_age() -> None:
    curve = ReuseCurve([2.0, 8.0])
    assert all(math.isinf(one.rate) for one in curve.reuse())
    for _ in range(40):
        # A block that is used every 4 s, half of it; one that rests.
        curve.add(look([0.0, 0.0], [3.0, 50.0], [0.0, 46.0], [False, True]), 3.0)
        curve.add(look([0.5, 0.0], [0.0, 51.0], [3.0, 50.0], [False, True]), 1.0)
    two, eight = curve.reuse()
    assert two.rate == pytest.approx(PAGES * 0.5 / 4, rel=0.1)
    assert eight.rate == 0
    assert (two.unused, two.once) == (PAGES, PAGES)
    assert two.hazard < 0.001  # nothing of what was never used came into use
    assert two.back > eight.back == 0.5


def test_what_was_used_is_taken_to_come_back_until_rests_last() -> None:
    curve = ReuseCurve([8.0])
    blocks = 200
    resting = np.zeros(blocks, bool)
    assert curve.reuse()[0].back == 0.5
    for second in range(1, 60):
        idle = np.full(blocks, float(second))
        curve.add(Resting(np.zeros(blocks), idle, idle - 1, resting), 1.0)
    # Rests of four times the age, of 200 blocks: little of it will be used again.
    assert curve.reuse()[0].back < 0.1


def test_an_age_is_judged_when_rests_could_have_ended() -> None:
    curve = ReuseCurve([2.0, 16.0])
    for second in range(1, 30):
        curve.add(look([0.0], [float(second)], [second - 1.0], [True]), 1.0)
        known = [math.isfinite(one.rate) for one in curve.reuse()]
        # Five seconds, and half of the age, as weights that fade a little.
        assert known == [second >= 8, second >= 25]


# -- idle ----------------------------------------------------------------------------


def picture(*rows: tuple[int, int, int, int]) -> Picture:
    return Picture(0, np.array(rows, np.uint64))


def test_times_of_the_last_use_outlive_a_scheme_that_makes_ages_begin_anew() -> None:
    idle = IdleMap(0.5)
    whole = [(0, 4 * BLOCK)]
    idle.update(picture((0, 4 * BLOCK, 0, 20)), whole, 100.0, reclaimed=math.inf, samples=8)
    size, (five, twelve) = idle.sizes([5.0, 12.0])
    assert (size, five, twelve) == (4 * BLOCK, 4 * BLOCK, 0)
    # Ages of 0 without an access: a scheme that takes what rests for 5 s was applied.
    seen = idle.update(picture((0, 4 * BLOCK, 0, 0)), whole, 103.0, reclaimed=5.0, samples=8)
    assert idle.sizes([12.0])[1] == [4 * BLOCK]
    assert seen.share.tolist() == [0, 0, 0, 0]
    # The same while nothing that young was taken: it was used.
    seen = idle.update(picture((0, 4 * BLOCK, 0, 0)), whole, 106.0, reclaimed=60.0, samples=8)
    assert idle.sizes([5.0])[1] == [0]
    assert seen.share.tolist() == [1 / 8] * 4
    seen = idle.update(
        picture((0, BLOCK, 4, 0), (BLOCK, 4 * BLOCK, 0, 6)), whole, 109.0, reclaimed=60.0, samples=8
    )
    assert seen.share.tolist() == [0.5, 0, 0, 0]
    assert seen.fresh.tolist() == [False] * 4


# -- the account ---------------------------------------------------------------------


def stretch(**more: float) -> Stretch:
    given = {"seconds": 3.0, "work": 100.0, "faults": 0.0, "refaults": 0.0, "pages": 10_000.0}
    return Stretch(**(given | more))


def test_an_account_pays_for_what_comes_back_and_for_nothing_else() -> None:
    budget = FaultBudget(0.01, 0.0, 0.0)
    for _ in range(10):
        budget.baseline(stretch(faults=50))
    allowed = budget.headroom
    assert allowed == pytest.approx(10 * RESERVE * 0.01 * 50, rel=0.1)
    # The usual faults cost nothing; pages that had been taken and come back do.
    assert budget.add(stretch(faults=50))[0] == 0
    excess, _ = budget.add(stretch(faults=58, refaults=8))
    assert excess == 8
    assert budget.headroom == pytest.approx(allowed + 2 * RESERVE * 0.5 - 8, abs=0.5)
    # Read-ahead of swap brings back many pages at one fault.
    assert budget.add(stretch(faults=1, refaults=30))[0] == 1


def test_a_debt_is_charged_to_who_goes_on() -> None:
    budget = FaultBudget(0.0, 0.0, 0.2)
    budget.credit(1000, 10_000)
    assert budget.headroom == pytest.approx(RESERVE * 20)
    excess, _ = budget.add(stretch(faults=100, refaults=100))
    assert budget.headroom < 0
    assert budget.penalty(excess) == 1.0
    assert budget.penalty(0.0) == 0.0
    assert budget.spendable == budget.rate


# -- the ladder ----------------------------------------------------------------------

AGES = [4.0, 16.0]
RUNGS = ladder(AGES, 8 << 20, [0.25, 1.0])


class Predicts:
    """A learner whose champion is right: what is taken is out."""

    def __init__(self) -> None:
        self.strain: float = 0.0

    def predict(self, rows: list[dict[int, int]], stream: int = 0) -> list[float]:
        return [self.strain if stream else 4.0 - row[2] / 1000 for row in rows]


def context(**more: Any) -> Context:
    reuse = (Reuse(0.0, 20_000, 0, 1e-7, 0.5), Reuse(0.0, 20_000, 0, 1e-7, 0.5))
    given = {"whole": 25_000 << 12, "out": 0.0, "idle": (0.8, 0.8), "strain": 0.0,
             "reuse": reuse, "allowed": 1.0}  # fmt: skip
    return Context(**(given | more))


def chooser() -> Chooser:
    return Chooser(Predicts(), RUNGS, AGES, 3.0)  # type: ignore[arg-type]


def account(headroom: float) -> Any:
    return SimpleNamespace(headroom=headroom)


def test_nothing_is_taken_on_credit() -> None:
    assert chooser().choose(context(), account(-1.0)) == 0


def test_what_was_never_used_is_cheap_and_what_was_used_is_not() -> None:
    one = chooser()
    assert one.bill(context(), RUNGS[2]) < 1
    used = (Reuse(0.0, 0, 25_000, 1e-7, 0.5), Reuse(0.0, 0, 25_000, 1e-7, 0.5))
    assert one.bill(context(reuse=used), RUNGS[2]) > 1000
    assert one.choose(context(reuse=used), account(50.0)) == 0
    assert one.choose(context(), account(50.0)) > 0
    # What is out already is not taken again.
    assert takeable(context(out=0.8), RUNGS[2], AGES, 3.0) == 0


def test_an_age_of_which_nothing_is_known_is_left_alone() -> None:
    unknown = (Reuse(math.inf), Reuse(math.inf))
    assert chooser().choose(context(reuse=unknown), account(1e6)) == 0


def test_a_rung_that_broke_the_bound_is_left_alone_for_a_while() -> None:
    # A younger age takes more.
    one, now = chooser(), context(out=0.25, idle=(0.9, 0.3))
    for _ in range(8):
        choice = one.choose(now, account(1e4))
        one.learn(Outcome(choice, 1e6, 0.0, 5.0), now, debt=False)
        one.pass_window()
    eager = one.choose(now, account(1e4))
    assert RUNGS[eager].min_age == 4.0
    one.learn(Outcome(eager, 1e6, 500.0, 5.0), now, debt=True)
    assert RUNGS[one.choose(now, account(1e4))].min_age != 4.0
    for _ in range(30):
        one.pass_window()
    assert one.frontier < eager


# -- processes -----------------------------------------------------------------------

SMAPS = """\
00400000-00500000 r-xp 00000000 08:01 12 /usr/bin/server
Size:               1024 kB
Rss:                 512 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
7f0000000000-7f0004000000 rw-p 00000000 00:00 0
Size:              65536 kB
Rss:                   0 kB
Swap:              64000 kB
VmFlags: rd wr mr mw me ac
7f0004000000-7f0008000000 ---p 00000000 00:00 0
Size:              65536 kB
Rss:                   0 kB
Swap:                  0 kB
VmFlags: mr mw me
7f0008000000-7f0008100000 rw-p 00000000 00:00 0
Size:               1024 kB
Rss:                1024 kB
Swap:                  0 kB
VmFlags: rd wr mr mw me ac
7ffd00000000-7ffd00100000 r-xp 00000000 00:00 0 [vdso]
Size:               1024 kB
Rss:                1024 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me de
"""


def test_ranges_are_what_holds_memory(tmp_path: Path) -> None:
    folder = tmp_path / "proc/7"
    folder.mkdir(parents=True)
    (folder / "smaps").write_text(SMAPS)
    table = ProcessTable(str(tmp_path))
    assert table.ranges(7) == [
        (0x400000, 0x500000),
        (0x7F0000000000, 0x7F0004000000),
        (0x7F0008000000, 0x7F0008100000),
    ]
    assert table.ranges(8) == []
    many = "".join(
        f"{n << 28:x}-{(n << 28) + (1 << 20):x} rw-p 00000000 00:00 0\nRss: 1024 kB\nSwap: 0 kB\n"
        for n in range(1, 301)
    )
    (folder / "smaps").write_text(many)
    assert 1 <= len(table.ranges(7)) <= 64


def process(root: Path, pid: int, start: int, pages: int = 5000, comm: str = "server") -> None:
    folder = root / "proc" / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    fields = ["S", *["0"] * 40]
    fields[19], fields[21] = str(start), str(pages)
    (folder / "stat").write_text(f"{pid} ({comm}) {' '.join(fields)}\n")
    (folder / "comm").write_text(f"{comm}\n")
    (folder / "status").write_text("Name: x\nVmSwap:\t0 kB\n")


def test_a_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    process(tmp_path, 7, start=10)
    table = ProcessTable(str(tmp_path))
    by_pid, by_name = finder(table, pid=7), finder(table, process="server")
    assert by_pid.pids() == ([7], "")
    process(tmp_path, 7, start=99)
    assert by_pid.pids()[0] == []
    assert "has ended" in by_pid.pids()[1]
    assert by_name.pids()[0] == [7]
    assert "no process is named" in finder(table, process="other").pids()[1]


def test_the_largest_of_a_group_are_watched(tmp_path: Path) -> None:
    for pid in range(1, 41):
        process(tmp_path, pid, start=1, pages=100 * pid)
    table = ProcessTable(str(tmp_path))
    found = largest(table, range(1, 41), 1 << 20)
    assert [p.pid for p in found] == list(range(9, 41))
    assert [p.pid for p in largest(table, [1, 2], 1 << 40)] == [2]
    group = tmp_path / "sys/fs/cgroup/db"
    (group / "inner").mkdir(parents=True)
    (group / "cgroup.procs").write_text("1\n2\n")
    (group / "inner/cgroup.procs").write_text("3\n")
    where = finder(table, cgroup="/sys/fs/cgroup/db")
    assert where.pids() == ([1, 2, 3], "")
    for file in group.rglob("cgroup.procs"):
        file.unlink()
    (group / "inner").rmdir()
    group.rmdir()
    assert "no control group" in where.pids()[1]


# -- the rest ------------------------------------------------------------------------


def test_a_target_that_is_not_whole_is_left_out() -> None:
    line = b" k-9 [000] ..... 1.5: damon_aggregated: target_id=%d nr_regions=2 %d-%d: 1 0\n"
    assert [p.target for p in parse(line % (0, 0, 9) + line % (0, 9, 20) + line % (1, 0, 9))] == [0]


def test_monitoring_stays_within_its_bound() -> None:
    options = DamonOptions(pid=1)
    now = Monitoring("fvaddr", 60_000, 500_000, (200, 1000))
    for _ in range(20):
        now = adjusted(now, 0.5, options)
    assert (now.sample_us, now.regions) == (250_000, (200, 400))
    for _ in range(40):
        now = adjusted(now, 0.001, options)
    assert (now.sample_us, now.regions) == (60_000, (200, 1000))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"pid": 1, "process": "x"},
        {"operations": "paddr", "pid": 1},
        {"pid": 1, "min_age_seconds": [4.0, 2.0]},
        {"pid": 1, "sample_ms": [10, 20]},
        {"pid": 1, "aggregation_ms": 200},
        {"pid": 1, "regions": [50, 60]},
        {"pid": 1, "free_permil": [200, 300, 100]},
        {"pid": 1, "pages": "anon"},
        {"cgroup": "served"},
    ],
)
def test_options_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DamonOptions.model_validate(wrong)


def test_records_begin_anew_when_the_file_is_large(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "r.jsonl", 200)
    for number in range(10):
        file.write("window", number, filler="x" * 40)
    file.close()
    kept = [r["at"] for r in read_records(tmp_path / "r.jsonl")]
    assert kept[-1] == 9
    assert len(kept) < 4
    assert (tmp_path / "r.jsonl.1").exists()
    with (tmp_path / "r.jsonl").open("a") as text:
        text.write('{"kind": "win')  # cut off by a crash
    assert [r["at"] for r in read_records(tmp_path / "r.jsonl")] == kept
