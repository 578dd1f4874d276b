"""The plugin readahead on a machine in a directory, with the real proxy and models."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parent))
from readahead_world import COSTS, World

from mlproxy.errors import MlproxyError
from mlproxy.learn import Learner
from mlproxy.proxy import Arm, KnobStatus, Mode, ProxyConfig
from mlproxy.subsystem import StepResult
from mlproxy_readahead import plugin
from mlproxy_readahead.chooser import HOPELESS, Chooser
from mlproxy_readahead.decision import (
    SPEC,
    context_of,
    cost_of,
    proxy_config,
    row_of,
)
from mlproxy_readahead.demand import Demand
from mlproxy_readahead.device import BlockDevice, Counters
from mlproxy_readahead.models import POLICY, CellTable, recipes
from mlproxy_readahead.options import PROXY, ReadaheadOptions
from mlproxy_readahead.subsystem import ReadaheadSubsystem
from mlproxy_readahead.window import Window

REQUEST = 64 * 1024


@dataclass(frozen=True)
class Context:
    """A SubsystemContext whose proxy lives in the world's time."""

    world: World
    options: ReadaheadOptions
    seed: int = 1
    overrides: dict[str, int] = field(default_factory=dict)

    def proxy_config(self, base: ProxyConfig) -> ProxyConfig:
        changes: dict[str, Any] = dict(self.overrides)
        return dataclasses.replace(base, **changes)

    @property
    def knob_proxy(self) -> Callable[..., Any]:
        return self.world.knob_proxy


class Running:
    def __init__(self, world: World, **overrides: int) -> None:
        self.world = world
        self.subsystem = ReadaheadSubsystem(root=str(world.root), clock=world.clock)
        self.results: list[StepResult] = []
        options = ReadaheadOptions(device="sda")
        self.proxies = self.subsystem.start(Context(world, options, 1, overrides))  # type: ignore[arg-type]

    def run(self, seconds: float, stream: str | None = None) -> None:
        if stream is not None:
            self.world.stream = stream
        self.world.pass_time(seconds, self._step)

    def _step(self) -> None:
        self.results.append(self.subsystem.step())

    @property
    def mode(self) -> Mode:
        return self.proxies[0].snapshot(0).mode

    @property
    def modes(self) -> list[tuple[str, str]]:
        return [(e.new, e.reason) for r in self.results for e in r.events if hasattr(e, "new")]

    def cost(self, seconds: float, stream: str) -> float:
        """What a stretch costs over what its best setting would have cost."""
        w = self.world
        before = w.asked, w.requests, w.read
        self.run(seconds, stream)
        asked, requests, read = w.asked - before[0], w.requests - before[1], w.read - before[2]
        best = min(r * REQUEST / (1 << 20) + b for r, b in COSTS[stream].values())
        return (read + REQUEST * requests) / asked / best


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    if made.proxy is not None:
        made.proxy.close()
    made.close()


def test_it_learns_what_each_kind_of_work_wants_and_is_trusted(world: World) -> None:
    # Half of the epochs from the start: what takes minutes otherwise.
    r = Running(world, share_learning=500_000)
    assert r.mode is Mode.LEARNING
    kinds = ("random", "sequential")
    for _ in range(6):
        if r.mode is Mode.TRUSTED:
            break
        for stream in kinds:
            r.run(20, stream)
    assert r.modes[:3] == [
        *(("learning", "start"), ("collaboration", "promoted"), ("trusted", "promoted"))
    ]

    costs = {}
    for stream in kinds:
        r.run(1, stream)  # belongs to what came before
        costs[stream] = r.cost(20, stream)
    assert max(costs.values()) < 1.2
    # No fixed setting does that.
    price = {s: {kb: q / 16 + b for kb, (q, b) in COSTS[s].items()} for s in kinds}
    fixed = [max(price[s][kb] / min(price[s].values()) for s in kinds) for kb in price["random"]]
    assert min(fixed) > 1.3
    report = r.results[-1].models[PROXY]
    assert report["champion"]
    assert set(report["candidates"]) == {"table", "htr", "hatr", "linear"}
    asked = r.results[-1].metrics[PROXY]["asked_bytes_total"]
    assert asked == pytest.approx(world.asked, rel=0.05)


