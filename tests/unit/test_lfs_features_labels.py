"""What placement is shown, and what it is told afterwards; against brute force."""

import dataclasses
import math

import numpy as np
import pytest

from mlproxy.proxy import InProcessProxy, RecordType
from mlproxy_lfs import policies
from mlproxy_lfs.decisions import placement_config
from mlproxy_lfs.engine import Engine, Feature, Geometry, Placement, log16
from mlproxy_lfs.workloads import FILE, OP, Workload

CAPACITY = 512
GEOMETRY = Geometry(segments=64, segment_blocks=16)
CENSORED = 384
FILES = [(0, 0, 0, 300), (0, 1, 0, 60), (1, 1, 1, 152)]
"""tenant, dir, class, blocks; one after the other in 512 block numbers."""
FIRST = (0, 300, 360)


def made(seed=1, runs=1500):
    rng = np.random.default_rng(seed)
    ops = [(FIRST[f], f, FILES[f][3], 0) for f in range(3)]
    for _ in range(runs):
        f = int(rng.choice(3, p=(0.2, 0.6, 0.2)))
        count = int(rng.integers(1, 9))
        first = FIRST[f] + int(rng.integers(0, FILES[f][3] - count + 1))
        ops.append((first, f, count, int(rng.random() < 0.1)))
    table = np.array(ops, OP)
    writes = int(table["count"][table["trim"] == 0].sum())
    return Workload("made", CAPACITY, writes, table, np.array(FILES, FILE), CAPACITY)


def run(workload, *, labels=None, sample_every=0, store=None, capacity=1 << 16):
    """Run to the end under a proxy that only watches; return its records in order."""
    config = dataclasses.replace(placement_config(CAPACITY, 1), sample_every=sample_every)
    proxy = InProcessProxy(config, capacity=capacity)
    proxy.start(0)
    engine = Engine(workload)
    engine.add_store(GEOMETRY, **(store or {"placement": Placement.PROXY}))
    engine.connect(proxy)
    if labels:
        engine.set_labels(**labels)
    engine.run(workload.writes)
    assert engine.check(0) == 0
    records = np.concatenate(proxy.peek())
    assert proxy.snapshot(engine.clock).ring_lost == 0
    return engine, records


def kind(records, which, stream):
    return records[(records["type"] == which) & (records["stream"] == stream)]


@pytest.fixture(scope="module")
def workload():
    return made()


@pytest.fixture(scope="module")
def samples(workload):
    return run(workload, sample_every=1)[1]


def expected_writes(workload):
    """(block, file, run length, last life or None, lives so far) of each write."""
    born, lives, out, clock = {}, {}, [], 0
    for block0, file, count, trim in workload.ops.tolist():
        for block in range(block0, block0 + count):
            if trim:
                born.pop(block, None)
                lives.pop(block, None)
                continue
            life = clock - born[block] if block in born else None
            if life is not None:
                lives.setdefault(block, []).append(life)
            out.append((block, file, count, life, list(lives.get(block, []))))
            born[block] = clock
            clock += 1
    return out


