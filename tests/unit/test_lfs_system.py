"""The steered store on a small geometry: reproducible, gated, and safe from wrong models."""

import dataclasses

import pytest

from mlproxy.events.types import ModeEvent
from mlproxy.proxy import Mode
from mlproxy_lfs.decisions import (
    PLACEMENT,
    VICTIM,
    arbitration,
    placement_config,
    placement_recipes,
    placement_spec,
    victim_config,
)
from mlproxy_lfs.engine import Engine, Feature, Geometry, Placement, Victim
from mlproxy_lfs.poison import Poison
from mlproxy_lfs.system import LfsSystem, SystemOptions
from mlproxy_lfs.workloads import load_workload

SMALL = Geometry(segments=128, segment_blocks=32)
MEDIUM = Geometry(segments=1024, segment_blocks=64)


def system(name="zipf-0.99", capacities=4, geometry=SMALL, seed=1, **options):
    capacity = geometry.capacity
    workload = load_workload(name, seed=seed, capacity=capacity, total=int(capacities * capacity))
    return LfsSystem(workload, SystemOptions(geometry=geometry, **options), seed=seed)


def run(steered):
    windows, events = [], []
    while not steered.done:
        windows.append(steered.step())
        events += [e for e in steered.events if isinstance(e, ModeEvent)]
    assert steered.engine.check(steered.main) == 0
    return windows, events


def test_the_same_seed_gives_the_same_run_window_by_window():
    first, second = (system(labels=300, capacities=3) for _ in range(2))
    one, other = run(first), run(second)
    assert one == other
    assert len(one[0]) == 3 * 50 + 2
    different = run(system(labels=300, capacities=3, seed=2))
    assert different[0] != one[0]


def test_a_window_is_a_fiftieth_of_the_capacity_and_names_every_twin():
    steered = system(labels=300)
    windows = [steered.step() for _ in range(60)]
    length = SMALL.capacity // 50
    assert [w.at for w in windows] == [length * k for k in range(1, 61)]
    twins = {"default", "htr", "hatr", "linear", "sepbit", "tenant-split"}
    twins |= {"reference", "last_invalid", "f2fs_mix"}
    assert set(windows[0].twins) == twins
    # Nothing is cleaned while the store fills.
    assert all(w.main == 1.0 for w in windows[:45])
    assert max(w.main for w in windows) > 1.5
    assert set(windows[0].modes) == {PLACEMENT, VICTIM}


def test_the_main_store_is_left_to_the_default_until_the_twins_have_spoken():
    steered = system("hot-cold", 8, MEDIUM, labels=600)
    promoted, writes, evidence = None, 0, None
    while not steered.done:
        window = steered.step()
        by_model = steered.engine.stats(steered.main).user_by_arm[1]
        if by_model and promoted is None:
            # The gate was passed at the end of the window before.
            promoted = window.at
            assert evidence.pairs >= steered.placement.config.min_count
            assert evidence.saving_ppm >= steered.placement.config.min_effect
            assert evidence.lower_ppm > 0
            assert promoted > MEDIUM.capacity
        if promoted is None:
            assert window.modes[PLACEMENT] is Mode.LEARNING
        elif window.modes[PLACEMENT] is Mode.TRUSTED:
            assert by_model > writes
        writes, evidence = by_model, steered.placement.snapshot(steered.now).twin
    assert promoted is not None, "on a skewed stream some model wins on its twin"
    stats = steered.engine.stats(steered.main)
    assert stats.user_by_arm[1] > 0.2 * stats.user
    assert steered.engine.check(steered.main) == 0


def test_without_a_win_the_steered_store_is_the_default_store():
    """On uniform writes there is nothing to learn: not one block is placed otherwise."""
    steered = system("uniform", labels=300)
    windows, _ = run(steered)
    assert {w.modes[PLACEMENT] for w in windows} == {Mode.LEARNING}
    stats = steered.engine.stats(steered.main)
    assert stats.user_by_arm[1] == stats.moved_by_arm[1] == 0
    plain = Engine(steered.engine.workload)
    store = plain.add_store(SMALL)
    plain.run(steered.now)
    assert plain.stats(store) == stats


