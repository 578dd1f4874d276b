"""The store's C files by themselves, under ASan and UBSan; its SepBIT against the program."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mlproxy.proxy import eval_program
from mlproxy_lfs import policies
from mlproxy_lfs.engine import Feature, log16

NATIVE = Path(__file__).resolve().parents[1] / "native"

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("native_build", NATIVE / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build("store_fuzz", tmp_path_factory.mktemp("store") / "store_fuzz")


def run(driver, *arguments):
    done = subprocess.run(
        [driver, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_random_walks_find_nothing(driver):
    assert run(driver, 0, 1, 1200) == "1200 walks, no finding\n"


@pytest.mark.parametrize("start", [(1 << 32) - 20_000, (1 << 32) - 1, (1 << 32) + 77])
def test_a_run_does_not_depend_on_when_the_clock_began(driver, start):
    *stores, average = run(driver, "clock", 0).splitlines()
    *others, other_average = run(driver, "clock", start).splitlines()
    assert len(stores) == 10
    assert others == stores
    # Which writes are sampled depends on the clock, so averages differ, but not by much.
    assert abs(int(average) - int(other_average)) <= 16


@pytest.mark.parametrize("mean", [64, 1000, 50_000, 65_536])
def test_the_sepbit_program_decides_as_native_sepbit_does(driver, mean):
    rows = np.array(
        [list(map(int, line.split())) for line in run(driver, "place", mean).split("\n") if line]
    )
    stream, life, age, origin, log = rows.T
    programs = policies.sepbit(mean)
    features = np.zeros((len(rows), len(Feature)), np.int32)
    features[:, Feature.NEW] = life < 0
    features[:, Feature.LIFE] = log16(np.maximum(life, 0).tolist())
    features[:, Feature.AGE] = log16(age.tolist())
    features[:, Feature.ORIGIN] = origin
    for which in (policies.USER, policies.GC):
        mine = stream == which
        action = eval_program(programs[which], np.ascontiguousarray(features[mine]))
        chosen = (3 * which + action) % 6
        # A feature has 16 steps per power of two: within a threshold's own step both may differ.
        thresholds = [mean] if which == policies.USER else [4 * mean, 16 * mean]
        time = life[mine] if which == policies.USER else age[mine]
        step = np.isin(log16(np.maximum(time, 0).tolist()), log16(thresholds))
        assert (chosen == log[mine])[~step].all()
        assert step.mean() < 0.2
        assert len(set(chosen[~step])) == (2 if which == policies.USER else 4)
