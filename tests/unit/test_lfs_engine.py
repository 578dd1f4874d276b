"""The engine: theory's orderings, twins, dithering, determinism, refused arguments."""

import dataclasses

import numpy as np
import pytest

from mlproxy.errors import MlproxyError, ProgramError
from mlproxy.proxy import InProcessProxy, Kind, Program, ProgramNode, ProxyConfig
from mlproxy_lfs import policies
from mlproxy_lfs.engine import Engine, Feature, Geometry, Placement, StoreError, Victim, log16
from mlproxy_lfs.workloads import load_workload

SMALL = Geometry(segments=256, segment_blocks=32)
RECORDED = Geometry(segments=512, segment_blocks=72)
"""Large enough for the recordings that are used here."""


def stream(name, capacities=6, seed=1, geometry=SMALL):
    capacity = geometry.capacity
    return load_workload(name, seed=seed, capacity=capacity, total=int(capacities * capacity))


def amplification(workload, *stores, geometry=SMALL, warm=2):
    """Blocks written per user block once the store is warm, for (placement, victim) pairs."""
    engine = Engine(workload)
    added = [engine.add_store(geometry, placement=p, victim=v) for p, v in stores]
    if any(p is Placement.CLAIRVOYANT for p, _ in stores):
        engine.set_future()
    engine.run(warm * geometry.capacity)
    before = [engine.stats(s) for s in added]
    engine.run(workload.writes)
    assert all(engine.check(s) == 0 for s in added)
    pairs = [engine.stats(s).since(b) for s, b in zip(added, before, strict=True)]
    return [1 + moved / user for user, moved in pairs]


class TestTheory:
    def test_uniform_greedy_is_near_the_known_value(self):
        """The share u still valid in a victim solves u = exp(-a (1 - u)).

        a is physical / logical space (Desnoyers 2012, "Analytic modeling of SSD write
        performance", for segments cleaned in the order of their writing, which large
        segments under greedy come close to); writes per user write are 1 / (1 - u). The
        reserve and the segment being filled are no spare space.
        """
        geometry = Geometry(segments=512, segment_blocks=256)
        (measured,) = amplification(
            stream("uniform", 5, geometry=geometry),
            (Placement.ONE_LOG, Victim.GREEDY),
            geometry=geometry,
        )
        a = (geometry.segments - geometry.reserve - 1) * geometry.segment_blocks / geometry.capacity
        u = 0.5
        for _ in range(2000):
            u = np.exp(-a * (1 - u))
        assert measured == pytest.approx(1 / (1 - u), rel=0.06)
        assert measured < 1 / (1 - u)

    @pytest.mark.parametrize("name", ["zipf-0.99", "zipf-1.2"])
    def test_the_more_is_known_the_less_is_moved(self, name):
        geometry = Geometry(segments=1024, segment_blocks=32)
        clairvoyant, sepbit, two_logs, one_log, greedy = amplification(
            stream(name, 6, geometry=geometry),
            (Placement.CLAIRVOYANT, Victim.COST_BENEFIT),
            (Placement.SEPBIT, Victim.COST_BENEFIT),
            (Placement.TWO_LOGS, Victim.COST_BENEFIT),
            (Placement.ONE_LOG, Victim.COST_BENEFIT),
            (Placement.TWO_LOGS, Victim.GREEDY),
            geometry=geometry,
        )
        assert clairvoyant < 0.95 * sepbit < sepbit < 0.95 * two_logs
        assert two_logs < one_log < greedy

    def test_nobody_gains_much_on_uniform_by_choosing_victims(self):
        costs = amplification(
            stream("uniform"),
            *((Placement.TWO_LOGS, v) for v in (Victim.GREEDY, Victim.COST_BENEFIT)),
        )
        assert costs[0] == pytest.approx(costs[1], rel=0.05)

    def test_more_spare_space_means_less_moving(self):
        costs = []
        for spare in (0.10, 0.125, 0.2):
            geometry = dataclasses.replace(SMALL, over_provisioning=spare)
            costs += amplification(
                stream("zipf-0.99", 5, geometry=geometry),
                (Placement.TWO_LOGS, Victim.COST_BENEFIT),
                geometry=geometry,
            )
        assert costs == sorted(costs, reverse=True)
        assert costs[0] > 1.2 * costs[2]


