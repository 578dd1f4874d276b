"""The conformance suite: every bundled plugin passes it, and it finds what is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import ModuleType

import pytest
from pydantic import BaseModel, Field, create_model

from mlproxy import hookimpl
from mlproxy.plugin.discover import discover
from mlproxy.subsystem import SubsystemFactory
from mlproxy.testing import check_factory, check_plugin
from mlproxy.testing.check import check_registry
from mlproxy.testing.sample import RELEASE, DemoOptions, demo_factory


@pytest.fixture(autouse=True)
def _release() -> Iterator[None]:
    RELEASE.clear()
    yield
    RELEASE.set()


def test_every_bundled_plugin_conforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLPROXY_PLUGINS", raising=False)
    registry = discover(allow=["lfs", "readahead"])

    failed = [r for r in check_registry(registry) if not r.ok]

    assert failed == []
    assert registry.loaded() == ["lfs", "readahead"]


@pytest.mark.parametrize("default", [False, True])
def test_what_needs_an_option_must_not_run_by_itself(default: bool) -> None:
    options = create_model(
        "Needy", __base__=DemoOptions, device=(str, Field(description="which device"))
    )
    factory = dataclasses.replace(demo_factory(), options_model=options, enabled_by_default=default)

    results = check_plugin(plugin(factory))

    assert [r.ok for r in results] == [True, True, not default]
    assert "device must be set" in results[-1].check


def plugin(*factories: SubsystemFactory) -> ModuleType:
    module = ModuleType("plugin")

    @hookimpl
    def mlproxy_subsystems() -> list[SubsystemFactory]:
        return list(factories)

    vars(module)["mlproxy_subsystems"] = mlproxy_subsystems
    return module


def test_a_good_plugin_passes() -> None:
    results = check_plugin(plugin(demo_factory()))

    assert all(r.ok for r in results)
    assert len(results) == 10


def faulty(fault: str) -> SubsystemFactory:
    options = create_model(
        "Options",
        __base__=DemoOptions,
        fault=(str, Field(fault, description="which")),
        fault_step=(int, Field(1, description="when")),
    )
    return dataclasses.replace(demo_factory(), options_model=options)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("start-raise", "starts"),
        ("start-hang", "starts"),
        ("start-bad", "names agree with the factory"),
        ("step-raise", "steps"),
        ("step-sleep", "steps"),
        ("step-exit", "steps"),
        ("step-bad", "steps"),
        ("stop-raise", "stops"),
        ("stop-hang", "stops"),
        ("stop-forget", "emergency after stop"),
        ("now-raise", "time goes on"),
    ],
)
def test_every_fault_is_found(fault: str, check: str) -> None:
    results = list(check_factory(faulty(fault), start_seconds=0.3, step_seconds=0.3))

    failed = [r.check.removeprefix("demo: ") for r in results if not r.ok]
    assert check in failed


class Loose(BaseModel):
    """Ignores unknown keys and describes nothing."""

    steps: int = 0
    fault: str = ""
    fault_step: int = 1
    fault_lives: int = 0
    period_seconds: float = 0.01


def test_loose_options_and_undeclared_proxies_are_found() -> None:
    factory = dataclasses.replace(demo_factory(), options_model=Loose, proxies=("demo.other",))

    failed = [r.check.removeprefix("demo: ") for r in check_factory(factory) if not r.ok]

    assert failed == ["options are described", "names agree with the factory"]


def test_broken_hooks_are_found() -> None:
    module = ModuleType("plugin")

    @hookimpl
    def mlproxy_subsystemz() -> list[SubsystemFactory]:
        return []

    vars(module)["mlproxy_subsystemz"] = mlproxy_subsystemz
    results = check_plugin(module)

    assert [(r.check, r.ok) for r in results] == [("hooks", False)]
    assert "mlproxy_subsystemz" in results[0].message
