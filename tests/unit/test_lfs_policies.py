"""Hand-written policies as programs, and programs made wrong on purpose."""

import random

import numpy as np
import pytest

from mlproxy.proxy import Program, ProgramNode, check_program, eval_program
from mlproxy_lfs import policies
from mlproxy_lfs.engine import Feature, Victim, log16
from mlproxy_lfs.poison import Poison, poisoned, poisoned_victim

STREAMS = (policies.USER, policies.GC)
CAPACITY = 1 << 16


def rows(feature, values, **fixed):
    table = np.zeros((len(values), len(Feature)), np.int32)
    table[:, feature] = values
    for name, value in fixed.items():
        table[:, Feature[name]] = value
    return table


def random_rows(count=400):
    table = np.random.default_rng(1).integers(0, 400, (count, len(Feature)), dtype=np.int32)
    table[:, Feature.NEW] %= 2
    table[:, Feature.ORIGIN] %= 6
    return table


def every_program():
    for programs in (
        policies.sepbit(5000),
        policies.age_split(CAPACITY),
        policies.tenant_split(CAPACITY),
    ):
        yield from programs.values()
    yield from (policies.constant(s, 2) for s in STREAMS)


def test_all_are_valid_and_stay_in_the_logs():
    for program in every_program():
        check_program(program)
        assert program.nr_features == len(Feature)
        actions = eval_program(program, random_rows())
        assert ((actions >= 0) & (actions <= 5)).all()


@pytest.mark.parametrize(("feature", "make"), [(Feature.TENANT_AVG, policies.tenant_split)])
def test_tenant_split_has_three_classes_by_the_tenants_average(feature, make):
    short, long = log16([CAPACITY // 8, CAPACITY // 2])
    values = [0, short, short + 1, long, long + 1, 400]
    for program in make(CAPACITY).values():
        assert eval_program(program, rows(feature, values)).tolist() == [0, 0, 1, 1, 2, 2]
        others = random_rows()
        others[:, feature] = short + 1
        assert set(eval_program(program, others)) == {1}


def test_age_split_has_one_user_log_and_three_by_age():
    programs = policies.age_split(CAPACITY)
    young, old = log16([CAPACITY // 4, CAPACITY])
    assert set(eval_program(programs[policies.USER], random_rows())) == {0}
    ages = rows(Feature.AGE, [0, young, young + 1, old, old + 1])
    assert eval_program(programs[policies.GC], ages).tolist() == [0, 0, 1, 1, 2]


def test_sepbit_before_it_knows_a_lifespan_puts_all_known_blocks_together():
    user = policies.sepbit(CAPACITY)[policies.USER]
    assert eval_program(user, rows(Feature.LIFE, [0, 100, 255])).tolist() == [0, 0, 0]
    assert eval_program(user, rows(Feature.LIFE, [0, 100], NEW=1)).tolist() == [1, 1]


class TestPoison:
    def test_myopic_is_one_log_for_all(self):
        for program in every_program():
            wrong = poisoned(program, Poison.MYOPIC, random.Random(1))
            logs = {(3 * program.stream + int(a)) % 6 for a in eval_program(wrong, random_rows())}
            assert logs == {0}

    @pytest.mark.parametrize("make", [policies.age_split, policies.tenant_split])
    def test_inverted_puts_the_coldest_relocated_blocks_where_the_hottest_new_ones_go(self, make):
        programs = make(CAPACITY)
        wrong = poisoned(programs[policies.GC], Poison.INVERTED, random.Random(1))
        check_program(wrong)
        right = eval_program(programs[policies.GC], random_rows())
        assert set(right) == {0, 1, 2}
        logs = (3 + eval_program(wrong, random_rows())) % 6
        assert (logs == 2 - right).all()
        user = programs[policies.USER]
        assert poisoned(user, Poison.INVERTED, random.Random(1)) == user

    def test_inverted_classes_of_cuts_turn_round_too(self):
        nodes = (
            ProgramNode(0, 100, 1, 2),
            ProgramNode(-1, 10, confidence=1000),
            ProgramNode(-1, 90, confidence=1000),
        )
        program = Program(nodes, nr_features=len(Feature), cuts=(20, 50), stream=policies.GC)
        right = eval_program(program, random_rows())
        wrong = poisoned(program, Poison.INVERTED, random.Random(1))
        check_program(wrong)
        assert set(right) == {0, 2}
        assert ((3 + eval_program(wrong, random_rows())) % 6 == 2 - right).all()

    def test_shuffled_deals_neighbouring_lifetimes_out_to_three_logs(self):
        for stream, feature in ((policies.USER, Feature.LIFE), (policies.GC, Feature.AGE)):
            rows = np.zeros((300, len(Feature)), np.int32)
            rows[:, feature] = np.arange(300)
            program = poisoned(policies.constant(stream, 0), Poison.SHUFFLED, random.Random(1))
            check_program(program)
            logs = (3 * stream + eval_program(program, rows)) % 6
            assert np.bincount(logs, minlength=3).tolist() == pytest.approx([100] * 3, abs=8)
            assert (np.diff(logs) != 0).sum() > 60

    def test_random_draws_anew_each_time_but_the_seed_decides(self):
        program = policies.tenant_split(CAPACITY)[policies.USER]
        rng, again = random.Random(3), random.Random(3)
        drawn = [poisoned(program, Poison.RANDOM, rng) for _ in range(20)]
        assert drawn == [poisoned(program, Poison.RANDOM, again) for _ in range(20)]
        leaves = [tuple(n.value for n in p.nodes if n.feature < 0) for p in drawn]
        assert len(set(leaves)) > 10
        assert {v for values in leaves for v in values} == {0, 1, 2}

    @pytest.mark.parametrize("how", list(Poison))
    def test_whatever_is_poisoned_stays_a_valid_program_of_its_stream(self, how):
        sums = Program(
            (ProgramNode(-1, 3), ProgramNode(-1, 900)), roots=(0, 1), nr_features=11, cuts=(5,)
        )
        for program in (*every_program(), sums):
            wrong = poisoned(program, how, random.Random(1))
            check_program(wrong)
            assert wrong.stream == program.stream
            actions = eval_program(wrong, random_rows())
            assert ((actions >= 0) & (actions <= 5)).all()

    def test_victims(self):
        rng = random.Random(1)
        worst = Victim.LAST_INVALID
        assert poisoned_victim(Poison.MYOPIC, worst, rng) is Victim.GREEDY
        assert poisoned_victim(Poison.INVERTED, worst, rng) is worst
        assert {poisoned_victim(Poison.RANDOM, worst, rng) for _ in range(100)} == set(Victim)