class TestTwins:
    def test_all_slices_together_see_every_write_once(self):
        workload = stream("zipf-0.99", 3)
        engine = Engine(workload)
        small = SMALL.shrunk(8)
        stores = [engine.add_store(small, share=8, slice_=k) for k in range(8)]
        engine.run(workload.writes)
        assert sum(engine.stats(s).user for s in stores) == workload.writes
        assert all(engine.check(s) == 0 for s in stores)

    def test_a_twin_ranks_sepbit_and_the_default_as_the_whole_store_does(self):
        geometry = Geometry(segments=512, segment_blocks=64)
        workload = stream("zipf-0.99", 6, geometry=geometry)
        engine = Engine(workload)
        pairs = []
        for share in (1, 4):
            pairs.append(
                [
                    engine.add_store(geometry.shrunk(share), share=share, placement=p)
                    for p in (Placement.TWO_LOGS, Placement.SEPBIT)
                ]
            )
        engine.run(2 * geometry.capacity)
        before = {s: engine.stats(s) for pair in pairs for s in pair}
        engine.run(workload.writes)
        cost = {s: (lambda u, m: 1 + m / u)(*engine.stats(s).since(b)) for s, b in before.items()}
        whole, twin = (cost[sepbit] / cost[default] for default, sepbit in pairs)
        assert whole < 0.97
        assert twin == pytest.approx(whole, abs=0.06)


def test_dither_changes_the_choices_but_not_the_cost():
    workload = stream("zipf-0.99", 6)
    engine = Engine(workload)
    plain, *dithered = [engine.add_store(SMALL) for _ in range(3)]
    for store in dithered:
        engine.set_dither(store, store)
    engine.run(workload.writes)
    moved = [engine.stats(s).moved for s in (plain, *dithered)]
    assert len(set(moved)) == 3
    assert max(moved) < 1.03 * min(moved)


def test_the_same_seed_gives_the_same_run_and_arms_add_up():
    runs = []
    for _ in range(2):
        engine = Engine(stream("mixed", 4), seed=5)
        stores = [
            engine.add_store(SMALL, placement=Placement.SEPBIT),
            engine.add_store(SMALL.shrunk(4), share=4, victim=Victim.F2FS_MIX),
        ]
        engine.run(engine.workload.writes)
        runs.append([engine.stats(s) for s in stores])
    assert runs[0] == runs[1]
    for stats in runs[0]:
        assert sum(stats.user_by_arm) == stats.user
        assert sum(stats.moved_by_arm) == stats.moved


def test_a_program_that_does_what_the_default_does_costs_the_same():
    workload = stream("zipf-0.99", 4)
    engine = Engine(workload)
    default = engine.add_store(SMALL)
    program = engine.add_store(SMALL, placement=Placement.PROGRAM)
    for which in (policies.USER, policies.GC):
        engine.set_program(program, policies.constant(which, 0))
    engine.run(workload.writes)
    assert engine.stats(default).moved == engine.stats(program).moved > 0


def test_a_run_in_pieces_is_the_same_run():
    stats = []
    for step in (10**9, 7777):
        engine = Engine(stream("mail", 2.5, geometry=RECORDED))
        store = engine.add_store(RECORDED)
        while not engine.done:
            engine.run(engine.clock + step)
        stats.append(engine.stats(store))
    assert stats[0] == stats[1]


def test_a_workload_can_begin_again():
    engine = Engine(stream("sqlite-wal", 2, geometry=RECORDED))
    store = engine.add_store(RECORDED)
    writes = engine.workload.writes
    for turn in (1, 2, 3):
        engine.run(turn * writes)
        assert engine.clock == turn * writes
        assert engine.done
        assert engine.check(store) == 0
        engine.rewind()