def test_the_default_is_back_when_it_ends(world: World) -> None:
    r = Running(world, share_learning=1_000_000, share_collaboration=1_000_000,
                share_trusted=1_000_000)  # fmt: skip
    while world.setting() == 128:
        r.run(1)
    r.subsystem.stop()
    assert world.proxy is not None
    world.proxy.close()

    assert world.knob.read_text() == "128"


def test_a_value_of_somebody_else_is_left_alone(world: World) -> None:
    r = Running(world, share_learning=900_000, share_collaboration=900_000, share_trusted=900_000)
    r.run(5)
    world.knob.write_text("777")
    COSTS["sequential"][777] = COSTS["sequential"][1024]
    try:
        r.run(5)
        assert r.mode is Mode.EMERGENCY
        assert r.modes[-1] == ("emergency", "operator-override")
        assert world.knob.read_text() == "777"
        r.proxies[0].operator_emergency(False, 0)
        r.run(20)
        assert r.mode is not Mode.EMERGENCY
        r.subsystem.stop()
        r.proxies[0].close()
        # What the operator had written is the default now.
        assert world.knob.read_text() == "777"
    finally:
        del COSTS["sequential"][777]


def test_a_device_that_is_taken_away_is_told_of(world: World) -> None:
    r = Running(world)
    r.run(2)
    shutil.rmtree(world.root / "sys/block/sda")
    r.subsystem._device.close()  # the open files of a real one say ENODEV then
    with pytest.raises(MlproxyError) as error:
        r.subsystem.step()
    assert error.value.code == "readahead.device_gone"
    r.subsystem.stop()
    with pytest.raises(MlproxyError) as error:
        Running(world)
    assert error.value.code == "readahead.no_device"


def test_nothing_is_recommended_while_nothing_is_read(world: World) -> None:
    r = Running(world)
    for _ in range(100):
        world.now += 50_000_000
        r.subsystem.step()

    assert r.proxies[0].snapshot(0).accepted == 0


# -- device and options -------------------------------------------------------------


def test_a_partition_is_no_device(world: World) -> None:
    with pytest.raises(MlproxyError, match="name its device, sda") as error:
        BlockDevice("sda1", root=str(world.root))
    assert error.value.code == "readahead.no_device"


def test_a_device_knows_its_partitions_numbers(world: World) -> None:
    assert BlockDevice("sda", root=str(world.root)).numbers() == [(8, 0), (8, 1)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"device": "../sda"},
        {"device": "sda", "settings_kb": []},
        {"device": "sda", "settings_kb": [64, 16]},
        {"device": "sda", "settings_kb": [0, 16]},
        {"device": "sda", "epoch_seconds": 0.01},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReadaheadOptions.model_validate(options)


# -- the decision -------------------------------------------------------------------


def test_a_perfect_reader_costs_one_and_idle_read_ahead_more() -> None:
    demand = Demand(accesses=8, pages=32, runs=2)
    size = 32 * 4096

    assert cost_of(Counters(2, size), demand, REQUEST) == pytest.approx(1.0)
    assert cost_of(Counters(2, 2 * size), demand, REQUEST) == pytest.approx(1.5)
    assert cost_of(Counters(4, size), demand, REQUEST) == pytest.approx(1.5)
    assert cost_of(Counters(0, 0), demand, REQUEST) == 0


def test_rows_fit_the_spec() -> None:
    features = SPEC.streams[0].features
    for demand in (
        Demand(1, 0, 1, 1, 2.0),
        Demand(1000, 1000, 1000, 1000, 2000.0),
        Demand(10, 0, 80_000, 1, 800_000.0),
    ):
        for kb in (4, 128, 65_536):
            row = row_of(context_of(demand), kb)
            assert len(row) == len(features)
            assert all(f.low <= row[n] <= f.high * 2 for n, f in enumerate(features))


