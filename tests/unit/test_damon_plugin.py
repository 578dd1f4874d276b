"""The plugin damon on a machine in a directory, with the real proxy and models."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from damon_world import NEVER, PAGES, PID, World

from mlproxy.errors import MlproxyError
from mlproxy.events.types import PluginEvent
from mlproxy.proxy import Mode, ProxyConfig
from mlproxy.subsystem import StepResult
from mlproxy_damon.options import PROXY, DamonOptions
from mlproxy_damon.subsystem import DamonSubsystem


@dataclass(frozen=True)
class Context:
    """A SubsystemContext whose proxy lives in the world's time."""

    world: World
    options: DamonOptions
    state_dir: str
    seed: int = 1
    overrides: dict[str, int] = field(default_factory=dict)

    def proxy_config(self, base: ProxyConfig) -> ProxyConfig:
        changes: dict[str, Any] = dict(self.overrides)
        return dataclasses.replace(base, **changes)

    @property
    def knob_proxy(self) -> Callable[..., Any]:
        return self.world.knob_proxy


class Running:
    def __init__(self, world: World, seed: int = 1, **options: Any) -> None:
        self.world = world
        self.subsystem = DamonSubsystem(root=str(world.root), clock=world.clock)
        self.results: list[StepResult] = []
        self.state = world.root / "state"
        self.state.mkdir(exist_ok=True)
        given = {"pid": PID, "work_file": str(world.work_file), **options}
        self.options = DamonOptions.model_validate(given)
        context = Context(world, self.options, str(self.state), seed)
        world.endings.append(self.subsystem.stop)
        try:
            self.proxies = self.subsystem.start(context)  # type: ignore[arg-type]
        except MlproxyError:
            self.subsystem.stop()
            raise

    def run(self, seconds: float) -> None:
        self.world.pass_time(seconds, self._step)

    def _step(self) -> None:
        self.results.append(self.subsystem.step())

    @property
    def mode(self) -> Mode:
        return self.proxies[0].snapshot(0).mode

    @property
    def told(self) -> list[str]:
        return [e.what for r in self.results for e in r.events if isinstance(e, PluginEvent)]

    @property
    def metrics(self) -> dict[str, float]:
        return dict(self.results[-1].metrics[PROXY])

    def stop(self) -> None:
        self.subsystem.stop()
        self.world.kernel(0.0)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., World]]:
    worlds = []

    def made(**more: Any) -> World:
        worlds.append(World(tmp_path / f"machine{len(worlds)}", **more))
        return worlds[-1]

    yield made
    for world in worlds:
        for ending in world.endings:
            ending()
        world.close()


def test_what_is_never_used_is_taken(make: Callable[..., World]) -> None:
    world = make()
    r = Running(world)
    r.run(9)
    assert world.resident() == 256 << 16  # the faults without it are counted first
    r.run(100)
    assert world.resident() < 0.4 * (256 << 16)
    # Now and then a block that is used at random rests for longer than an age.
    assert world.faults <= 4 * PAGES
    assert r.metrics["saved_bytes"] > 0.6 * (256 << 16)
    assert r.metrics["kdamond_cpu_ratio"] == pytest.approx(0.01, abs=0.01)
    r.stop()
    assert world.state_file.read_text().strip() == "off"
    assert (world.admin / "nr_kdamonds").read_text() == "0"
    assert int((world.scheme / "access_pattern/age/min").read_text()) == NEVER


def test_a_model_that_saves_is_trusted(make: Callable[..., World]) -> None:
    world = make(blocks=64)
    r = Running(world, epoch_seconds=2.0)
    for _ in range(40):
        r.run(20)
        if r.mode is Mode.TRUSTED:
            break
    assert r.mode is Mode.TRUSTED
    report = r.results[-1].models[PROXY]
    assert report["champion"]
    assert set(report["candidates"]) == {"linear", "table", "htr", "hatr"}


def test_what_comes_back_is_left_alone(make: Callable[..., World]) -> None:
    # A quarter is used all the time, half every 20 s in the mean: of that, at any age up to
    # a minute more comes back than is allowed. What is never used is taken all the same, as
    # soon as it is known that nothing comes back after such a rest.
    world = make(periods=((0.25, 0.3), (0.5, 20.0)))
    r = Running(world, refaults_percent_per_minute=1.0)
    r.run(220)
    allowed = 0.01 * 220 / 60 * 256 * PAGES
    assert world.refaults < allowed
    assert all(world.out[-64:])


