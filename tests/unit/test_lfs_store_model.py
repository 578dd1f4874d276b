"""The C store against a slow model written from the description alone, write by write."""

import random

import numpy as np
import pytest

from mlproxy_lfs.engine import Engine, Geometry, Placement, StoreError, Victim
from mlproxy_lfs.workloads import FILE, OP, Workload

MASK = (1 << 64) - 1
NEVER = (1 << 32) - 1
FREE, OPEN, FULL = range(3)


def mix64(x):
    x &= MASK
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


class Full(Exception):
    pass


class Segment:
    def __init__(self):
        self.state = FREE

    def begin(self, log, clock):
        self.state, self.log, self.blocks, self.mtime = OPEN, log, [], 0
        self.opened = self.last_invalid = clock
        self.closed = None

    @property
    def valid(self):
        return sum(b is not None for b in self.blocks)


class Model:
    """One store; blocks are numbers, times are clocks given from outside."""

    def __init__(self, geometry, capacity, placement, victim):
        self.size, self.reserve = geometry.segment_blocks, geometry.reserve
        self.patience = capacity // 16
        self.placement, self.victim = placement, victim
        self.segments = [Segment() for _ in range(geometry.segments)]
        self.free = list(reversed(range(geometry.segments)))
        self.open = {}
        self.used = dict.fromkeys(range(8), 0)
        self.where = {}
        self.born = {}
        self.user = self.moved = self.cleaned = 0
        self.lives, self.mean_life = [], NEVER

    # -- placement ---------------------------------------------------------------

    def user_log(self, life):
        if self.placement is Placement.SEPBIT:
            return 0 if life < self.mean_life else 1
        return 0 if self.placement is Placement.ONE_LOG else 6

    def gc_log(self, origin, age):
        if self.placement is Placement.SEPBIT:
            if origin == 0:
                return 2
            return 3 if age < 4 * self.mean_life else 4 if age < 16 * self.mean_life else 5
        return 0 if self.placement is Placement.ONE_LOG else 7

    def append(self, log, block, time, clock):
        if log not in self.open:
            idle = [o for o in sorted(self.open) if clock - self.used[o] > self.patience]
            if idle:
                self.open[log] = self.open.pop(idle[0])
                self.segments[self.open[log]].log = log
            elif self.free:
                self.open[log] = self.free.pop()
                self.segments[self.open[log]].begin(log, clock)
            else:
                raise Full
        self.used[log] = clock
        at = self.open[log]
        segment = self.segments[at]
        valid = segment.valid
        segment.mtime = (segment.mtime * valid + time) // (valid + 1)
        self.where[block] = (at, len(segment.blocks))
        segment.blocks.append(block)
        if len(segment.blocks) == self.size:
            segment.state, segment.closed = FULL, clock
            del self.open[log]

    # -- cleaning ----------------------------------------------------------------

    def pick(self, clock):
        full = [(i, s) for i, s in enumerate(self.segments) if s.state == FULL]
        if not full:
            return None
        victim = self.victim
        if victim is Victim.F2FS_MIX:
            victim = Victim.F2FS_CB if self.cleaned % 2 else Victim.GREEDY
        if victim is Victim.GREEDY:
            return min(full, key=lambda p: p[1].valid)[0]
        if victim is Victim.F2FS_CB:
            low, high = min(s.mtime for _, s in full), max(s.mtime for _, s in full)

            def gain(pair):
                u = 100.0 * pair[1].valid / self.size
                age = 100.0 - 100.0 * (pair[1].mtime - low) / (high - low) if high > low else 0
                return 100.0 * (100.0 - u) * age / (100.0 + u) + (100.0 - u) * 1e-6

            return max(full, key=gain)[0]

        def score(pair):
            u = pair[1].valid / self.size
            since = pair[1].last_invalid if victim is Victim.LAST_INVALID else pair[1].closed
            return (1.0 - u) * (clock - since + 1.0) / (2.0 * u)

        return max(full, key=score)[0]

    def release(self, at, clock):
        segment = self.segments[at]
        if segment.log == 0:
            self.lives.append(clock - segment.opened)
            if len(self.lives) == 16:
                self.mean_life, self.lives = sum(self.lives) // 16, []
        segment.state = FREE
        self.free.append(at)
        self.cleaned += 1

    def clean(self, clock):
        at = self.pick(clock)
        if at is None or self.segments[at].valid == self.size:
            return False
        segment = self.segments[at]
        for i, block in enumerate(segment.blocks):
            if block is None:
                continue
            log = self.gc_log(segment.log, clock - self.born[block])
            segment.blocks[i] = None
            self.append(log, block, segment.mtime, clock)
            self.moved += 1
        self.release(at, clock)
        return True

    # -- what the engine calls ------------------------------------------------------

    def write(self, block, life, clock):
        log = self.user_log(life)
        self.born[block] = clock
        if log not in self.open:
            while len(self.free) < len(self.open) + 1 + self.reserve:
                if not self.clean(clock):
                    if not self.free:
                        raise Full
                    break
        self.append(log, block, clock, clock)
        self.user += 1

    def die(self, block, clock):
        at, i = self.where.pop(block)
        segment = self.segments[at]
        valid = segment.valid
        segment.mtime = (segment.mtime * valid + clock) // (valid + 1)
        segment.blocks[i] = None
        segment.last_invalid = clock
        if valid == 1 and segment.state == FULL:
            self.release(at, clock)