class TestRefused:
    @pytest.fixture
    def engine(self):
        engine = Engine(stream("uniform", 2))
        engine.add_store(SMALL)
        return engine

    @pytest.mark.parametrize(
        "arguments",
        [
            {"geometry": Geometry(0, 64)},
            {"geometry": Geometry(64, 0)},
            {"geometry": Geometry(64, 4).shrunk(8)},
            {"geometry": Geometry(-1, 64)},
            {"geometry": Geometry(1 << 20, 1 << 20)},
            {"geometry": Geometry(64, 64, reserve=64)},
            {"geometry": Geometry(64, 64, reserve=1 << 40)},
            {"share": 3},
            {"share": 0},
            {"share": 128},
            {"share": 8, "slice_": 8},
            {"slice_": -1},
            {"placement": 6},
            {"victim": 5},
            {"victim": -1},
            {"victim": 1 << 40},
        ],
    )
    def test_impossible_stores(self, engine, arguments):
        with pytest.raises(StoreError) as caught:
            engine.add_store(**{"geometry": SMALL} | arguments)
        assert caught.value.code == "lfs.store"
        assert engine.add_store(SMALL) == 1

    def test_too_many_stores_and_stores_that_come_late(self, engine):
        for _ in range(15):
            engine.add_store(SMALL)
        with pytest.raises(StoreError):
            engine.add_store(SMALL)
        late = Engine(engine.workload)
        late.run(10)
        with pytest.raises(StoreError):
            late.add_store(SMALL)

    @pytest.mark.parametrize("store", [-1, 1, 16, 1 << 40])
    @pytest.mark.parametrize(
        "call",
        [
            lambda e, s: e.stats(s),
            lambda e, s: e.check(s),
            lambda e, s: e.set_victim(s, Victim.GREEDY),
            lambda e, s: e.set_placement(s, Placement.SEPBIT),
            lambda e, s: e.set_dither(s, 1),
            lambda e, s: e.set_program(s, policies.constant(0, 0)),
        ],
    )
    def test_stores_that_are_not_there(self, engine, call, store):
        with pytest.raises(StoreError) as caught:
            call(engine, store)
        assert caught.value.code == "lfs.store"

    def test_policies_that_are_none(self, engine):
        for value in (-1, 5, 1 << 33):
            with pytest.raises(StoreError):
                engine.set_victim(0, value)
        for value in (-1, 6, 1 << 33):
            with pytest.raises(StoreError):
                engine.set_placement(0, value)
        for seed in (-1, 1 << 64):
            with pytest.raises(StoreError):
                engine.set_dither(0, seed)

    @pytest.mark.parametrize(
        "changes",
        [
            {"horizon": 0},
            {"horizon": (1 << 27) + 1},
            {"horizon": 1 << 63},
            {"user": -1},
            {"live": 1 << 32},
            {"gc_store": 1},
            {"gc_store": 99},
        ],
    )
    def test_impossible_labels(self, engine, changes):
        usual = {"user": 10, "gc": 10, "live": 10, "horizon": 100}
        with pytest.raises(StoreError) as caught:
            engine.set_labels(**usual | changes)
        assert caught.value.code == "lfs.labels"

    def test_programs_of_other_features_or_streams(self, engine):
        leaf = (ProgramNode(-1, 0),)
        for program in (Program(leaf, nr_features=12), Program(leaf, stream=2)):
            with pytest.raises(StoreError) as caught:
                engine.set_program(0, program)
            assert caught.value.code == "lfs.program"
        loop = Program((ProgramNode(0, 1, 0, 0),))
        with pytest.raises(ProgramError):
            engine.set_program(0, loop)

    def test_a_proxy_of_other_features_and_none_at_all(self, engine):
        config = ProxyConfig("x", Kind.PROGRAM, nr_features=12, nr_streams=2, max=5)
        with pytest.raises(StoreError) as caught:
            engine.connect(InProcessProxy(config))
        assert caught.value.code == "lfs.program"
        engine.set_placement(0, Placement.PROXY)
        with pytest.raises(StoreError) as caught:
            engine.run(10)
        assert caught.value.code == "lfs.program"

    def test_futures_of_impossible_logs(self, engine):
        for logs in (0, 9):
            with pytest.raises(StoreError):
                engine.set_future(logs)

    @pytest.mark.parametrize(
        ("field", "value"),
        [("block", 1 << 31), ("block", 7168), ("file", 1), ("count", (1 << 32) - 1)],
    )
    def test_operations_outside_of_the_workload(self, field, value):
        workload = stream("uniform", 1.2)
        ops = workload.ops.copy()
        ops[field][100] = value
        bad = dataclasses.replace(workload, ops=ops)
        engine = Engine(bad)
        engine.add_store(SMALL)
        with pytest.raises(StoreError) as caught:
            engine.run(1000)
        assert caught.value.code == "lfs.workload"
        if field != "file":
            with pytest.raises(StoreError) as caught:
                engine.set_future()
            assert caught.value.code == "lfs.workload"

    def test_workloads_that_are_none(self):
        workload = stream("uniform", 1.2)
        files = workload.files.copy()
        files["tenant"] = -1
        for changes in (
            {"files": files},
            {"files": files[:0]},
            {"nr_blocks": 0},
            {"capacity": 0},
            {"ops": workload.ops.view(np.uint32)},
            {"ops": workload.ops[::2]},
        ):
            with pytest.raises(StoreError) as caught:
                Engine(dataclasses.replace(workload, **changes))
            assert caught.value.code == "lfs.workload"

    def test_errors_are_the_projects_own(self):
        assert issubclass(StoreError, MlproxyError)
        with pytest.raises(StoreError):
            Geometry().shrunk(0)


def test_log16_is_monotone_and_exact_at_powers_of_two():
    values = log16([*range(5000), *(1 << k for k in range(13, 64)), (1 << 64) - 1])
    assert values == sorted(values)
    assert log16([(1 << k) - 1 for k in range(64)]) == [16 * k for k in range(64)]
    exact = 16 * np.log2(np.arange(1, 5001))
    assert ((exact - values[:5000] > -1e-9) & (exact - values[:5000] < 2.5)).all()


def test_every_feature_has_its_c_number():
    from mlproxy_lfs._store import lib

    assert {f.name: int(f) for f in Feature} == {
        f.name: getattr(lib, f"LFS_F_{f.name}") for f in Feature
    }
    assert [int(v) for v in Victim] == list(range(lib.LFS_VICTIM_NR))
    assert [int(p) for p in Placement] == list(range(lib.LFS_PLACE_NR))
