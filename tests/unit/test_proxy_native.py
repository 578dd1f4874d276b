"""The core by itself, natively: unit cases and random API walks under ASan and UBSan."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[1] / "native"

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def load(name):
    spec = importlib.util.spec_from_file_location(f"native_{name}", NATIVE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    folder, built = tmp_path_factory.mktemp("native"), {}

    def get(name, *, sanitise=True):
        if name not in built:
            built[name] = load("build").build(name, folder / name, sanitise=sanitise)
        return built[name]

    return get


@pytest.fixture(scope="module")
def trust(driver):
    binary, run = driver("trust", sanitise=False), None
    import sys

    module_name = "native_trust"
    spec = importlib.util.spec_from_file_location(module_name, NATIVE / "trust.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[module_name]
    run = module.run

    return lambda *args, **kwargs: run(binary, *args, **kwargs)


def test_unit_cases(driver):
    done = subprocess.run([driver("unit")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_random_walks_over_the_api(driver):
    done = subprocess.run(
        [driver("fuzz_api"), "0", "1", "1000"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1000 walks, no finding\n"


def test_a_reader_beside_the_producer_never_sees_a_torn_record(driver):
    done = subprocess.run(
        [driver("ring"), "200000"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("noise", ["iid", "ar5", "ar", "lognormal"])
@pytest.mark.parametrize("source", ["gated", "partition"])
def test_a_model_that_is_no_better_is_promoted_in_at_most_alpha_of_the_runs(trust, source, noise):
    series = trust(source, noise, 0, windows=400, runs=1000)
    assert series.count == 1000
    assert series.promoted_percent <= 5.0


@pytest.mark.parametrize("source", ["gated", "partition"])
class TestTrust:
    def test_a_better_model_is_trusted_and_stays(self, trust, source):
        quiet = trust(source, "iid", 50_000, windows=1000, runs=50, spread=0.02)
        assert len(quiet.trusted) == 50
        assert max(quiet.trusted) <= 80
        assert quiet.modes == [3] * 50
        noisy = trust(source, "iid", 200_000, windows=1500, runs=50)
        assert len(noisy.trusted) == 50

    def test_a_worse_model_is_never_promoted(self, trust, source):
        for effect, spread in ((-30_000, 0.02), (-50_000, 0.2), (-500_000, 0.2)):
            series = trust(source, "iid", effect, windows=1000, runs=50, spread=spread)
            assert series.promoted == []

    def test_a_model_that_turns_bad_loses_trust_within_few_windows(self, trust, source):
        for turn, spread, most in (
            (-500_000, 0.02, 3),
            (-50_000, 0.02, 40),
            (-500_000, 0.05, 10),
        ):
            series = trust(source, "iid", 50_000, turn=turn, windows=1500, runs=50, spread=spread)
            assert len(series.trusted) == len(series.lost) == 50
            assert max(series.lost) <= most, (turn, spread)