class TestUserFeatures:
    @pytest.fixture
    def rows(self, samples):
        return kind(samples, RecordType.SAMPLE, policies.USER)["features"]

    def test_life_run_size_and_new(self, workload, rows):
        writes = expected_writes(workload)
        assert len(rows) == len(writes) == workload.writes
        assert rows[:, Feature.RUN].tolist() == log16([w[2] for w in writes])
        assert rows[:, Feature.SIZE].tolist() == log16([FILES[w[1]][3] for w in writes])
        assert rows[:, Feature.NEW].tolist() == [int(w[3] is None) for w in writes]
        assert not rows[:, [Feature.AGE, Feature.ORIGIN]].any()
        known = [i for i, w in enumerate(writes) if w[3] is not None]
        assert len(known) > 3000
        assert rows[known, Feature.LIFE].tolist() == log16([writes[i][3] for i in known])

    def test_what_a_new_block_does_not_have_is_taken_from_its_class(self, rows):
        new = rows[:, Feature.NEW] == 1
        assert CAPACITY < new.sum() < len(rows) / 2
        for feature in (Feature.LIFE, Feature.BLOCK_AVG):
            assert (rows[new, feature] == rows[new, Feature.CLASS_AVG]).all()

    def test_everything_starts_from_the_capacity(self, rows):
        usual = log16([CAPACITY])[0]
        for feature in (Feature.CLASS_AVG, Feature.TENANT_AVG, Feature.DIR_AVG, Feature.FILE_AVG):
            assert abs(rows[0, feature] - usual) <= 1

    def test_a_blocks_average_follows_its_lives(self, workload, rows):
        errors = []
        for row, (_, _, _, life, lives) in zip(rows, expected_writes(workload), strict=True):
            if life is None:
                continue
            average = math.log2(lives[0] + 1)
            for later in lives[1:]:
                average += (math.log2(later + 1) - average) / 4
            errors.append(abs(row[Feature.BLOCK_AVG] / 16 - average))
        assert max(errors) < 0.4
        assert np.mean(errors) < 0.15

    def test_group_averages_tell_the_groups_apart(self, rows, workload):
        """The small file takes most writes: its blocks live short, and all groups learn it."""
        late = slice(len(rows) * 2 // 3, None)
        file = np.array([w[1] for w in expected_writes(workload)])[late]
        mean = {f: rows[late][file == f].mean(axis=0) for f in range(3)}
        assert mean[1][Feature.FILE_AVG] < mean[0][Feature.FILE_AVG] - 16
        assert mean[1][Feature.FILE_AVG] < mean[2][Feature.FILE_AVG] - 16
        assert (
            mean[0][[Feature.TENANT_AVG, Feature.CLASS_AVG]]
            == mean[1][[Feature.TENANT_AVG, Feature.CLASS_AVG]]
        ).all() or abs(mean[0][Feature.TENANT_AVG] - mean[1][Feature.TENANT_AVG]) < 2
        assert abs(mean[1][Feature.DIR_AVG] - mean[2][Feature.DIR_AVG]) < 2
        assert mean[2][Feature.CLASS_AVG] > mean[1][Feature.CLASS_AVG] + 16

    def test_young_averages_are_plain_means(self):
        """Until 128 blocks of a file have died its average is their mean, exactly enough."""
        ops = [(0, 0, 1, 0)]
        lives = [3, 1, 15, 7, 1, 63]
        for life in lives:
            ops += [(1, 1, 1, 0)] * (life - 1) + [(0, 0, 1, 0)]
        table = np.array(ops, OP)
        files = np.array([(0, 0, 0, 1), (1, 1, 1, 1)], FILE)
        small = Workload("lives", CAPACITY, len(table), table, files, 2)
        _, records = run(small, sample_every=1)
        rows = kind(records, RecordType.SAMPLE, policies.USER)["features"]
        averages = rows[table["file"] == 0][1:, Feature.FILE_AVG]
        means = np.cumsum(np.log2(np.array(lives) + 1)) / np.arange(1, len(lives) + 1)
        assert (np.abs(averages / 16 - means) < 0.2).all()


class TestRelocationFeatures:
    def test_age_and_origin(self, workload, samples):
        rows = kind(samples, RecordType.SAMPLE, policies.GC)
        assert len(rows) > 300
        assert set(rows["features"][:, Feature.ORIGIN]) == {6, 7}
        age = rows["features"][:, Feature.AGE]
        assert (age <= np.array(log16(rows["time"].tolist()))).all()
        # What was moved before is older than what comes from the users' log.
        origin = rows["features"][:, Feature.ORIGIN]
        assert np.median(age[origin == 7]) > np.median(age[origin == 6])
        assert not rows["features"][:, Feature.RUN].any()

    def test_the_same_run_samples_the_same(self, workload, samples):
        again = run(workload, sample_every=1)[1]
        assert (again == samples).all()


class TestLabels:
    HORIZON = 300

    def labels(self, workload, **changes):
        usual = {"user": 1, "gc": 0, "live": 0, "horizon": self.HORIZON}
        _, records = run(workload, labels=usual | changes)
        return records[records["type"] == RecordType.LABEL]

    def fates(self, workload):
        """Death clock or None of each write."""
        last, deaths, clock = {}, {}, 0
        for block0, _, count, trim in workload.ops.tolist():
            for block in range(block0, block0 + count):
                if block in last:
                    deaths[last.pop(block)] = clock
                if not trim:
                    last[block] = clock
                    clock += 1
        return [deaths.get(i) for i in range(clock)], clock

    def test_each_write_has_its_life_after_a_fixed_horizon(self, workload):
        labels = self.labels(workload)
        deaths, end = self.fates(workload)
        due = end // 256 * 256 - self.HORIZON
        assert len(labels) == due + 1
        censored = math.log2(self.HORIZON + 1) * 256 + CENSORED
        dead = 0
        for at, label in enumerate(labels):
            # Released no earlier than the horizon, and soon after it, whatever happened before.
            assert self.HORIZON <= label["time"] - at < self.HORIZON + 257
            if deaths[at] is not None and deaths[at] < label["time"]:
                dead += 1
                exact = 256 * math.log2(deaths[at] - at + 1)
                assert abs(label["cost"] - exact) < 24
            else:
                assert abs(label["cost"] - censored) < 24
        assert 0.2 * len(labels) < dead < 0.9 * len(labels)
        assert (labels["aux"] == 1).all()

    def test_labels_carry_the_features_of_their_time(self, workload, samples):
        labels = self.labels(workload)
        rows = kind(samples, RecordType.SAMPLE, policies.USER)["features"]
        exact = [Feature.LIFE, Feature.SIZE, Feature.RUN, Feature.NEW, Feature.AGE, Feature.ORIGIN]
        known = rows[: len(labels), Feature.NEW] == 0
        assert (labels["features"][known][:, exact] == rows[: len(labels)][known][:, exact]).all()

    @pytest.mark.parametrize("every", [3, 7, 20])
    def test_one_in_so_many_is_sampled(self, workload, every):
        few = len(self.labels(workload, user=every))
        assert few == pytest.approx(len(self.labels(workload)) / every, rel=0.15)

    def test_nothing_is_asked_for_nothing_comes(self, workload):
        assert len(self.labels(workload, user=0)) == 0

    def test_relocations_of_one_store_only(self, workload):
        moves = self.labels(workload, user=0, gc=1)
        assert len(moves) > 100
        assert set(moves["stream"]) == {policies.GC}
        assert (moves["features"][:, Feature.AGE] >= 0).all()
        assert set(moves["features"][:, Feature.ORIGIN]) <= {6, 7}
        assert len(self.labels(workload, user=0, gc=1, gc_store=-1)) == 0

    def test_blocks_drawn_at_random_stand_for_relocated_ones(self, workload):
        drawn = self.labels(workload, user=0, gc=1_000_000, live=5)
        deaths, end = self.fates(workload)
        assert len(drawn) == pytest.approx((end - self.HORIZON) / 5, rel=0.15)
        assert set(drawn["stream"]) == {policies.GC}
        assert not drawn["features"][:, Feature.ORIGIN].any()
        assert len(set(drawn["unit"].tolist())) > 200
        # Among blocks that live, the long-lived are more common than among writes.
        written = self.labels(workload)
        assert np.median(drawn["cost"]) > np.median(written["cost"])

    def test_survivors_and_the_dead_together_do_not_lean_to_the_short(self, workload):
        """With early release the first labels would all be short-lived; here they are not."""
        labels = self.labels(workload, horizon=150)
        first, last = labels["cost"][512:1500].mean(), labels["cost"][-1000:].mean()
        assert first == pytest.approx(last, rel=0.12)
