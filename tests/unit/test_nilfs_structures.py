"""NILFS2's structures: what is read from a disk, and what is made of it."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parent))
from nilfs_world import BLOCK, World, summary

from mlproxy.errors import MlproxyError
from mlproxy.testing import check_plugin
from mlproxy_nilfs import plugin
from mlproxy_nilfs.arms import scores
from mlproxy_nilfs.cleaner import refusal
from mlproxy_nilfs.options import NilfsOptions
from mlproxy_nilfs.pool import Blocks, Pool
from mlproxy_nilfs.summary import read_segment
from mlproxy_nilfs.tracker import Tracker
from mlproxy_nilfs.twin import Twin, TwinShape
from mlproxy_nilfs.volume import ACTIVE, DIRTY, ERROR, find_mount, parse_superblock


def superblock(**changes: int) -> bytes:
    values = {"magic": 0x3434, "log": 2, "segments": 255, "first": 1, "blocks": 64} | changes
    return struct.pack(
        "<IHHHHIIIQQQII", 2, 0, values["magic"], 280, 0, 0, 0, values["log"], values["segments"],
        1 << 26, values["first"], values["blocks"], 5,
    )  # fmt: skip


def test_a_superblock() -> None:
    shape = parse_superblock(superblock())

    assert (shape.block_bytes, shape.segments, shape.reserved_segments) == (4096, 255, 13)
    assert (shape.span(0), shape.span(3)) == ((1, 63), (192, 64))


@pytest.mark.parametrize("data", [b"", superblock()[:40], superblock(magic=0xEF53),
                                  superblock(segments=0), superblock(log=60)])  # fmt: skip
def test_what_is_no_superblock_is_refused(data: bytes) -> None:
    with pytest.raises(MlproxyError) as caught:
        parse_superblock(data)
    assert caught.value.code == "nilfs.superblock"


def test_the_mount_is_found_and_must_be_writable(tmp_path: Path) -> None:
    device = tmp_path / "disk"
    device.touch()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"{device} /mnt/a\\040b nilfs2 rw,nogc 0 0\n")

    assert find_mount(str(device), str(mounts)) == "/mnt/a b"
    for line in (f"{device} /m nilfs2 ro 0 0\n", f"{device} /m ext4 rw 0 0\n", ""):
        mounts.write_text(line)
        with pytest.raises(MlproxyError) as caught:
            find_mount(str(device), str(mounts))
        assert caught.value.code == "nilfs.not_mounted"


def read(data: bytes, written: int = 64) -> object:
    def blocks(block: int, count: int) -> bytes:
        return data[block * BLOCK : (block + count) * BLOCK].ljust(count * BLOCK, b"\0")

    return read_segment(blocks, 0, 64, written, BLOCK)


def test_a_segment_of_several_logs() -> None:
    # 70 words of 16 bytes do not fit a block of 1024: what follows begins in the next one.
    many = [(12, n, 100 + n) for n in range(40)]
    first = summary(7, [(12, many), (3, [(3, 5, 0)])], gc=False) + bytes(41 * BLOCK)
    second = summary(7, [(11, [(11, 1, 900)])], gc=True) + bytes(BLOCK)

    found = read(first + second)

    entries = found.entries
    assert (found.sequence, found.logs) == (7, 2)
    assert found.written == len(first + second) // BLOCK
    assert entries["offset"].tolist() == [*range(40), 5, 1]
    assert entries["vblocknr"].tolist() == [*range(100, 140), 0, 900]
    assert entries["gc"].tolist() == [False] * 41 + [True]


def test_a_segments_earlier_life_and_garbage_are_not_read() -> None:
    now = summary(7, [(11, [(11, 1, 900)])], gc=False) + bytes(BLOCK)
    before = summary(3, [(11, [(11, 2, 90)])], gc=False) + bytes(BLOCK)

    assert len(read(now + before).entries) == 1
    assert len(read(now + before, written=len(now) // BLOCK).entries) == 1
    rng = random.Random(1)
    for _ in range(300):
        broken = bytearray(now + before)
        for _ in range(3):
            broken[rng.randrange(len(now))] = rng.randrange(256)
        assert len(read(bytes(broken)).entries) <= 64
    assert read(rng.randbytes(64 * BLOCK)).sequence == 0


@pytest.fixture
def world() -> World:
    made = World()
    for ino in range(20, 40):
        made.write([(ino, n) for n in range(40)])
    return made


def test_the_tracker_knows_what_lives(world: World) -> None:
    tracker = Tracker(world)
    tracker.follow()
    rng = random.Random(2)
    for _ in range(60):
        world.write([(rng.randrange(20, 24), rng.randrange(40)) for _ in range(8)])
        tracker.follow()
    world.delete(30)
    tracker.refresh(tracker.pool.used)

    live = tracker.pool.live()
    assert tracker.pool.used
    for segment in tracker.pool.used:
        # Of what was overwritten in the segment that is open, it cannot know yet.
        assert abs(live[segment] - len(world._living(segment))) == 0


def test_the_tracker_follows_another_cleaner(world: World) -> None:
    tracker = Tracker(world)
    tracker.follow()
    victims = tracker.pool.used[:3]
    world.reclaim(victims)
    for ino in range(50, 60):
        world.time += 1
        world.write([(ino, n) for n in range(40)])
    tracker.follow()
    tracker.refresh(tracker.pool.used)

    live = tracker.pool.live()
    assert all(live[s] == len(world._living(s)) for s in tracker.pool.used)


def test_a_share_of_a_large_file_system_is_followed(world: World) -> None:
    whole, part = Tracker(world), Tracker(world, share=4)
    whole.follow()
    part.follow()

    assert 0.15 < part.pool.live().sum() / whole.pool.live().sum() < 0.35


def test_a_pool_says_where_blocks_live() -> None:
    blocks = Blocks()
    blocks.reserve(100)
    pool = Pool(4, 10, blocks)
    ids = np.arange(8)
    blocks.write(ids)
    pool.put(0, ids, copied=0.0)
    blocks.write(ids[:4])
    pool.put(1, ids[:4], copied=0.0)
    pool.kill(ids[7:])

    assert pool.live().tolist() == [3, 4, 0, 0]
    assert pool.living(0).tolist() == [4, 5, 6]
    assert scores("greedy", pool, pool.live())[0] > scores("greedy", pool, pool.live())[1]
    assert scores("timestamp", pool, pool.live())[0] > scores("timestamp", pool, pool.live())[1]
    assert pool.features().shape == (4, 7)
    assert (blocks.life[ids[1:4]] == 8).all()
    pool.free(0)
    assert pool.live().tolist() == [0, 4, 0, 0]


def test_a_twin_loses_nothing_and_cost_benefit_spares_what_is_cold() -> None:
    def copied(arm: str) -> float:
        blocks = Blocks()
        blocks.reserve(4000)
        twin = Twin(TwinShape(64, 32, 10, 4, 1), blocks, lambda p, v: scores(arm, p, v))
        rng = np.random.default_rng(1)
        for start in range(0, 1200, 30):
            ids = np.arange(start, start + 30)
            blocks.write(ids)
            twin.write(ids)
        for _ in range(1500):
            hot = rng.random(30) < 0.8
            ids = np.unique(np.where(hot, rng.integers(0, 60, 30), rng.integers(0, 600, 30)))
            rng.shuffle(ids)
            blocks.write(ids)
            twin.write(ids)
        assert twin.pool.live().sum() == 1200
        return twin.copied / twin.cleaned

    assert copied("cost-benefit") < 0.9 * copied("timestamp")
    assert copied("greedy") < copied("timestamp")


@pytest.mark.parametrize(
    ("segments", "why"),
    [
        ([0, 1], None),
        ([2], "current"),
        ([3], "free"),
        ([4], "bad"),
        ([5], "pinned"),
        ([6], "out-of-range"),
        ([-1], "out-of-range"),
        ([0, 0], "twice"),
        ([0, 3, 2], "free"),
    ],
)
def test_segments_that_must_not_be_cleaned(segments: list[int], why: str | None) -> None:
    flags = [DIRTY, DIRTY, DIRTY | ACTIVE, 0, DIRTY | ERROR, DIRTY]

    found = refusal(segments, flags, lambda segment: segment == 5)

    assert (found[1] if found else None) == why


def test_options() -> None:
    assert NilfsOptions(device="/dev/sda1").default == "timestamp"
    for wrong in (
        {"device": "sda1"},
        {"device": "/dev/sda1", "min_clean_percent": 30.0},
        {"device": "/dev/sda1", "poison_at": 1.0},
        {"device": "/dev/sda1", "default": "random"},
    ):
        with pytest.raises(ValidationError):
            NilfsOptions.model_validate(wrong)


def test_it_conforms() -> None:
    assert [r for r in check_plugin(plugin) if not r.ok] == []