def test_the_proxy_is_one_that_a_knob_may_have() -> None:
    config = proxy_config(7, 5, 0.5)
    assert (config.nr_features, config.max, config.epoch) == (0, 4, 500_000_000)
    assert 0 < config.share_learning < config.share_collaboration < config.share_trusted


def status(writes: int = 0, *, applied: bool = False) -> KnobStatus:
    return KnobStatus(
        applied=applied, overridden=None, setting=0, writes=writes, restores=0, failures=0, since=0
    )


def test_a_window_with_a_change_inside_is_nobodys() -> None:
    window = Window(3, Counters(10, 1000), status(1, applied=True), 64)
    window.demand += Demand(1, 0, 2, 1, 0.0)
    outcome = window.close(Counters(15, 6000), status(1, applied=True))

    assert outcome is not None
    assert (outcome.arm, outcome.setting_kb, outcome.spent) == (Arm.MODEL, 64, Counters(5, 5000))
    assert window.close(Counters(15, 6000), status(2, applied=True)) is None
    idle = Window(3, Counters(0, 0), status(), 128).close(Counters(0, 0), status())
    assert idle is not None
    assert idle.arm is Arm.DEFAULT


# -- choosing -----------------------------------------------------------------------

SETTINGS = (4, 16, 64, 128, 256, 1024, 4096)


def trials(costs: dict[int, float]) -> list[int]:
    """What is tried in a context until all is known."""
    context = (100, 32, 0)
    chooser = Chooser(Learner(SPEC, recipes(), POLICY, seed=1), SETTINGS, 3, seed=1)
    tried = []
    while (index := chooser._untried(context)) is not None:
        tried.append(SETTINGS[index])
        chooser.learn(context, SETTINGS[index], costs[SETTINGS[index]])
    return tried


def test_tries_stop_where_it_gets_worse() -> None:
    rising = {kb: 1.5**n for n, kb in enumerate(SETTINGS)}
    assert trials(rising) == [128, 128, 256, 64, 64, 16, 16, 4, 4]
    assert trials({kb: 1 / cost for kb, cost in rising.items()}) == [
        *(128, 128, 256, 256, 1024, 1024, 4096, 4096, 64)
    ]


def test_a_flat_valley_is_tried_whole() -> None:
    assert set(trials(dict.fromkeys(SETTINGS, 1.0))) == set(SETTINGS)
    assert HOPELESS > 1


def test_a_table_forgets() -> None:
    table = CellTable()
    cell = table.cell(100, 32, 0)
    for _ in range(50):
        table.add(cell, 64, 4.0)
    for _ in range(50):
        table.add(cell, 64, 1.0)
    assert table.cost(cell, 64) == pytest.approx(1.0, abs=0.05)
    assert table.count(cell, 64) == 100
    assert table.cost(cell, 16) is None


# -- documents ----------------------------------------------------------------------

README = Path(plugin.__file__).with_name("README.md")


def test_the_readme_lists_every_option_with_its_default() -> None:
    text = README.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", text, re.MULTILINE))
    for name, info in ReadaheadOptions.model_fields.items():
        shown = "must be set" if info.is_required() else f"`{info.default!r}`"
        assert rows[name] == shown, name
        assert info.description in text


def test_the_readme_lists_every_error_and_every_file() -> None:
    text = README.read_text(encoding="utf-8")
    sources = {p.name: p.read_text(encoding="utf-8") for p in README.parent.glob("*.py")}
    raised = set(re.findall(r'"(readahead\.\w+)"', "".join(sources.values())))
    assert raised == set(re.findall(r"^\| `(readahead\.\w+)` \|", text, re.MULTILINE))
    files = {name for name in sources if not name.startswith(("bench_", "__init__"))}
    assert all(f"`{name}`" in text for name in files)