def test_a_program_that_ends_comes_back_as_another(
    make: Callable[..., World], tmp_path: Path
) -> None:
    world = make()
    file = world.root / "program.pid"
    file.write_text(f"{PID}\n")
    r = Running(world, pid=None, pid_file="/program.pid")
    r.run(40)
    assert r.told == ["target-found"]
    world.end()
    r.run(3)
    assert r.told == ["target-found", "target-gone"]
    assert r.mode is Mode.EMERGENCY
    assert world.state_file.read_text().strip() == "off"
    world.begin()
    r.run(3)
    assert r.told[-1] == "target-found"
    assert r.mode is Mode.LEARNING
    # Nothing is known of it: the faults without a model are counted anew.
    assert world.resident() == 256 << 16


def test_our_kdamond_switched_off_by_somebody_is_an_operators_word(
    make: Callable[..., World],
) -> None:
    world = make()
    r = Running(world)
    r.run(30)
    world.state_file.write_text("off\n")
    r.run(5)
    assert "kdamond-stopped" in r.told
    snapshot = r.proxies[0].snapshot(0)
    assert (snapshot.mode, snapshot.operator_hold) == (Mode.EMERGENCY, True)
    assert world.state_file.read_text().strip() == "off"
    r.proxies[0].operator_emergency(False, 0)
    r.run(3)
    assert world.state_file.read_text().strip() == "on"
    assert r.mode is Mode.LEARNING


def test_a_foreign_value_is_left_alone(make: Callable[..., World]) -> None:
    world = make()
    r = Running(world)
    r.run(120)
    age = world.scheme / "access_pattern/age/min"
    age.write_text("77")
    r.run(4)
    assert r.mode is Mode.EMERGENCY
    assert age.read_text() == "77"


def test_somebody_elses_kdamond_is_not_touched(make: Callable[..., World]) -> None:
    world = make()
    (world.admin / "nr_kdamonds").write_text("1\n")
    before = {f: f.read_bytes() for f in world.admin.rglob("*") if f.is_file()}
    with pytest.raises(MlproxyError) as caught:
        Running(world)
    assert caught.value.code == "damon.foreign"
    assert {f: f.read_bytes() for f in world.admin.rglob("*") if f.is_file()} == before


@pytest.mark.parametrize("user", ["damon_reclaim", "damon_lru_sort", "damon_stat"])
def test_the_kernels_own_users_are_foreign_too(make: Callable[..., World], user: str) -> None:
    world = make()
    folder = world.root / "sys/module" / user / "parameters"
    folder.mkdir(parents=True)
    (folder / "enabled").write_text("Y\n")
    with pytest.raises(MlproxyError) as caught:
        Running(world)
    assert caught.value.code == "damon.foreign"
    assert user in str(caught.value)


def test_the_one_that_a_killed_daemon_left_is_known_again(make: Callable[..., World]) -> None:
    world = make()
    Running(world).run(1)
    world.proxy.close()
    (world.admin / "nr_kdamonds").write_text("1\n")
    again = Running(world)
    again.run(1)
    assert again.told == ["target-found"]
    # After a reboot the same number means nothing.
    again.stop()
    (world.admin / "nr_kdamonds").write_text("1\n")
    note = {"boot": "another", "inode": (world.admin / "0").stat().st_ino}
    (again.state / "kdamond.json").write_text(json.dumps(note))
    with pytest.raises(MlproxyError) as caught:
        Running(world)
    assert caught.value.code == "damon.foreign"


def test_a_kernel_without_it(make: Callable[..., World]) -> None:
    world = make()
    (world.admin / "nr_kdamonds").unlink()
    with pytest.raises(MlproxyError) as caught:
        Running(world)
    assert caught.value.code == "damon.unsupported"


def test_default_scheme_is_the_operators(make: Callable[..., World]) -> None:
    world = make()
    r = Running(world, default="scheme", default_min_age_seconds=20.0)
    assert (world.scheme / "access_pattern/age/min").read_text() == "40"  # aggregations of 0.5 s
    r.run(1)
    r.proxies[0].operator_emergency(True, 0)
    r.run(30)
    # The operator's scheme goes on without the model.
    assert world.resident() < 0.5 * (256 << 16)


def test_the_report_shows_it(make: Callable[..., World], tmp_path: Path) -> None:
    from click.testing import CliRunner

    from mlproxy_damon.report_command import report

    world = make()
    r = Running(world)
    r.run(60)
    r.stop()
    html, png = tmp_path / "page.html", tmp_path / "heat.png"
    arguments = [str(r.state / "records.jsonl"), "--html", str(html), "--png", str(png)]
    result = CliRunner().invoke(report, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    page = html.read_text()
    for words in ("Access heat map", "Memory over time", "Memory saved against faults"):
        assert words in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