@pytest.mark.parametrize("poison", list(Poison))
def test_poisoned_from_the_start_never_leaves_learning(poison):
    steered = system(labels=300, capacities=5, poison=poison)
    windows, events = run(steered)
    for proxy in (PLACEMENT, VICTIM):
        assert {w.modes[proxy] for w in windows} <= {Mode.LEARNING, Mode.EMERGENCY}
    assert not [e for e in events if e.new in ("collaboration", "trusted")]
    assert steered.engine.stats(steered.main).user_by_arm[1] == 0


def test_poison_waits_for_its_time():
    capacity = SMALL.capacity
    honest, late = (
        system(labels=300, capacities=3, poison=p, poison_at=2.0) for p in (None, Poison.MYOPIC)
    )
    one, other = run(honest)[0], run(late)[0]
    early = [i for i, w in enumerate(one) if w.at < 2 * capacity]
    assert [one[i].twins for i in early] == [other[i].twins for i in early]
    assert one[-1].twins["sepbit"] != other[-1].twins["sepbit"]
    # One log for all: every candidate's twin does the same.
    same = {other[-1].twins[name] for name in ("htr", "hatr", "linear", "sepbit")}
    assert len(same) <= 4


@pytest.mark.parametrize("poison", list(Poison))
def test_turned_bad_while_trusted_it_is_out_within_a_quarter_of_the_capacity(poison):
    steered = system("hot-cold", 8, MEDIUM, labels=2000)
    while not steered.done and steered.placement.snapshot(steered.now).mode < Mode.TRUSTED:
        steered.step()
    flipped = steered.now
    steered.options = dataclasses.replace(steered.options, poison=poison)
    while steered.placement.snapshot(steered.now).mode is Mode.TRUSTED:
        assert steered.now <= flipped + MEDIUM.capacity // 4
        steered.step()
    last = [e for e in steered.events if isinstance(e, ModeEvent)][-1]
    assert (last.new, last.reason) == ("emergency", "rejects")


def test_overrides_reach_the_proxies():
    steered = system(overrides={PLACEMENT: {"min_count": 77}, VICTIM: {"spike_count": 9}})
    assert steered.placement.config.min_count == 77
    assert steered.victim.config.spike_count == 9
    usual = placement_config(SMALL.capacity, 1)
    assert dataclasses.replace(steered.placement.config, min_count=usual.min_count) == usual


def test_a_lost_model_falls_back_when_the_programs_expire():
    """Stop recommending: decisions fall back to the default, half a capacity later."""
    steered = system("hot-cold", 8, MEDIUM, labels=600)
    while not steered.done and steered.placement.snapshot(steered.now).mode < Mode.TRUSTED:
        steered.step()
    assert not steered.done
    deadline = steered.now + MEDIUM.capacity // 2
    while steered.now <= deadline:
        steered._until += steered._length
        steered.engine.run(steered._until)
        steered.placement.heartbeat(steered.now)
        steered.placement.tick(steered.now)
    before = steered.engine.stats(steered.main)
    steered.engine.run(steered.now + MEDIUM.capacity // 10)
    after = steered.engine.stats(steered.main)
    assert after.user > before.user
    assert after.user_by_arm[1] == before.user_by_arm[1]
    assert steered.engine.check(steered.main) == 0


class TestDecisions:
    def test_configurations_are_accepted_for_all_sizes(self):
        from mlproxy.proxy import InProcessProxy

        for capacity in (1000, 57_344, 1 << 26):
            for make in (placement_config, victim_config):
                config = make(capacity, 7)
                assert InProcessProxy(config).config == config
                assert config.twin_gate == 1

    def test_the_spec_has_the_stores_features_in_their_order(self):
        spec = placement_spec(57_344)
        assert [s.name for s in spec.streams] == ["user", "gc"]
        for stream in spec.streams:
            assert [f.name for f in stream.features] == [f.name.lower() for f in Feature]

    def test_recipes_and_arbitration(self):
        recipes, hand_written = placement_recipes(57_344, lambda: 1000)
        assert [r.name for r in recipes] == ["htr", "hatr", "linear", "bandit"]
        assert [p.name for p in hand_written] == ["sepbit", "tenant-split"]
        assert arbitration().switch_margin == 0.03
        assert placement_config(57_344, 1).max == 5
        assert victim_config(57_344, 1).max == max(Victim)
        assert Placement.PROXY in Placement
