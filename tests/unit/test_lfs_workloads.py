"""Recorded and synthetic streams: there, within the store, the same for the same seed, skewed."""

import numpy as np
import pytest

from mlproxy.errors import TraceError
from mlproxy_lfs.engine import Engine, Geometry
from mlproxy_lfs.synthetic import SYNTHETIC, synthetic_blocks
from mlproxy_lfs.workloads import load_workload, workload_names

NAMES = workload_names()
LARGE = 120_000
SMALL = 4096


def live_peak(workload):
    """Most blocks that live at once."""
    live = np.zeros(workload.nr_blocks, bool)
    now = most = 0
    for first, _, count, trim in workload.ops.tolist():
        part = live[first : first + count]
        before = int(part.sum())
        part[:] = not trim
        now += (0 if trim else count) - before
        most = max(most, now)
    return most


def test_the_names_that_results_are_reported_under():
    assert set(NAMES["recorded"]) == {
        *("sqlite-wal", "sqlite-delete", "lsm", "git", "mail", "pip"),
        *("mix-office", "mix-server"),
    }
    assert set(NAMES["synthetic"]) == set(SYNTHETIC)
    assert len(NAMES["synthetic"]) >= 8


@pytest.mark.parametrize("name", NAMES["recorded"])
def test_recorded_streams_fit_and_write_what_was_asked_for(name):
    total = int(1.3 * LARGE)
    workload = load_workload(name, seed=1, capacity=LARGE, total=total)
    assert workload.writes == total
    assert 0.5 * LARGE < live_peak(workload) <= LARGE
    assert workload.ops["file"].max() < len(workload.files)
    ends = workload.ops["block"].astype(np.int64) + workload.ops["count"]
    assert ends.max() <= workload.nr_blocks
    assert {0, 1} >= set(workload.ops["trim"].tolist())
    assert workload.groups[0] >= 1


@pytest.mark.parametrize("name", ["sqlite-wal", "mail"])
def test_the_seed_decides_everything(name):
    one, same, other = (
        load_workload(name, seed=seed, capacity=LARGE, total=LARGE) for seed in (1, 1, 2)
    )
    assert (one.ops == same.ops).all()
    assert (one.files == same.files).all()
    assert len(one.ops) != len(other.ops) or (one.ops != other.ops).any()


@pytest.mark.parametrize("name", NAMES["synthetic"])
class TestSynthetic:
    def test_fills_the_store_then_writes_within_it(self, name):
        workload = load_workload(name, seed=1, capacity=SMALL, total=5 * SMALL)
        assert workload.writes == 5 * SMALL
        assert workload.ops["block"][:SMALL].tolist() == list(range(SMALL))
        assert workload.ops["block"].max() < SMALL == workload.nr_blocks
        assert set(workload.ops["count"]) == {1}
        assert not workload.ops["trim"].any()

    def test_the_seed_decides_everything(self, name):
        one, same, other = (
            synthetic_blocks(name, capacity=SMALL, total=3 * SMALL, seed=seed) for seed in (1, 1, 2)
        )
        assert (one == same).all()
        assert (one != other).any()

    def test_runs_on_a_store(self, name):
        geometry = Geometry(64, 64)
        workload = load_workload(
            name, seed=1, capacity=geometry.capacity, total=2 * geometry.capacity
        )
        engine = Engine(workload)
        store = engine.add_store(geometry)
        engine.run(workload.writes)
        assert engine.check(store) == 0
        assert engine.stats(store).valid == geometry.capacity


def shares(name, capacities=20):
    """Share of writes per block after the fill, most written first."""
    blocks = synthetic_blocks(name, capacity=SMALL, total=(capacities + 1) * SMALL, seed=1)[SMALL:]
    counts = np.sort(np.bincount(blocks, minlength=SMALL))[::-1]
    return counts / len(blocks), blocks


class TestSkew:
    def test_uniform(self):
        share, _ = shares("uniform")
        assert share[: SMALL // 10].sum() == pytest.approx(0.14, abs=0.02)
        assert share[-1] > 0

    @pytest.mark.parametrize("exponent", [0.8, 0.99, 1.2])
    def test_zipf(self, exponent):
        share, blocks = shares(f"zipf-{exponent:g}")
        ideal = np.arange(1, SMALL + 1) ** -exponent
        ideal /= ideal.sum()
        assert share[0] == pytest.approx(ideal[0], rel=0.05)
        for rank in (10, 100, 1000):
            assert share[:rank].sum() == pytest.approx(ideal[:rank].sum(), abs=0.02)
        # Scattered: hot blocks are not neighbours.
        hot = np.argsort(np.bincount(blocks))[-100:]
        assert hot.std() > SMALL / 6

    def test_hot_cold(self):
        share, _ = shares("hot-cold")
        assert share[: SMALL // 10].sum() == pytest.approx(0.9, abs=0.01)

    def test_the_hot_part_of_shifting_moves_through_the_device_in_two_capacities(self):
        _, blocks = shares("shifting", 6)
        for capacities in (0, 0.5, 1, 2, 3.5):
            now = blocks[int(capacities * SMALL) :][: SMALL // 20]
            begin = int(capacities / 2 * SMALL) % SMALL
            inside = (now - begin) % SMALL < SMALL // 10 + SMALL // 40
            assert inside.mean() > 0.88

    def test_mixed_has_a_log_a_skewed_and_a_cold_part(self):
        _, blocks = shares("mixed")
        log = blocks[blocks < SMALL // 4]
        assert len(log) / len(blocks) == pytest.approx(0.4, abs=0.01)
        assert set(np.diff(log) % (SMALL // 4)) == {1}
        cold = blocks >= SMALL // 4 + SMALL // 2
        assert cold.mean() == pytest.approx(0.15, abs=0.01)

    def test_diurnal_nights_rewrite_a_third_in_order(self):
        _, blocks = shares("diurnal", 4)
        at = np.arange(len(blocks)) % (SMALL // 2)
        night = blocks[at >= SMALL // 3]
        assert set(np.diff(night)) <= {1, 1 - SMALL // 3}
        assert night.min() >= SMALL - SMALL // 3
        assert blocks[at < SMALL // 3].max() < SMALL - SMALL // 3


def test_an_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(TraceError) as caught:
        load_workload("nope", seed=1, capacity=SMALL, total=SMALL)
    assert caught.value.code == "trace.workload"
    assert "zipf-0.99" in str(caught.value)


def test_a_store_that_is_too_small_for_a_recording_is_refused():
    with pytest.raises(TraceError) as caught:
        load_workload("mail", seed=1, capacity=100, total=1000)
    assert caught.value.code == "trace.does_not_fit"
