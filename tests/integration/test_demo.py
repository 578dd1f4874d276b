"""`mlproxy demo`: real processes, a real broker, the real system on small stores."""

from __future__ import annotations

import json
import os
from functools import partial

import pytest
from click.testing import CliRunner

from mlproxy.app.stage import Listener, play
from mlproxy.cli.demo import command
from mlproxy.demo import Part
from mlproxy.errors import PluginError
from mlproxy.events.types import ModeEvent
from mlproxy.feed.config import FeedConfig
from mlproxy_lfs import demo as lfs_demo
from mlproxy_lfs.acts import Act, play_act
from mlproxy_lfs.options import LfsOptions


def small(workload, **options):
    sizes = {"segments": 192, "segment_blocks": 32, "twin_share": 4, "capacities": 2.0}
    return LfsOptions(**{"workload": workload, **sizes, **options})


def parts_of(**options):
    return [
        Part(name, name, partial(play_act, Act(one, 1)), ("lfs-placement",))
        for name, one in options.items()
    ]


def heard():
    lists = {"events": [], "steps": [], "ends": [], "brokers": []}
    listener = Listener(
        broker=lambda host, port: lists["brokers"].append((host, port)),
        event=lambda part, event: lists["events"].append((part, event)),
        progress=lambda part, done, note: lists["steps"].append((part, done)),
        ended=lists["ends"].append,
    )
    return lists, listener


async def test_every_event_comes_back_over_the_broker():
    lists, listener = heard()
    parts = parts_of(one=small("mixed"), two=small("uniform"))
    results, feed = await play(parts, FeedConfig(), listener)
    assert set(results) == {"one", "two"}
    assert feed.embedded
    assert feed.complete
    assert feed.emitted == len(lists["events"]) > 0
    assert feed.messages > feed.read, "states and metrics too"
    assert sorted(lists["ends"]) == ["one", "two"]
    done = [share for part, share in lists["steps"] if part == "one"]
    assert done == sorted(done)
    starts = [e for p, e in lists["events"] if p == "one" and isinstance(e, ModeEvent)]
    assert [e.reason for e in starts[:2]] == ["start", "start"]
    for result in results.values():
        assert set(result.whole) == {"mlproxy", "default", "sepbit"}
        assert result.whole["default"] > 1.0
        assert set(result.curves) >= {"mlproxy", "default", "twin htr"}


async def test_a_part_plays_the_same_again():
    runs = [await play(parts_of(one=small("mixed")), FeedConfig(), heard()[1]) for _ in range(2)]
    first, second = (results["one"] for results, _ in runs)
    assert first.whole == second.whole
    assert first.curves == second.curves


async def test_a_part_that_raises_ends_the_demo_with_a_code():
    parts = parts_of(bad=small("mix-office"), good=small("uniform"))
    with pytest.raises(PluginError) as caught:
        await play(parts, FeedConfig(), heard()[1])
    assert caught.value.code == "demo.failed"
    assert "bad" in str(caught.value)


def _die(stage):
    os._exit(9)


async def test_a_part_whose_process_dies_ends_the_demo_with_a_code():
    with pytest.raises(PluginError) as caught:
        await play([Part("dead", "dies", _die)], FeedConfig(), heard()[1])
    assert caught.value.code == "demo.failed"


@pytest.fixture
def small_acts(monkeypatch):
    acts = {
        "learn": small("mixed", capacities=3.0),
        "turncoat": small("uniform", capacities=6.0, poison="inverted", poison_at=5.0),
        "uniform": small("uniform"),
        "poisoned": small("mixed", poison="myopic"),
    }
    monkeypatch.setattr(lfs_demo, "acts", lambda quick: acts)
    monkeypatch.setenv("MLPROXY_PLUGINS", "lfs")


def test_the_command_tells_what_held_and_writes_one_self_contained_page(small_acts, tmp_path):
    out = tmp_path / "new" / "folder"
    result = CliRunner().invoke(
        command, ["--json", "--seed", "3", "--out", str(out)], standalone_mode=False
    )
    assert result.exception is None, result.output
    document = json.loads(result.stdout)
    held = [v["held"] for v in document["verdicts"]]
    assert document["held"] == all(held)
    assert result.return_value == (0 if all(held) else 1)
    assert document["seed"] == 3
    assert document["feed"]["complete"]
    assert document["parts"]["uniform"]["ratio_default"] == pytest.approx(1.0, abs=0.1)
    page = (out / "demo-report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    for verdict in document["verdicts"]:
        assert verdict["part"] in page
    assert "http" not in page.replace("http://www.w3.org", ""), "nothing from outside"
    assert "<script" not in page


def test_a_folder_that_cannot_be_made_is_a_coded_error(small_acts, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = ["--out", str(tmp_path / "file" / "below")]
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert getattr(result.exception, "code", "") == "demo.folder"