def workload(ops, nr_blocks, capacity=None):
    table = np.array(ops, OP)
    files = np.zeros(1, FILE)
    writes = int(table["count"][table["trim"] == 0].sum())
    return Workload("made", capacity or nr_blocks, writes, table, files, nr_blocks)


def random_ops(rng, nr_blocks, writes, trims):
    ops = [(0, 0, nr_blocks, 0)]
    hot = max(1, nr_blocks // 8)
    while writes > 0:
        count = rng.choice((1, 1, 2, 7))
        area = hot if rng.random() < 0.7 else nr_blocks
        first = rng.randrange(max(1, area - count + 1))
        count = min(count, nr_blocks - first)
        trim = rng.random() < trims
        ops.append((first, 0, count, int(trim)))
        writes -= 0 if trim else count
    return ops


def follow(
    ops, nr_blocks, geometry, placement, victim, *, share=1, slice_=0, seed=1, capacity=None
):
    """Run both side by side; compare all counters and check the invariants after every few ops."""
    made = workload(ops, nr_blocks, capacity)
    engine = Engine(made, seed=seed)
    store = engine.add_store(
        geometry, share=share, slice_=slice_, placement=placement, victim=victim
    )
    model = Model(geometry, made.capacity, placement, victim)
    mine = {b for b in range(nr_blocks) if mix64(b ^ mix64(seed)) % 64 % share == slice_}
    clock, written = 0, {}
    looks = 0
    for number, (first, _, count, trim) in enumerate(ops):
        for block in range(first, first + count):
            if trim:
                if written.pop(block, None) is not None and block in mine:
                    model.die(block, clock)
                continue
            life = clock - written[block] if block in written else NEVER
            if block in written and block in mine:
                model.die(block, clock)
            written[block] = clock
            if block in mine:
                model.write(block, life, clock)
            clock += 1
        # A trim is done with the next write, so look where one has just been.
        if number % 23 == 0 and number + 1 < len(ops) and not trim:
            engine.run(clock)
            compare(engine, store, model)
            looks += 1
    assert looks > 10
    engine.run(clock + 1)
    compare(engine, store, model)
    return engine, model


def compare(engine, store, model):
    stats = engine.stats(store)
    assert engine.check(store) == 0
    assert (stats.user, stats.moved, stats.cleaned) == (model.user, model.moved, model.cleaned)
    assert stats.free_segments == len(model.free)
    assert stats.open_logs == len(model.open)
    assert stats.valid == len(model.where)
    assert stats.sepbit_life == model.mean_life


@pytest.mark.parametrize("victim", list(Victim))
@pytest.mark.parametrize("placement", [Placement.TWO_LOGS, Placement.SEPBIT, Placement.ONE_LOG])
def test_counters_agree_write_by_write(placement, victim):
    rng = random.Random(f"{placement}{victim}")
    ops = random_ops(rng, 400, 2500, 0.1)
    _, model = follow(ops, 400, Geometry(48, 12), placement, victim)
    assert model.moved > 300


@pytest.mark.parametrize("seed", range(6))
def test_random_geometries_and_policies(seed):
    rng = random.Random(seed)
    size = rng.choice((1, 3, 8, 16))
    geometry = Geometry(rng.randrange(28, 60), size, reserve=rng.randrange(1, 5))
    nr_blocks = (geometry.segments - 16) * size
    ops = random_ops(rng, nr_blocks, 1500, rng.choice((0, 0.3)))
    placement = rng.choice((Placement.TWO_LOGS, Placement.SEPBIT))
    follow(ops, nr_blocks, geometry, placement, rng.choice(list(Victim)))


@pytest.mark.parametrize(("share", "slice_"), [(2, 1), (8, 0), (8, 5)])
def test_a_twin_sees_its_hashed_share(share, slice_):
    rng = random.Random(share + slice_)
    ops = random_ops(rng, 600, 4000, 0.1)
    geometry = Geometry(48, 32).shrunk(share)
    _, model = follow(
        ops, 600, geometry, Placement.TWO_LOGS, Victim.COST_BENEFIT, share=share, slice_=slice_
    )
    assert 0.5 / share < len(model.born) / 600 < 1.7 / share
    assert model.moved > 0


def test_nearly_full_still_agrees():
    """Six spare segments for two open logs, one to write and a reserve of three."""
    rng = random.Random(5)
    geometry = Geometry(32, 8)
    nr_blocks = (32 - 6) * 8
    _, model = follow(
        random_ops(rng, nr_blocks, 1200, 0), nr_blocks, geometry, Placement.TWO_LOGS, Victim.GREEDY
    )
    assert model.moved > 1.5 * model.user


def test_logs_left_idle_give_their_segments_back():
    """SepBIT opens six logs; once two are used, the others' half-full segments serve them."""
    nr_blocks, geometry = 400, Geometry(48, 12)
    ops = random_ops(random.Random(1), nr_blocks, 2000, 0)
    engine = Engine(workload(ops, nr_blocks, capacity=16 * 200))
    store = engine.add_store(geometry, placement=Placement.SEPBIT)
    engine.run(1800)
    before = engine.stats(store)
    assert before.open_logs >= 4
    engine.set_placement(store, Placement.TWO_LOGS)
    engine.run(2400)
    after = engine.stats(store)
    assert after.open_logs <= 2
    assert after.free_segments >= 3
    assert engine.check(store) == 0


def test_a_store_without_room_says_so_and_stays_at_its_end():
    geometry = Geometry(16, 8)
    made = workload([(0, 0, 128, 0), (0, 0, 100, 0)], 128)
    engine = Engine(made)
    engine.add_store(geometry)
    for _ in range(3):
        with pytest.raises(StoreError) as caught:
            engine.run(500)
        assert caught.value.code == "lfs.full"


def test_trimmed_blocks_are_not_moved_and_cost_nothing():
    geometry = Geometry(32, 8)
    ops = []
    for _ in range(10):
        ops += [(0, 0, 160, 0), (0, 0, 160, 1)]
    engine = Engine(workload([*ops, (0, 0, 1, 0)], 160))
    store = engine.add_store(geometry)
    engine.run(1601)
    stats = engine.stats(store)
    assert (stats.moved, stats.valid, stats.cleaned) == (0, 1, 200)
    assert engine.check(store) == 0


def test_rewinding_in_the_middle_of_an_operation_begins_at_its_first_block():
    engine = Engine(workload([(0, 0, 10, 0), (10, 0, 10, 0)], 20))
    store = engine.add_store(Geometry(32, 8))
    engine.run(14)
    engine.rewind()
    engine.run(24)
    assert engine.stats(store).valid == 14
    assert engine.check(store) == 0
