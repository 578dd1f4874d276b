"""The conformance suite for plugins: what `mlproxy plugins check` runs.

A plugin's own tests can call `check_plugin(module)` and assert that every
result is ok.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from mlproxy.app.worker import Worker
from mlproxy.config.model import Section
from mlproxy.errors import ProxyError
from mlproxy.hooks import Hooks
from mlproxy.plugin.registry import PluginRecord, Registry
from mlproxy.proxy.types import Mode, Proxy
from mlproxy.subsystem import StepResult, Subsystem, SubsystemContext, SubsystemFactory

__all__ = ("CheckResult", "check_factory", "check_plugin", "check_registry")

STEPS = 3
_NEEDS = "a subsystem with options that must be set has enabled_by_default=False"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of one plugin."""

    plugin: str
    check: str
    ok: bool
    message: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the result, ready for JSON."""
        return {
            "plugin": self.plugin,
            "check": self.check,
            "ok": self.ok,
            "message": self.message,
        }


def check_registry(registry: Registry, name: str | None = None) -> list[CheckResult]:
    """Check the plugins of a registry (or only one of them)."""
    results: list[CheckResult] = []
    for record in registry.records:
        if name is None or record.name == name:
            results += _check_record(record, registry, asked=name is not None)
    return results


def _check_record(
    record: PluginRecord, registry: Registry, *, asked: bool
) -> Iterator[CheckResult]:
    if record.state == "denied":
        if asked:
            yield CheckResult(record.name, "may be loaded", False, "denied by the configuration")
        return
    if record.state == "quarantined":
        message = f"[{record.code}] {record.reason}"
        yield CheckResult(record.name, f"loads ({record.phase})", False, message)
        return
    yield CheckResult(record.name, "loads", True)
    for name in record.subsystems:
        yield from check_factory(registry.factories[name], plugin=record.name)


def check_plugin(module: ModuleType, *, name: str = "plugin") -> list[CheckResult]:
    """Check a plugin's module that need not be installed.

    Args:
        module: with functions decorated by `hookimpl`.
        name: for messages.

    Returns:
        Every check with its result; a failing one does not stop the others.
    """
    hooks = Hooks()
    try:
        hooks.register(name, module)
        factories = list(hooks.subsystems(name))
        hooks.models(name)
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises is a result here
        return [CheckResult(name, "hooks", False, f"{type(error).__name__}: {error}")]
    results = [CheckResult(name, "hooks", True)]
    for factory in factories:
        results += check_factory(factory, plugin=name)
    return results


class _Run:
    """One life of a subsystem, check by check."""

    def __init__(self, factory: SubsystemFactory, state_dir: str) -> None:
        self.factory = factory
        self.state_dir = state_dir
        self.subsystem: Subsystem | None = None
        self.proxies: Sequence[Proxy] = ()
        self.options: Any = None

    def _running(self) -> Subsystem:
        if self.subsystem is None:
            raise AssertionError("was not created")
        return self.subsystem

    def default_options(self) -> None:
        self.options = self.factory.options_model()

    def options_are_described(self) -> None:
        model = self.factory.options_model
        bare = [name for name, f in model.model_fields.items() if not f.description]
        if bare:
            raise AssertionError(f"no description for: {', '.join(bare)}")
        if model.model_config.get("extra") != "forbid":
            raise AssertionError(
                "a misspelt key would be ignored: derive the model from "
                f"mlproxy.config.model.{Section.__name__}, or set extra='forbid'"
            )

    def starts(self) -> None:
        self.subsystem = self.factory.create()
        context = SubsystemContext(self.factory.name, self.options, 1, self.state_dir)
        self.proxies = list(self.subsystem.start(context))

    def names(self) -> None:
        running = self._running()
        if running.name != self.factory.name:
            raise AssertionError(
                f"name is {running.name!r}, its factory says {self.factory.name!r}"
            )
        if not running.period_seconds > 0:
            raise AssertionError("period_seconds is not above 0")
        names = [p.config.name for p in self.proxies]
        if sorted(names) != sorted(self.factory.proxies):
            raise AssertionError(
                f"has proxies {names}, its factory declares {self.factory.proxies}"
            )

    def proxies_run(self) -> None:
        for name, mode in self._modes():
            if mode == Mode.EMERGENCY:
                raise AssertionError(f"{name} is in emergency right after start")

    def steps(self) -> None:
        running = self._running()
        for _ in range(STEPS):
            result = running.step()
            if not isinstance(result, StepResult):
                raise TypeError(f"step() returned {type(result).__name__}")
            foreign = {*result.metrics, *result.models} - {p.config.name for p in self.proxies}
            if foreign:
                raise AssertionError(f"reports on proxies that it does not have: {foreign}")
            if result.done:
                break

    def time_goes_on(self) -> None:
        for proxy in self.proxies:
            first, second = (self._running().now(proxy.config.name) for _ in range(2))
            if not 0 <= first <= second:
                raise AssertionError(f"now({proxy.config.name!r}) went from {first} to {second}")

    def stops(self) -> None:
        self._running().stop()

    def emergency_after_stop(self) -> None:
        for name, mode in self._modes():
            if mode != Mode.EMERGENCY:
                raise AssertionError(f"{name} is still in {mode.name.lower()} after stop()")

    def _modes(self) -> Iterator[tuple[str, Mode]]:
        for proxy in self.proxies:
            name = proxy.config.name
            try:
                mode = proxy.snapshot(self._running().now(name)).mode
            except ProxyError as error:
                if error.code != "proxy.closed":
                    raise
                mode = Mode.EMERGENCY  # the default acts: nobody holds it
            yield name, mode


def check_factory(
    factory: SubsystemFactory,
    *,
    plugin: str = "plugin",
    start_seconds: float = 30.0,
    step_seconds: float = 5.0,
) -> Iterator[CheckResult]:
    """Run a subsystem through its life with default options, in a directory of its own.

    Args:
        factory: what to check.
        plugin: for messages.
        start_seconds: deadline of start.
        step_seconds: deadline of every other call.
    """
    fields = factory.options_model.model_fields
    needed_options = [name for name, field in fields.items() if field.is_required()]
    if needed_options:
        # What it needs only its operator knows (a device, a process).
        said = f"{factory.name}: life (not tried: {', '.join(needed_options)} must be set)"
        described = f"{factory.name}: options are described"
        try:
            _Run(factory, "").options_are_described()
        except AssertionError as error:
            yield CheckResult(plugin, described, False, str(error))
        else:
            yield CheckResult(plugin, described, True)
        yield CheckResult(plugin, said, not factory.enabled_by_default, _NEEDS)
        return
    with tempfile.TemporaryDirectory(prefix="mlproxy-check-") as directory:
        run = _Run(factory, directory)
        checks: list[tuple[str, float, Callable[[], None], bool]] = [
            ("default options", step_seconds, run.default_options, True),
            ("options are described", step_seconds, run.options_are_described, False),
            ("starts", start_seconds, run.starts, True),
            ("names agree with the factory", step_seconds, run.names, False),
            ("proxies run after start", step_seconds, run.proxies_run, False),
            ("steps", step_seconds * STEPS, run.steps, True),
            ("time goes on", step_seconds, run.time_goes_on, False),
            ("stops", step_seconds, run.stops, True),
            ("emergency after stop", step_seconds, run.emergency_after_stop, False),
        ]
        worker = Worker(f"mlproxy-check-{factory.name}")
        failed = False
        try:
            for name, deadline, function, needed in checks:
                if failed and name not in ("stops", "emergency after stop"):
                    continue
                label = f"{factory.name}: {name}"
                try:
                    worker.call_sync(function, deadline)
                except TimeoutError:
                    yield CheckResult(plugin, label, False, f"did not return in {deadline:g} s")
                    return  # the thread is lost, nothing more can be asked
                except Exception as error:  # noqa: BLE001 - it is the result
                    yield CheckResult(plugin, label, False, f"{type(error).__name__}: {error}")
                    failed = failed or needed
                    if run.subsystem is None and name == "starts":
                        return
                else:
                    yield CheckResult(plugin, label, True)
        finally:
            worker.close()
